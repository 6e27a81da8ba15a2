"""Threads of a long statement ask the kernel for long turns, and everything else for none; seen in the kernel, of a real engine. No time is judged."""
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.contract.gateway_server import ENDLESS, ROOT, Behind, Server, runs, wait_until

from weir.gateway.yielding import TURN_NS, Linux

pytestmark = pytest.mark.skipif(not Linux().able(), reason="this kernel knows no length of turns (Linux before 6.12)")

_NO_THREAD = 1 << 23  # above the most that Linux numbers


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("gateway"), "--give-way").start()
    yield server
    server.stop()


def _turns(server):
    """Return how long the turns of each of the gateway's threads are, by thread."""
    threads = [int(entry.name) for entry in Path(f"/proc/{server.process.pid}/task").iterdir()]
    return {thread: Linux().length_ns(thread) for thread in threads}


def _giving_way(server):
    return {thread for thread, length_ns in _turns(server).items() if length_ns == TURN_NS}


def _in_a_thread(does):
    """Run `does` in a thread of its own: what it asks of the kernel ends with it."""
    thread = threading.Thread(target=does)
    thread.start()
    thread.join()


def test_a_turn_that_was_asked_for_is_given_back_and_a_thread_that_is_not_there_is_no_error():
    scheduler, seen = Linux(), []

    def asks():
        mine = threading.get_native_id()
        for length_ns in (None, TURN_NS, 0):
            if length_ns is not None:
                scheduler.turn(mine, length_ns)
            seen.append((scheduler.length_ns(mine), os.getpriority(os.PRIO_PROCESS, mine), os.sched_getscheduler(mine) & ~os.SCHED_RESET_ON_FORK))

    _in_a_thread(asks)
    before, during, after = seen
    assert during == (TURN_NS, *before[1:])
    assert after == before
    assert before[0] < TURN_NS
    scheduler.turn(_NO_THREAD, TURN_NS)
    assert scheduler.length_ns(_NO_THREAD) == 0


def test_to_give_way_and_to_take_it_back_needs_no_right():
    code = "import os, sys; from weir.gateway.yielding import Linux; os.getuid() or os.setuid(65534); sys.exit(not Linux().able())"
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, check=False).returncode == 0


def test_a_thread_made_by_one_that_gives_way_is_as_others():
    scheduler, lengths = Linux(), []

    def makes():
        scheduler.turn(threading.get_native_id(), TURN_NS)
        _in_a_thread(lambda: lengths.append(scheduler.length_ns(threading.get_native_id())))

    _in_a_thread(makes)
    assert lengths == [scheduler.length_ns(threading.get_native_id())]


def test_the_engines_threads_of_a_long_statement_give_way_and_are_as_others_when_it_is_killed(server):
    assert server.health()["giving_way"] == 0
    long = Behind(server, ENDLESS, query_id="long", max_threads="2")
    assert wait_until(lambda: _giving_way(server))
    assert server.process.pid not in _giving_way(server)  # the event loop
    assert wait_until(lambda: server.health()["giving_way"] == len(_giving_way(server)) > 0)
    assert server.text("SELECT 1") == "1\n"
    server.text("KILL QUERY WHERE query_id = 'long' SYNC")
    long.join(20)
    assert wait_until(lambda: not _giving_way(server))
    assert wait_until(lambda: server.health()["giving_way"] == 0)


def test_a_long_statement_that_writes_gives_way_too(server):
    server.text("CREATE TABLE default.t (a UInt64) ENGINE = Null")
    long = Behind(server, "INSERT INTO default.t SELECT cityHash64(number) FROM numbers(10000000000000)", query_id="writes", max_threads="1")
    assert wait_until(lambda: _giving_way(server))
    server.text("KILL QUERY WHERE query_id = 'writes' SYNC")
    long.join(20)
    assert wait_until(lambda: not _giving_way(server))


def test_a_long_answer_gives_way_though_each_of_its_pieces_is_there_soon(server):
    sql = "SELECT number FROM system.numbers WHERE NOT ignore(arrayMap(x -> cityHash64(x), range(200)))"
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(f"POST /?query_id=streams HTTP/1.1\r\nHost: x\r\nContent-Length: {len(sql)}\r\n\r\n{sql}".encode())

        def read_on():
            assert connection.recv(1 << 20)
            return _giving_way(server)

        assert wait_until(read_on)
    assert wait_until(lambda: not runs(server, "streams") and not _giving_way(server))


def test_nothing_gives_way_unless_it_is_told_to(tmp_path):
    server = Server(tmp_path).start()
    assert server.health()["giving_way"] is None
    server.stop()

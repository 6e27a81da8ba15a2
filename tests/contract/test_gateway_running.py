"""What the gateway does while statements run: killed by their ids, stopped when nobody waits, ended properly, and fair to cheap ones."""
import signal
import socket
import time

import pytest
from tests.contract.gateway_server import ENDLESS, Behind, Server, runs, wait_until


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("gateway")).start()
    server.text("CREATE DATABASE d ENGINE = Atomic")
    yield server
    server.stop()


def test_kill_by_the_id_that_the_client_chose_stops_that_query_and_no_other(server):
    one, two = Behind(server, ENDLESS, query_id="one"), Behind(server, ENDLESS, query_id="two")
    assert wait_until(lambda: runs(server, "one") and runs(server, "two"))
    server.text("KILL QUERY WHERE query = 'query_id = 1' OR query_id = 'one' SYNC")
    one.join(20)
    assert (one.answer.status_code, one.answer.headers["X-ClickHouse-Exception-Code"]) == (500, "394")
    assert runs(server, "two")
    server.text("KILL QUERY WHERE query_id IN ('two') SYNC")
    two.join(20)
    assert two.answer.headers["X-ClickHouse-Exception-Code"] == "394"


@pytest.mark.parametrize("sql", ["SELECT 1 SETTINGS chdb_client_name = 'another'", "SET chdb_client_name = 'another'", "INSERT INTO d.none SETTINGS `chdb_client_name` = '' FORMAT TSV"])
def test_a_statement_may_not_hide_from_kill_behind_another_id(server, sql):
    assert server.post(sql, session_id="hiding").headers["X-ClickHouse-Exception-Code"] == "452"


def test_an_id_that_runs_already_is_refused(server):
    one = Behind(server, ENDLESS, query_id="same")
    assert wait_until(lambda: runs(server, "same"))
    assert server.post("SELECT 1", query_id="same").headers["X-ClickHouse-Exception-Code"] == "216"
    server.text("KILL QUERY WHERE query_id = 'same' SYNC")
    one.join(20)
    assert server.text("SELECT 1", query_id="same") == "1\n"


def _leave_after_asking(server, sql, query_id, read=0):
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(f"POST /?query_id={query_id} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(sql)}\r\n\r\n{sql}".encode())
        if read:
            connection.recv(read)
        else:
            assert wait_until(lambda: runs(server, query_id))


@pytest.mark.parametrize(("sql", "read"), [(ENDLESS, 0), ("SELECT number FROM system.numbers", 1000)])
def test_a_query_ends_when_its_client_goes(server, sql, read):
    _leave_after_asking(server, sql, "left", read)
    assert wait_until(lambda: not runs(server, "left") and server.health()["under_way"] == 0)


def test_a_statement_that_writes_runs_to_its_end_though_its_client_goes(server):
    server.text("CREATE TABLE d.slow (a UInt64) ENGINE = MergeTree ORDER BY a")
    _leave_after_asking(server, "INSERT INTO d.slow SELECT number + sleep(0.2) FROM numbers(5) SETTINGS max_block_size = 1", "writes")
    assert wait_until(lambda: server.text("SELECT count() FROM d.slow") == "5\n")


def test_cheap_queries_run_while_more_long_ones_than_slots_do(server):
    long = [Behind(server, ENDLESS, query_id=f"long{i}", max_threads="1") for i in range(30)]
    assert wait_until(lambda: server.health()["under_way"] >= 8 and server.health()["waiting"] >= 20)
    assert [server.text("SELECT 1") for _ in range(20)] == ["1\n"] * 20
    assert server.health()["waiting"] >= 20
    # a KILL finds what runs, and what waits runs then
    assert wait_until(lambda: server.text("KILL QUERY WHERE query_id LIKE 'long%' SYNC") is not None and not any(t.is_alive() for t in long), 60)
    assert {t.answer.headers["X-ClickHouse-Exception-Code"] for t in long} == {"394"}


def test_a_query_that_was_stopped_for_others_gives_its_whole_answer_later(server):
    long = [Behind(server, ENDLESS, query_id=f"full{i}", max_threads="1") for i in range(8)]
    assert wait_until(lambda: all(runs(server, f"full{i}") for i in range(8)))
    time.sleep(0.7)  # they are in the long lane by now, which is full
    late = Behind(server, "SELECT sum(number) FROM numbers(1000) WHERE NOT ignore(sleepEachRow(0.002))", query_id="late")
    assert wait_until(lambda: server.health()["waiting"] == 1)
    assert not runs(server, "late")
    server.text("KILL QUERY WHERE query_id = 'full0' SYNC")
    late.join(30)
    assert (late.answer.status_code, late.answer.text) == (200, "499500\n")
    server.text("KILL QUERY WHERE query_id LIKE 'full%' SYNC")
    for thread in long:
        thread.join(20)


def test_a_query_past_its_memory_fails_alone(server):
    answer = server.post("SELECT length(groupArray(number)) FROM numbers(1000000000)")
    assert answer.headers["X-ClickHouse-Exception-Code"] == "241"
    assert server.post("SELECT 1", max_memory_usage=str(1 << 40)).headers["X-ClickHouse-Exception-Code"] == "452"
    assert server.text("SELECT 1") == "1\n"


def test_a_slow_reader_holds_no_slot(server):
    sockets = []
    for i in range(30):  # more than both lanes have slots
        connection = socket.create_connection(("127.0.0.1", server.port))
        sql = "SELECT number, randomPrintableASCII(100) FROM system.numbers"
        connection.sendall(f"POST /?query_id=reader{i} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(sql)}\r\n\r\n{sql}".encode())
        assert connection.recv(1000)
        sockets.append(connection)
    assert server.text("SELECT 1") == "1\n"
    for connection in sockets:
        connection.close()
    assert wait_until(lambda: server.health()["under_way"] == 0)


def test_sigterm_stops_what_runs_and_keeps_what_was_acknowledged(tmp_path):
    server = Server(tmp_path).start()
    server.text("CREATE DATABASE d ENGINE = Atomic")
    server.text("CREATE TABLE d.t (a UInt64) ENGINE = MergeTree ORDER BY a")
    server.text("INSERT INTO d.t VALUES (1)")
    long = Behind(server, ENDLESS, query_id="long")
    streamed = Behind(server, "SELECT number FROM system.numbers", query_id="streamed")
    assert wait_until(lambda: runs(server, "long") and runs(server, "streamed"))
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(25) == 0  # closed, not killed and not crashed
    long.join(5)
    streamed.join(5)
    assert [long.is_alive(), streamed.is_alive()] == [False, False]
    assert server.start().text("SELECT a FROM d.t") == "1\n"
    assert server.stop() == 0

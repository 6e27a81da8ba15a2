"""An insert that hangs ends: by the client's own limits, whatever the server does with the connection, and by the server's, which are asked at the start."""
import socket
import threading
from contextlib import contextmanager

import pytest

from weir.errors import Fenced, Unavailable
from weir.ingest import clickhouse, guard
from weir.ingest.clickhouse import INSERT_SETTINGS, WHOLE_S, ClickHouse
from weir.ingest.kafka_log import POLL_INTERVAL_MS
from weir.ingest.lane import Lane, Limits
from weir.ingest.record import Record
from weir.ingest.simulation.run import thin

DRIPS = 40  # of 0.1 s: a client without a limit of its own waits them all, and the test fails rather than hangs


@contextmanager
def server(answer):
    """A server that takes a request and gives the connection to `answer`."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def serve():
            while not ended.is_set():
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(connection, ended), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n1\n"


def silent(connection, ended):
    connection.recv(65536)
    ended.wait(DRIPS / 10)
    connection.sendall(OK)


def dripping(connection, ended):
    """Answer so slowly that no read is ever late, as progress in headers would be."""
    try:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        for n in range(DRIPS):
            connection.sendall(b"X-ClickHouse-Progress: %d\r\n" % n)
            ended.wait(0.1)
        connection.sendall(b"Content-Length: 0\r\n\r\n")
    except OSError:
        return


def deaf(connection, ended):
    """Read nothing: the request stays in the way."""
    ended.wait(DRIPS / 10)
    left = 16 << 20
    while left > 0 and (got := connection.recv(1 << 20)):
        left -= len(got)
    connection.sendall(OK)


@pytest.mark.parametrize(("answer", "body"), [(silent, b"x"), (dripping, b"x"), (deaf, b"x" * (16 << 20))])
def test_an_insert_ends_whatever_the_server_does_with_the_connection(monkeypatch, answer, body):
    monkeypatch.setattr(clickhouse, "WHOLE_S", 0.3)
    with server(answer) as url:
        client = ClickHouse(url)
        with pytest.raises(Unavailable, match="does not answer"):
            client.insert("l.t", ["a"], body, "token", "q")
        client.close()


def test_after_a_hung_request_the_next_one_has_a_connection(monkeypatch):
    monkeypatch.setattr(clickhouse, "WHOLE_S", 0.3)
    asked = []

    def once(connection, ended):
        asked.append(1)
        if len(asked) == 1:
            dripping(connection, ended)
            return
        connection.recv(65536)
        connection.sendall(OK)

    with server(once) as url:
        client = ClickHouse(url)
        with pytest.raises(Unavailable):
            client.execute("SELECT 1")
        assert client.execute("SELECT 1") == "1\n"
        client.close()


class Hung:
    """A Kafka and a ClickHouse in virtual time, where each insert takes as long as the client allows and fails."""

    def __init__(self):
        self.now_s, self.silence_s, self.polled_s = 0.0, 0.0, 0.0

    def insert(self, *_):
        self.now_s += WHOLE_S
        raise Unavailable("ClickHouse does not answer")

    def wait(self, seconds):
        self.now_s += seconds

    def stay(self):
        self.silence_s, self.polled_s = max(self.silence_s, self.now_s - self.polled_s), self.now_s

    def commit(self, _entries):
        pass

    def committed(self, partitions):
        return dict.fromkeys(partitions, (0, ""))


def test_a_hung_insert_is_given_up_before_the_session_is_over_and_the_group_is_served_between_the_tries():
    world = Hung()
    lane = Lane("landing.t", thin, world, world, clock=lambda: world.now_s, wait=world.wait, between_tries=world.stay, limits=Limits(age_s=0.0))
    lane.assigned([("t", 0)])
    with pytest.raises(Fenced, match="was not acknowledged"):
        lane.take([Record("t", 0, 0, 0, None, b"a", "")])
    assert world.now_s < POLL_INTERVAL_MS / 1000
    assert 0 < world.silence_s <= WHOLE_S + 2


def test_the_server_ends_a_hung_insert_while_its_token_is_remembered():
    """At ten batches a second, as `guard.MIN_WINDOW` is argued; and as an exception: a part of the rows would be a loss."""
    assert int(INSERT_SETTINGS["max_execution_time"]) * 10 < guard.MIN_WINDOW
    assert INSERT_SETTINGS["timeout_overflow_mode"] == "throw"

"""Connections ahead: each serves once, under the id, user and role it was made for, and none is left open."""
import threading

import pytest

from weir.gateway.ready import Ready, Who

A, B, C, BROKEN = Who("a", "u"), Who("a", "v"), Who("c", "u"), Who("broken", "u")


class Connection:
    def __init__(self, role):
        self.role, self.ids, self.closed = role, [], False

    def close(self):
        self.closed = True


@pytest.fixture
def made():
    return []


@pytest.fixture
def ready(made):
    def connect(role):
        if role == BROKEN:
            raise RuntimeError("refused")
        made.append(Connection(role))
        return made[-1]

    ready = Ready(connect, lambda connection, query_id: connection.ids.append(query_id), size=2)
    yield ready
    ready.close()


def test_an_id_without_a_connection_ahead_is_new_and_holds_nothing(ready, made):
    first, second = ready.reserve(A), ready.reserve(A)
    assert first != second
    assert ready.take(first) is None
    assert not made


def test_a_connection_is_had_once_under_its_role_and_its_last_id(made):
    ready = Ready(lambda role: made.append(Connection(role)) or made[-1], lambda c, i: c.ids.append(i), size=2)
    left = Connection(A)
    ready.more(A, left)
    while (query_id := ready.reserve(A)) not in left.ids:
        assert ready.take(query_id) is None
    assert ready.reserve(B) not in left.ids
    assert ready.take(query_id) is left
    assert ready.take(query_id) is None
    ready.close()
    assert not left.closed  # whoever took it closes it


def test_what_nobody_took_what_is_too_much_and_what_failed_is_closed(ready, made):
    kept = [Connection(A) for _ in range(4)]
    for connection in kept:
        ready.more(A, connection)
    ready.more(BROKEN)
    ready.more(C)
    while (query_id := ready.reserve(A)) not in kept[0].ids:
        pass
    ready.forget(query_id)
    assert kept[0].closed
    ready.close()
    assert all(connection.closed for connection in kept + made)
    assert ready.reserve(A) not in kept[1].ids


def test_the_answer_goes_before_the_next_connection_is_made(made):
    told = threading.Event()
    ready = Ready(Connection, lambda connection, query_id: told.set(), pause_s=0.3)
    ready.more(A, Connection(A))
    assert not told.wait(0.1)
    assert told.wait(10)
    ready.close()


def test_one_that_cannot_be_told_its_id_is_closed_and_not_given(made):
    def refuse(connection, query_id):
        raise RuntimeError("gone")

    ready = Ready(Connection, refuse)
    left = Connection(A)
    ready.more(A, left)
    ready.close()
    assert left.closed
    assert ready.take(ready.reserve(A)) is None

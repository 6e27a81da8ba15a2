"""Sessions: one request at a time, a bounded number, and an end when they are idle."""
import pytest

from weir.gateway.failures import Failure
from weir.gateway.sessions import Sessions


class FakeConnection:
    def __init__(self):
        self.closed = False

    def close(self):
        self.closed = True


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def sessions(clock):
    return Sessions(FakeConnection, maximum=2, clock=clock)


def _code(call):
    with pytest.raises(Failure) as failed:
        call()
    return failed.value.code


def test_a_session_in_use_is_locked_and_free_again_after(sessions):
    held = sessions.take("a", 60, check=False)
    assert _code(lambda: sessions.take("a", 60, check=False)) == 373
    sessions.give(held)
    assert sessions.take("a", 60, check=True) is held


def test_a_session_that_must_be_there_and_is_not_is_refused(sessions):
    assert _code(lambda: sessions.take("a", 60, check=True)) == 372
    assert len(sessions) == 0


def test_an_idle_session_ends_at_its_timeout_and_one_in_use_never(sessions, clock):
    idle, used = sessions.take("idle", 60, check=False), sessions.take("used", 60, check=False)
    sessions.give(idle)
    clock.now = 61
    sessions.sweep()
    assert (idle.connection.closed, used.connection.closed) == (True, False)
    assert _code(lambda: sessions.take("idle", 60, check=True)) == 372


def test_a_session_is_closed_when_the_request_says_so(sessions):
    held = sessions.take("a", 60, check=False)
    sessions.give(held, end=True)
    assert held.connection.closed
    assert len(sessions) == 0


def test_there_is_a_bound_and_an_end_makes_room(sessions):
    first = sessions.take("a", 60, check=False)
    sessions.take("b", 60, check=False)
    assert _code(lambda: sessions.take("c", 60, check=False)) == 700
    sessions.give(first, end=True)
    sessions.take("c", 60, check=False)


@pytest.mark.parametrize("seconds", [-1, 3601, float("inf"), float("nan")])
def test_a_timeout_out_of_range_is_refused(sessions, seconds):
    assert _code(lambda: sessions.take("a", seconds, check=False)) == 374


def test_a_session_belongs_to_its_user(sessions):
    mine, theirs = sessions.take("a", 60, check=False, user="ana"), sessions.take("a", 60, check=False, user="ben")
    assert mine is not theirs
    sessions.give(theirs, end=True)
    assert _code(lambda: sessions.take("a", 60, check=True, user="ben")) == 372
    sessions.give(mine)
    assert sessions.take("a", 60, check=True, user="ana") is mine

"""Ready is not live: what the loop answers while it waits, works, and loses its stores. No network: `answer` is what the HTTP side calls."""
import logging
import threading

import pytest

from weir.errors import NotYet, Terminal, Unavailable
from weir.features.materialize import QUIET_S, QUIET_TICK_S, REST_S, SWEEP_S, TICK_S, Freshness
from weir.features.service import LIVE_S, READY_S, Service, rest_s


class Work:
    """A materializer whose every part does as `fails` says."""

    def __init__(self):
        self.freshness, self.done, self.fails, self.rows = Freshness(), [], {}, 0

    def _do(self, what):
        self.done.append(what)
        if what in self.fails:
            raise self.fails[what]

    def tick(self):
        self._do("tick")
        return self.rows

    def views(self, *, slide=None):
        return {None: ["popular", "recent", "profile"], True: ["popular", "recent"], False: ["profile"]}[slide]

    def whole(self, view):
        self._do(view)
        return 3


class Clock:
    def __init__(self):
        self.s = 1000.0

    def __call__(self):
        return self.s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def work():
    return Work()


@pytest.fixture
def service(work, clock):
    return Service(lambda: work, clock)


def _health(service):
    status, document = service.answer("GET", "/health")
    return status, document["state"]


def test_a_service_that_waits_for_its_first_run_is_live_and_not_ready(service, work):
    assert _health(service) == (503, "starting")
    assert service.answer("GET", "/live")[0] == 503  # has reached no store yet
    work.fails["tick"] = NotYet("a table is not built yet")
    service.turn()
    assert _health(service) == (503, "waiting: a table is not built yet")
    assert service.answer("GET", "/live")[0] == 200
    work.fails.clear()
    service.turn()
    assert _health(service) == (200, "running")


def test_it_is_neither_while_a_store_was_never_reached(clock):
    def refuse():
        raise Unavailable("Redis does not answer")

    service = Service(refuse, clock)
    service.turn()
    assert _health(service) == (503, "waiting: Redis does not answer")
    assert service.answer("GET", "/live")[0] == 503


def test_a_trouble_shorter_than_the_limit_does_not_end_readiness_and_a_longer_one_does(service, work, clock):
    service.turn()
    work.fails["tick"] = Unavailable("ClickHouse does not answer")
    clock.s += READY_S
    service.turn()
    assert _health(service) == (200, "waiting: ClickHouse does not answer")
    clock.s += 1
    service.turn()
    assert _health(service)[0] == 503
    assert service.answer("GET", "/live")[0] == 200  # a restart would not bring ClickHouse back
    work.fails.clear()
    service.turn()
    assert _health(service) == (200, "running")


def test_a_loop_that_hangs_is_neither_ready_nor_live(service, clock):
    service.turn()
    clock.s += LIVE_S + 1
    assert _health(service) == (503, "silent")
    assert service.answer("GET", "/live")[0] == 503


def test_what_is_not_built_yet_is_no_warning_and_a_refusal_is_one_not_one_a_turn(service, work, caplog):
    work.fails["tick"] = NotYet("a table is not built yet", code=60)
    with caplog.at_level(logging.WARNING):
        service.turn()
        assert caplog.messages == []
        for error in (Terminal("no column x", code=47), Terminal("no column x, part 2", code=47), Unavailable("busy", code=202)):
            work.fails["tick"] = error
            service.turn()
    assert caplog.messages == ["no column x", "busy"]


def _asked(service):
    """Ask for a refresh from another thread; return it, its answers, once the question is in."""
    answers = []
    thread = threading.Thread(target=lambda: answers.append(service.answer("POST", "/refresh")))
    thread.start()
    while not service._asked.qsize():
        pass
    return thread, answers


WRITTEN = (200, {"rows": {"popular": 3, "recent": 3, "profile": 3}})


@pytest.mark.parametrize(("fails", "turns", "expected"), [
    ({}, 3, WRITTEN), ({"tick": Unavailable("busy")}, 1, (503, {"error": "busy"})), ({"recent": Unavailable("busy")}, 2, (503, {"error": "busy"})),
])
def test_a_refresh_is_done_by_the_loop_a_view_a_turn_and_answers_what_came_of_it(service, work, fails, turns, expected):
    work.fails = fails
    thread, answers = _asked(service)
    for _ in range(turns):
        assert answers == []
        service.turn()
    thread.join(10)
    assert answers == [expected]
    work.fails.clear()
    done = len(work.done)
    service.turn()
    assert work.done[done:] == ["tick"]  # nothing is owed any more


def test_those_who_ask_while_a_refresh_is_done_share_the_next_one(service, work):
    first, told = _asked(service)
    service.turn()
    others = []
    for _ in range(2):
        others.append(_asked(service))
        service.turn()
    assert len(service._owed) == 1
    for _ in range(3):
        service.turn()
    for thread, answers in ((first, told), *others):
        thread.join(10)
        assert answers == [WRITTEN]
    assert [w for w in work.done if w != "tick"] == ["popular", "recent", "profile"] * 2


def test_a_refresh_that_nobody_does_is_answered_too(service):
    assert service.refresh(wait_s=0.01)[0] == 504


def test_sliding_views_are_swept_and_the_others_read_again_when_it_is_time_with_a_tick_before_each(service, work, clock):
    service.turn()
    assert work.done == ["tick"]
    clock.s += SWEEP_S + 1
    for _ in range(3):
        service.turn()
    assert work.done[1:] == ["tick", "popular", "tick", "recent", "tick"]
    clock.s += REST_S
    for _ in range(4):
        service.turn()
    assert work.done[6:] == ["tick", "popular", "tick", "recent", "tick", "profile", "tick"]


def test_a_trouble_between_two_views_puts_off_what_is_due_by_the_clock_and_drops_none_of_it(service, work, clock):
    clock.s += REST_S + 1
    service.turn()
    work.fails["tick"] = Unavailable("busy")
    service.turn()
    work.fails.clear()
    for _ in range(3):
        service.turn()
    assert [w for w in work.done if w != "tick"] == ["popular", "recent", "profile"]


def test_a_sweep_that_takes_longer_than_its_pace_is_not_owed_twice(service, work, clock):
    for _ in range(8):
        clock.s += SWEEP_S + 1
        service.turn()
    assert [w for w in work.done if w != "tick"] == ["popular", "recent"] * 4
    clock.s += 1
    for _ in range(3):
        service.turn()
    assert len(service._owed) == 0


def test_between_two_views_it_does_not_rest(service, work, monkeypatch):
    waits = []
    monkeypatch.setattr(service.ended, "wait", lambda s: waits.append(s) or (len(waits) > 3 and service.ended.set()))
    thread, _ = _asked(service)
    service.run()
    thread.join(10)
    assert [w > 0 for w in waits] == [False, False, True, True]


def test_other_paths_are_not_found_and_tell_the_known_ones(service):
    assert service.answer("GET", "/refresh")[0] == 404
    assert service.answer("POST", "/health")[0] == 404


def test_it_looks_more_seldom_once_nothing_was_written_for_a_while_and_often_again_with_the_first_row(service, work, clock):
    service.turn()
    assert service.pause_s() == TICK_S
    clock.s += QUIET_S + 1
    service.turn()
    assert service.pause_s() == QUIET_TICK_S > TICK_S
    work.rows = 1
    service.turn()
    assert service.pause_s() == TICK_S


def test_after_a_long_tick_it_rests_as_long_as_that_took_up_to_a_second_and_otherwise_it_keeps_its_pace():
    assert rest_s(0.15, 0.05, 0.05) == pytest.approx(0.10)
    assert rest_s(0.15, 0.45, 0.45) == pytest.approx(0.3)
    assert rest_s(0.15, 0.65, 0.65) == pytest.approx(1.0)
    assert rest_s(0.15, 30.0, 30.0) == 1.0
    assert rest_s(0.15, 5.0, 0.05) == 0  # a sweep: what came meanwhile is waited for no longer


def test_it_knows_how_long_its_last_tick_took_without_the_sweep(service, work, clock, monkeypatch):
    monkeypatch.setattr(work, "tick", lambda: setattr(clock, "s", clock.s + 0.5) or 1)
    monkeypatch.setattr(work, "whole", lambda _view: setattr(clock, "s", clock.s + 7) or 1)
    clock.s += SWEEP_S + 1
    service.turn()
    assert service._tick_s == 0.5

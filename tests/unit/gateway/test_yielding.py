"""Threads of long work give way, and no other ones, for no longer than it lasts; no engine, no kernel, no clock."""
import asyncio
import threading

import pytest

from weir.gateway import yielding as room
from weir.gateway.lanes import Lanes
from weir.gateway.yielding import TURN_NS, Linux, Plan, Yielding, plan


class Machine:
    """Threads that work as told (`share` of a core), and what was asked of the scheduler. It is engine, scheduler and clock in one."""

    def __init__(self):
        self.serving, self.share, self.turns, self.asked, self._worked = frozenset(), {}, {}, [], {}
        self.now, self.broken = 100.0, False
        self.yielding = Yielding(self._serving, self, clock=lambda: self.now)

    def _serving(self):
        if self.broken:
            raise RuntimeError("no memory")
        return self.serving

    def worked_ns(self, thread):
        return self._worked.get(thread, 0)

    def turn(self, thread, length_ns):
        self.asked.append(thread)
        self.turns[thread] = length_ns

    def look(self, *serving, **share):
        """Let a tenth of a second pass in which each thread works its share, and look."""
        self.now += 0.1
        self.serving = frozenset(serving)
        for name, part in share.items():
            thread = int(name.removeprefix("t"))
            self._worked[thread] = self._worked.get(thread, 0) + int(part * 1e8)
        self.yielding.look()
        return {thread for thread, length_ns in self.turns.items() if length_ns == TURN_NS}


@pytest.fixture
def machine():
    return Machine()


def test_what_changes_is_told_and_nothing_else():
    assert plan(frozenset({1, 2, 4}), {1: 0.5, 2: 0.01, 4: 1.0}, frozenset({4, 6, 2})) == Plan(frozenset({1}), frozenset({6, 2}))
    assert plan(frozenset(), {}, frozenset({4})) == Plan(frozenset(), frozenset({4}))


def test_threads_of_long_work_give_way_at_the_first_look_and_are_as_others_when_it_ends(machine):
    assert machine.look(1, 2, t1=1, t2=1, t3=1) == {1, 2}
    assert machine.look(1, 2, t1=1, t2=1, t3=1) == {1, 2}
    assert machine.asked == [1, 2]  # once each
    assert machine.look(t3=1) == set()
    assert (machine.turns, machine.yielding.threads) == ({1: 0, 2: 0}, frozenset())


def test_a_thread_that_the_engine_still_names_but_that_hardly_works_is_as_others_until_it_works_again(machine):
    machine.look(1, 2, t1=1, t2=1)
    assert machine.look(1, 2, t1=1, t2=0.04) == {1}
    assert machine.look(1, 2, t1=1, t2=0.06) == {1, 2}  # one of 16 that share two cores beside others works no more


def test_pythons_own_threads_never_give_way(machine):
    mine = threading.get_native_id()
    assert machine.look(mine, 1, **{f"t{mine}": 1, "t1": 1}) == {1}
    assert mine not in machine.turns


def test_an_engine_that_cannot_be_asked_leaves_all_threads_as_others(machine):
    machine.look(1, t1=1)
    machine.broken = True
    assert machine.look(1, t1=1) == set()
    machine.broken = False
    assert machine.look(1, t1=1) == {1}


def test_the_engine_is_asked_while_something_is_old_and_until_all_threads_are_as_others(machine, monkeypatch):
    monkeypatch.setattr(room, "LOOK_S", 0)
    said, old, left = [], [False, False, True, True, False], [frozenset({1}), frozenset(), frozenset()]

    def any_old():
        said.append("old?")
        if not old:
            raise asyncio.CancelledError
        return old.pop(0)

    def look():
        said.append("look")
        machine.yielding.threads = left.pop(0)

    machine.yielding.look = look
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(machine.yielding.watch(any_old))
    assert said == ["old?", "old?", "old?", "look", "look", "old?", "look", "old?", "old?"]


def test_a_statement_is_old_once_it_has_run_for_as_long_whatever_began_after_it(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("weir.gateway.lanes.time.monotonic", lambda: now[0])

    async def run():
        lanes, here = Lanes(), asyncio.get_running_loop().create_future()
        assert not lanes.any_old(0.05)
        first = await lanes.enter(here)
        assert not lanes.any_old(0.05)
        now[0] = 0.05
        second = await lanes.enter(here)
        assert lanes.any_old(0.05)
        first.leave()
        assert not lanes.any_old(0.05)
        second.leave()
        assert (lanes.running, lanes.any_old(0)) == (0, False)

    asyncio.run(run())


def test_a_threads_work_is_told_and_one_that_is_not_there_has_none():
    mine = threading.get_native_id()
    before = Linux().worked_ns(mine)
    while Linux().worked_ns(mine) == before:  # the clock has seen what this loop does, or it never ends
        pass
    assert Linux().worked_ns(1 << 23) == 0

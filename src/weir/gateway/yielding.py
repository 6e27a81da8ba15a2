"""Long work gives way: whoever wakes has a core before the threads of a statement that has run for a while, for as long as it runs.

In: the engine's word on which threads serve which statement, and how old it is. Out: how the operating system schedules those threads. Keep: only the order of turns changes, never
a share of the cores, so a long statement loses nothing but the wait of others; a thread that has gone on to another statement is as every thread; a system that knows no such order (Linux before
6.12) leaves all threads as they are.

A thread that wants a core waits until those that have one end their turn, some milliseconds each, and one cheap query has many such waits (docs/decisions/0022). A turn is asked for by its length
(`sched_runtime`): the kernel gives a core to the earliest deadline, and lets a thread with a short turn take it at once from one with a long turn. So threads of long work ask for long turns. That needs
no right, and is taken back without one, which a nice value is not.
Source: sched(7), sched_setattr(2); Linux 6.12, kernel/sched/fair.c (PREEMPT_SHORT) and kernel/sched/syscalls.c (__setparam_fair).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import struct
import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

OLD_S = 0.05  # a statement that takes longer is none of the cheap ones, which are to take no longer themselves
LOOK_S = 0.1  # between two looks; one costs a query of 1 ms, and there are none while nothing is old
BUSY_SHARE = 0.05  # of a core between two looks: 16 threads of long work share two cores, and a thread that went on to cheap statements works less
TURN_NS = 100_000_000  # the longest that the kernel grants

_ATTRIBUTES = struct.Struct("<IIQiIQQQ")  # struct sched_attr, first version: size, policy, flags, nice, priority, runtime, deadline, period
_RESET_ON_FORK = 1  # a thread that it makes, which may serve anybody, is as others; stays set, since to take it back needs a right
_SET, _GET = 314, 315  # sched_setattr and sched_getattr on x86-64, on which alone the engine is to be had


class Plan(NamedTuple):
    """Threads that are to give way from now on, and those that are to be as others again."""

    yield_: frozenset[int]
    equal: frozenset[int]


def plan(serving: frozenset[int], shares: Mapping[int, float], yielding: frozenset[int]) -> Plan:
    """Return what changes. Pure.

    `serving`: threads that served a statement that is old; `shares`: of a core, what each has worked since the last look, if it was there then; `yielding`: those that give way.
    The engine names a thread among a statement's long after it went on to another one: a new one is taken at its word, and one that hardly works is not.
    """
    wanted = frozenset(thread for thread in serving if shares.get(thread, 1.0) >= BUSY_SHARE)
    return Plan(wanted - yielding, yielding - wanted)


class Scheduler(Protocol):
    """What the operating system is asked, of threads of this process."""

    def worked_ns(self, thread: int) -> int:
        """Return for how long a thread has been on a core since it began (ns); 0 when it has ended."""
        ...

    def turn(self, thread: int, length_ns: int) -> None:
        """Let a thread have turns of this length; 0: as others."""
        ...


class Linux:
    """The kernel's scheduler, of threads by their ids."""

    def __init__(self) -> None:
        self._call = ctypes.CDLL(None, use_errno=True).syscall

    @staticmethod
    def worked_ns(thread: int) -> int:
        """Return for how long a thread of this process has been on a core since it began (ns); 0 when it has ended."""
        try:
            return time.clock_gettime_ns(~thread << 3 | 6)  # as pthread_getcpuclockid makes it: a thread's, and the scheduler's own
        except OSError:
            return 0

    def turn(self, thread: int, length_ns: int) -> None:
        """Let a thread have turns of this length; 0: as others. Its policy and nice value stay; one that has ended, or may not be changed, is left alone."""
        if (found := self._attributes(thread)) is not None:
            _, policy, flags, nice, priority, *_ = found
            self._call(_SET, thread, _ATTRIBUTES.pack(_ATTRIBUTES.size, policy, flags | _RESET_ON_FORK, nice, priority, length_ns, 0, 0), 0)

    def _attributes(self, thread: int) -> tuple[int, ...] | None:
        buffer = ctypes.create_string_buffer(_ATTRIBUTES.size)
        return _ATTRIBUTES.unpack(buffer.raw) if self._call(_GET, thread, buffer, _ATTRIBUTES.size, 0) == 0 else None

    def length_ns(self, thread: int) -> int:
        """Return how long a thread's turns are (ns); 0: the kernel does not tell, or the thread has ended."""
        found = self._attributes(thread)
        return found[5] if found else 0

    def able(self) -> bool:
        """Return whether turns can be asked for, and given back: tried on a thread that ends with this call."""
        seen: list[int] = []

        def attempt() -> None:
            thread = threading.get_native_id()
            for length_ns in (TURN_NS, 0):
                self.turn(thread, length_ns)
                seen.append(self.length_ns(thread))

        trial = threading.Thread(target=attempt)
        trial.start()
        trial.join()
        return seen[0] == TURN_NS and 0 < seen[1] < TURN_NS


class Yielding:
    """The threads that give way. `serving`: returns those that served a statement that is old and runs; `clock`: seconds. One thread at a time may use it.

    Python's own threads never give way: one that holds the interpreter's lock would keep the others from it.
    """

    def __init__(self, serving: Callable[[], frozenset[int]], scheduler: Scheduler, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._serving, self._scheduler, self._clock = serving, scheduler, clock
        self.threads: frozenset[int] = frozenset()
        self._worked_ns: dict[int, int] = {}
        self._at_s = 0.0

    def look(self) -> None:
        """See which threads do long work now, and let them give way, and no other ones."""
        serving: frozenset[int] = frozenset()
        with contextlib.suppress(Exception):  # the engine may be out of memory: all are as others then
            serving = self._serving() - {thread.native_id or 0 for thread in threading.enumerate()}
        before, self._worked_ns = self._worked_ns, {thread: self._scheduler.worked_ns(thread) for thread in serving}
        since, self._at_s = self._at_s, self._clock()
        shares = {thread: (now - before[thread]) / ((self._at_s - since) * 1e9) for thread, now in self._worked_ns.items() if thread in before}
        self._apply(plan(serving, shares, self.threads))

    def _apply(self, changes: Plan) -> None:
        for thread in changes.yield_:
            self._scheduler.turn(thread, TURN_NS)
        for thread in changes.equal:
            self._scheduler.turn(thread, 0)
        self.threads = (self.threads | changes.yield_) - changes.equal

    async def watch(self, any_old: Callable[[], bool]) -> None:
        """Look again and again while `any_old()`, or threads give way; runs until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self.threads or any_old():
                await asyncio.to_thread(self.look)

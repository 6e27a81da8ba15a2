"""Virtual time and the processes in it: each process is a greenlet, and the only one that runs.

In: a seed or a script of faults. Out: one order of all steps. Keep: a step takes virtual time only in `sleep`; a killed process does nothing more, not
even what its `finally` blocks ask for.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Final

import greenlet

PAUSE_S: Final = (5.0, 40.0)  # on both sides of the session timeout
RESTART_S: Final = (0.5, 12.0)  # on both sides of it too: a process that is back before its old membership ended


class Killed(BaseException):
    """The process has been killed. Not an `Exception`: nothing may handle it."""


QUIET_STEPS: Final = frozenset({"fetch", "join", "offsets", "offsets answer", "rejoin"})  # passed often, with no batch in flight


class Faults:
    """Faults by chance: `rate` is the chance of one at each step at which a batch is in flight; a tenth of it elsewhere."""

    def __init__(self, rng: Random, rate: float) -> None:
        self._rng, self._rate = rng, rate

    def draw(self, step: str, kinds: tuple[str, ...]) -> str:
        """Return what goes wrong at this step, or an empty text."""
        rate = self._rate / 10 if step in QUIET_STEPS else self._rate
        return self._rng.choice(kinds) if self._rng.random() < rate else ""


class Script:
    """Faults as written: step name to (which pass, counted from 1, to fault)."""

    def __init__(self, written: Mapping[str, Mapping[int, str]]) -> None:
        self._written = written
        self._passes: Counter[str] = Counter()

    def draw(self, step: str, kinds: tuple[str, ...]) -> str:
        """Return what was written for this pass of the step."""
        del kinds
        self._passes[step] += 1
        return self._written.get(step, {}).get(self._passes[step], "")


@dataclass
class Process:
    """One worker process: dead, or not running until `paused_until_s`, or running."""

    world: World
    name: str
    dead: bool = False
    silent_since_s: float | None = None

    def step(self, name: str) -> None:
        """Pass a point at which the process may be killed or paused."""
        if self.dead:
            raise Killed
        self.world.passed[name] += 1
        fault = self.world.draw(name, ("kill", "kill", "pause"))
        if fault == "kill":
            self.world.passed[f"kill at {name}"] += 1
            self.die()
        elif fault in {"pause", "long pause"}:
            self.silent_since_s = self.world.now_s
            self.sleep(self.world.rng.uniform(*PAUSE_S) if fault == "pause" else PAUSE_S[1])
            self.silent_since_s = None

    def die(self) -> None:
        """End the process here."""
        self.dead, self.silent_since_s = True, self.world.now_s
        raise Killed

    def sleep(self, seconds: float) -> None:
        """Let the others run for `seconds`."""
        if self.dead:
            raise Killed
        self.world.sleep(seconds)


@dataclass
class World:
    """The event queue. `run` goes on until it is empty or the time is over."""

    rng: Random
    faults: Faults | Script
    now_s: float = 0.0
    healing: bool = False
    passed: Counter[str] = field(default_factory=Counter)
    _queue: list[tuple[float, float, int, greenlet.greenlet | Callable[[], None]]] = field(default_factory=list)
    _number: int = 0

    def draw(self, step: str, kinds: tuple[str, ...]) -> str:
        """Return a fault for this step, none once the world heals; counts it."""
        fault = "" if self.healing else self.faults.draw(step, kinds)
        if fault:
            self.passed[f"{fault} in {step}"] += 1
        return fault

    def later(self, seconds: float, what: greenlet.greenlet | Callable[[], None]) -> None:
        """Do something in `seconds`; what is due at one time comes in an order of chance."""
        self._number += 1
        heapq.heappush(self._queue, (self.now_s + seconds, self.rng.random(), self._number, what))

    def spawn(self, work: Callable[[], None], after_s: float = 0.0) -> None:
        """Start a process; `Killed` ends it."""

        def body() -> None:
            try:
                work()
            except Killed:
                return

        self.later(after_s, greenlet.greenlet(body))

    def sleep(self, seconds: float) -> None:
        """Suspend the running process."""
        self.later(seconds, greenlet.getcurrent())
        parent = greenlet.getcurrent().parent
        if parent is None:
            raise RuntimeError("only a process can sleep")
        parent.switch()

    def run(self, until: Callable[[], bool], limit_s: float) -> bool:
        """Run until `until()` holds, or nothing is left, or the virtual time is over; return whether it held."""
        while self._queue and not until():
            if self._queue[0][0] > limit_s:
                self.now_s = limit_s
                break
            self.now_s, _, _, what = heapq.heappop(self._queue)
            if isinstance(what, greenlet.greenlet):
                what.switch()
            else:
                what()
        return until()

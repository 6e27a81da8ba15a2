"""The materializer's loop, and what may be asked of it.

In: a way to make a `Materializer`. Out: ticks until ended; answers as (HTTP status, document). Keep: one writer, so a refresh is done by the
loop's thread; views are read whole one a turn, so that an event waits for one of them at most; ready means that a tick ended well and not long ago, which a service that waits for its first one is not.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from http import HTTPStatus
from queue import SimpleQueue
from typing import Any, Protocol

from weir.errors import NotYet, WeirError
from weir.features.materialize import QUIET_S, QUIET_TICK_S, REST_S, SWEEP_S, TICK_S, Freshness

PAUSE_MAX_S = 2.0
LONG_TICK_S = 0.5  # past it a bulk load is under way, of which fewer rounds write the same
REST_MOST_S = 1.0  # after a long tick: an event of a bulk load waits this and two ticks at most, of the 5 s that it may
READY_S = 30.0  # a tick takes 0.15 s, a view read whole a second or two: past this, served features are no longer kept
LIVE_S = 180.0  # the slowest turn, a tick and a view read whole, ends in this; with six tries of ClickHouse at its limit of 30 s
REFRESH_WAIT_S = 120.0
Answer = tuple[int, dict[str, Any]]
log = logging.getLogger("weir.features")


def _settle(asked: Sequence[Future[Answer]], answer: Answer) -> None:
    for waiting in asked:
        if not waiting.done():
            waiting.set_result(answer)


def rest_s(pause_s: float, turn_s: float, tick_s: float) -> float:
    """Return how long to wait after a turn of `turn_s`, of which its tick took `tick_s`: up to its pace, and after a tick that took longer about as long as that, past LONG_TICK_S twice as long, since what comes meanwhile is written by one instead of two. Pure."""
    return pause_s - turn_s if turn_s < pause_s else min(max(0.0, tick_s - pause_s) * (2 if tick_s > LONG_TICK_S else 1), REST_MOST_S)


class Work(Protocol):
    """What the loop needs of a materializer."""

    freshness: Freshness

    def tick(self) -> int:
        """Write what changed; return the rows written."""
        ...

    def views(self, *, slide: bool | None = None) -> list[str]:
        """Return the names of all views; of those whose values slide with the clock, or of the others."""
        ...

    def whole(self, view: str) -> int:
        """Read a view whole; return the rows written."""
        ...


@dataclass
class _Reading:
    """Views that are to be read whole, one a turn: `left` in this order, `rows` written by view, and who waits for it."""

    left: deque[str]
    rows: dict[str, int] = field(default_factory=dict)
    asked: Sequence[Future[Answer]] = ()


class Service:
    """The loop. `make` connects and is called until it succeeds; `clock` is monotonic, in seconds."""

    def __init__(self, make: Callable[[], Work], clock: Callable[[], float] = time.monotonic) -> None:
        self._make, self._clock = make, clock
        self._work: Work | None = None
        self._asked: SimpleQueue[Future[Answer]] = SimpleQueue()
        self._error: WeirError | None = None
        self.ended = threading.Event()
        self._turned_s = self._swept_s = self._refreshed_s = self._wrote_s = clock()
        self._good_s: float | None = None  # when a tick last ended well
        self._told = ""
        self._tick_s = 0.0
        self._owed: deque[_Reading] = deque()  # a sweep, a whole read by the clock, one that was asked for and one for all who asked since
        self._sweep: _Reading | None = None  # the one that is owed: another is due when it is done

    def run(self) -> None:
        """Turn until ended; on trouble, back off and go on."""
        pause = TICK_S
        while not self.ended.is_set():
            began = self._clock()
            pause = self.pause_s() if self.turn() else min(PAUSE_MAX_S, pause * 2)
            self.ended.wait(0.0 if self._owed else rest_s(pause, self._clock() - began, self._tick_s))

    def pause_s(self) -> float:
        """Return how long a turn that went well lasts: longer once nothing has been written for a while."""
        return TICK_S if self._clock() - self._wrote_s <= QUIET_S else QUIET_TICK_S

    def turn(self) -> bool:
        """Do what is due once; return whether it went well."""
        asked = [self._asked.get() for _ in range(self._asked.qsize())]  # those that ask from now on get a refresh that begins after
        try:
            self._act(self._clock(), asked)
            self._error = None
        except WeirError as error:
            self._error = error
            self._tell(error)
            for reading in self._owed:
                _settle(reading.asked, (HTTPStatus.SERVICE_UNAVAILABLE, {"error": str(error)}))
            _settle(asked, (HTTPStatus.SERVICE_UNAVAILABLE, {"error": str(error)}))
            self._owed = deque(r for r in self._owed if not r.asked)  # what is due by the clock is owed still
        self._turned_s = self._clock()
        return self._error is None

    def _act(self, now_s: float, asked: Sequence[Future[Answer]]) -> None:
        if self._work is None:
            self._work = self._make()
        began = self._clock()
        if self._work.tick():
            self._wrote_s = self._clock()
        self._good_s, self._told = self._clock(), ""
        self._tick_s = self._good_s - began
        if asked and (ahead := next((r for r in self._owed if r.asked and not r.rows), None)):
            ahead.asked = [*ahead.asked, *asked]
        elif asked:
            self._owed.append(_Reading(deque(self._work.views()), asked=asked))
        if now_s - self._swept_s > SWEEP_S and self._sweep is None:
            self._swept_s, self._sweep = now_s, _Reading(deque(self._work.views(slide=True)))
            self._owed.append(self._sweep)
        if now_s - self._refreshed_s > REST_S:
            self._refreshed_s = now_s
            self._owed.append(_Reading(deque(self._work.views(slide=False))))
        if self._owed:
            self._read(self._work, self._owed[0])
        self._good_s = self._clock()

    def _read(self, work: Work, reading: _Reading) -> None:
        """Read the next of the views that are owed."""
        if reading.left:
            reading.rows[reading.left[0]] = work.whole(reading.left[0])
            reading.left.popleft()
        if not reading.left:
            self._owed.popleft()
            self._sweep = None if reading is self._sweep else self._sweep
            _settle(reading.asked, (HTTPStatus.OK, {"rows": reading.rows}))

    def _tell(self, error: WeirError) -> None:
        """Log a trouble once, not each turn; what is only not built yet is no trouble."""
        kind = f"{type(error).__name__} {error.facts.get('code', '')}"
        if not isinstance(error, NotYet) and kind != self._told:
            self._told = kind
            log.warning("%s", error)

    def refresh(self, wait_s: float = REFRESH_WAIT_S) -> Answer:
        """Have every view read whole by the loop, and wait for it."""
        asked: Future[Answer] = Future()
        self._asked.put(asked)
        try:
            return asked.result(wait_s)
        except TimeoutError:
            return HTTPStatus.GATEWAY_TIMEOUT, {"error": "the refresh did not end in time"}

    def health(self) -> Answer:
        """Say whether features are being kept: 200 once a tick has ended well, and while the last one is at most READY_S old."""
        good, error = self._good_s, self._error
        ready = good is not None and self._clock() - good <= READY_S
        if error is None:
            state = "running" if ready else "starting" if good is None else "silent"
        else:
            state = f"waiting: {str(error)[:160]}"
        document = self._work.freshness.document() if self._work else {}
        return HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE, {"ready": ready, "state": state, **document}

    def live(self) -> Answer:
        """Say whether the process works: 200 once both stores were reached, while the loop turns. A restart mends nothing else."""
        live = self._work is not None and self._clock() - self._turned_s <= LIVE_S
        return HTTPStatus.OK if live else HTTPStatus.SERVICE_UNAVAILABLE, {"live": live, "error": str(self._error or "")}

    def answer(self, method: str, path: str) -> Answer:
        """Answer one HTTP request."""
        match method, path:
            case "GET", "/health":
                return self.health()
            case "GET", "/live":
                return self.live()
            case "POST", "/refresh":
                return self.refresh()
        return HTTPStatus.NOT_FOUND, {"error": "known: GET /health (are features kept?), GET /live, POST /refresh (read every view whole)"}

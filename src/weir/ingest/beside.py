"""A question that is put now and then in a thread beside the one that looks.

In: how to ask, how often. Out: the newest answer. Keep: `latest` never waits and never raises; an answer that is old or did not come is none; nothing is asked
while nobody looks.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from weir.errors import WeirError

T = TypeVar("T")
log = logging.getLogger("weir.ingest")


class Beside(Generic[T]):
    """Asks when one looks and the last question is `every_s` old; `none`: what stands for no answer, or for one that is `old_s` old."""

    def __init__(self, what: str, ask: Callable[[], T], none: T, *, every_s: float, old_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._what, self._ask, self._none, self._every_s, self._old_s, self._clock = what, ask, none, every_s, old_s, clock
        self._answer, self._answered_s, self._asked_s = none, float("-inf"), float("-inf")
        self.asking: threading.Thread | None = None

    def latest(self) -> T:
        """Return what was answered last."""
        now_s = self._clock()
        if now_s - self._asked_s >= self._every_s and (self.asking is None or not self.asking.is_alive()):
            self._asked_s = now_s
            self.asking = threading.Thread(target=self._run, name=self._what, daemon=True)
            self.asking.start()
        return self._answer if now_s - self._answered_s < self._old_s else self._none

    def _run(self) -> None:
        try:
            self._answer, self._answered_s = self._ask(), self._clock()
        except (WeirError, ValueError) as error:
            log.debug("%s: not told: %s", self._what, error)

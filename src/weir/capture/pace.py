"""How far a copy is and how fast it goes: its line of progress, and the cap on what it reads of the source.

In: rows as they are read. Out: lines, pauses. Keep: the total is PostgreSQL's estimate and is said to be one.
"""

from __future__ import annotations

import time
from collections.abc import Callable


def line(name: str, rows: int, total: int, seconds: float) -> str:
    """Return one line about `rows` of about `total` (0: not known) in `seconds`. Pure."""
    rate = rows / max(0.1, seconds)
    if not total:
        return f"{name}: {rows:,} rows, {rate:,.0f} rows/s"
    to_go = f", about {max(0, total - rows) / rate:.0f} s to go" if rows else ""
    return f"{name}: {rows:,} of about {max(rows, total):,} rows, {rate:,.0f} rows/s{to_go}"


class Pace:
    """Keeps a reader to `most_per_s` rows a second (0: as fast as it goes), also after it was slower for a while."""

    def __init__(self, most_per_s: int = 0, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep) -> None:
        self._most, self._clock, self._sleep = most_per_s, clock, sleep
        self._began_s = clock()  # of the read that is under way

    @property
    def at_once(self) -> int | None:
        """Return how many rows may be read in one go, so that a snapshot does not last long (a second's); None: no cap."""
        return self._most or None

    def read(self, rows: int) -> None:
        """Wait, after rows were read, until they were due."""
        if self._most and (early := rows / self._most - (self._clock() - self._began_s)) > 0:
            self._sleep(early)
        self._began_s = self._clock()

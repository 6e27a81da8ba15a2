"""Whether ClickHouse keeps up with a lane, and how far apart the lane's inserts are to be while it does not. Pure.

In: the most parts in a partition of each table that an insert reaches, with that table's own bounds; how long the last insert took; the pace so far. Out: a
`Pace`. Keep: it is bounded, so that a lane never stops for it; it ends by itself; what is not known slows nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

BEGINS: Final = 0.5  # of the parts at which ClickHouse itself delays inserts: from there on nothing is left for a second writer or a long merge
ENDS: Final = 0.35  # below BEGINS, so that a pace does not come and go with each merge
SLOW_S: Final = 5.0  # an insert that takes a sixth of the time after which it is given up (clickhouse.INSERT_TIMEOUT_S)
FINE_S: Final = 2.5
LEAST_S: Final = 1.0  # eight times the batches' age: an eighth of the parts at the same rate
MOST_S: Final = 10.0  # a thirtieth of max.poll.interval.ms; a merge of small parts takes a second or two
RECENT_S: Final = 60.0  # a slow insert is no sign any more after this long


@dataclass(frozen=True, slots=True)
class Parts:
    """A table's fullest partition: active parts, and the least number of them at which ClickHouse delays or refuses an insert; 0: it never does."""

    table: str
    most: int
    bound: int

    @property
    def share(self) -> float:
        """Return how near it is: 1 at the bound."""
        return self.most / self.bound if self.bound > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How long after an insert the next may begin, in seconds, and why; 0 and empty: at once."""

    apart_s: float = 0.0
    why: str = ""


UNHURRIED: Final = Pace()


def bound(delay: int, throw: int) -> int:
    """Return the least of `parts_to_delay_insert` and `parts_to_throw_insert` that is set; 0: none is. Pure."""
    return min((n for n in (delay, throw) if n > 0), default=0)


def judge(parts: Sequence[Parts], insert_s: float, before: Pace) -> Pace:
    """Return the pace. `insert_s`: seconds of the last insert, 0 when it is long ago."""
    slowed = before.apart_s > 0
    fullest = max(parts, key=lambda p: p.share, default=None)
    by_parts = by_time = UNHURRIED
    if fullest is not None and fullest.share >= (ENDS if slowed else BEGINS):
        near = min(1.0, (fullest.share - ENDS) / (1.0 - ENDS))
        by_parts = Pace(LEAST_S + (MOST_S - LEAST_S) * near, f"{fullest.table} has {fullest.most} parts in a partition, and ClickHouse delays inserts from {fullest.bound} on")
    if insert_s >= (FINE_S if slowed else SLOW_S):
        by_time = Pace(min(MOST_S, insert_s), f"an insert took {insert_s:.1f} s")  # half of the time is left to merges and other writers
    return max(by_parts, by_time, key=lambda p: p.apart_s)

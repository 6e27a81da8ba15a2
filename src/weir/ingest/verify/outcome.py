"""What a verification found, as values: offsets by kind, partition by partition, table by table; and the verdict that follows.

Keep: *unknown* never passes, nor does a verification that judged nothing. Counts are exact; of the ranges the first `RANGES_KEPT` of a kind are told.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

RANGES_KEPT: Final = 100
FAULTS: Final = ("missing", "doubled", "different", "unknown")
KINDS: Final = ("landed", "quarantined", "deduplicated", "expired", *FAULTS)
UNPLACED: Final = 65_535  # a row whose offset is not known: partition numbers of the landing tables end below it
OUTLIVED: Final = 65_534  # such a row, which may be of a record that the landing table's TTL has taken


@dataclass(slots=True)
class Offsets:
    """How many records (or rows) of one kind, and where: ranges first to last, both in."""

    count: int = 0
    ranges: list[list[int]] = field(default_factory=list)

    def add(self, offsets: Any, times: Any = None) -> None:
        """Count offsets (an integer array), each once or `times` so often; those that follow one another become a range."""
        if len(offsets) == 0:
            return
        self.count += len(offsets) if times is None else int(np.sum(times))
        whole = np.unique(np.asarray(offsets, np.int64))
        breaks = np.flatnonzero(np.diff(whole) != 1)
        starts, ends = np.concatenate([[0], breaks + 1]), np.concatenate([breaks, [len(whole) - 1]])
        for first, last in zip(whole[starts[: RANGES_KEPT + 1]].tolist(), whole[ends[: RANGES_KEPT + 1]].tolist(), strict=True):
            self.add_range(first, last, 0)

    def add_range(self, first: int, last: int, count: int) -> None:
        """Count `count` records that stand from first to last."""
        self.count += count
        if self.ranges and self.ranges[-1][0] <= first <= self.ranges[-1][1] + 1:
            self.ranges[-1][1] = max(last, self.ranges[-1][1])
        elif len(self.ranges) < RANGES_KEPT:
            self.ranges.append([first, last])


def _joined(ranges: list[list[int]]) -> list[list[int]]:
    """Return ranges in order, those that touch as one. Pure."""
    found: list[list[int]] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1][1] = max(found[-1][1], last)
        else:
            found.append([first, last])
    return found


class Tally:
    """Offsets by partition and kind."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, str], Offsets] = defaultdict(Offsets)

    def of(self, partition: int, kind: str) -> Offsets:
        """Return the offsets of a kind, to add to."""
        return self._found[partition, kind]

    def count(self, kind: str, partition: int | None = None) -> int:
        """Return how many there are of a kind, in one partition or in all."""
        return sum(o.count for (p, k), o in self._found.items() if k == kind and partition in {None, p})

    def faulty(self) -> list[int]:
        """Return the partitions that have a fault."""
        return sorted({p for (p, k), o in self._found.items() if k in FAULTS and o.count})

    def document(self, partition: int) -> dict[str, Any]:
        """Return one partition's counts and, of all but what landed, the ranges."""
        mine = {k: o for (p, k), o in self._found.items() if p == partition and o.count}
        ranges = {k: _joined(o.ranges) for k, o in mine.items() if k != "landed" and o.ranges and partition != UNPLACED}
        return {k: mine[k].count if k in mine else 0 for k in KINDS} | {"ranges": ranges}


@dataclass(frozen=True, slots=True)
class Bounds:
    """One partition of the topic: lowest offset that Kafka still holds, the group's commit, and the end."""

    low: int
    committed: int
    end: int


@dataclass
class Table:
    """One table: what was found in it; `reason`: why it (or some of it) could not be judged."""

    name: str
    tally: Tally = field(default_factory=Tally)
    rows: int = 0
    judged: int = 0
    reason: str = ""

    def verdict(self) -> str:
        """Return yes, no or unknown. Pure."""
        if any(self.tally.count(k) for k in FAULTS if k != "unknown"):
            return "no"
        return "unknown" if self.reason or self.tally.count("unknown") else "yes"

    def document(self) -> dict[str, Any]:
        """Return it as JSON values; partitions that have a fault with their ranges, rows that cannot be placed under `unplaced`."""
        faulty = {("unplaced" if p == UNPLACED else str(p)): {k: v for k, v in self.tally.document(p).items() if v} for p in self.tally.faulty()}
        return {"table": self.name, "verdict": self.verdict(), "rows": self.rows, "judged": self.judged, **{k: self.tally.count(k) for k in FAULTS},
                "expired": self.tally.count("expired"), "reason": self.reason, "partitions": faulty}


@dataclass
class Outcome:
    """The whole: the landing table by partition, then each view's table. `seconds`: how long it took."""

    topic: str
    bounds: Mapping[int, Bounds]
    landing: Table
    views: list[Table]
    seconds: float = 0.0

    def verdict(self) -> str:
        """Return no when anything is missing, doubled or different; unknown when anything could not be judged, or nothing was; else yes. Pure."""
        all_of = {t.verdict() for t in (self.landing, *self.views)}
        if "no" in all_of:
            return "no"
        return "unknown" if "unknown" in all_of or not self.landing.judged else "yes"

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        partitions = [
            {"partition": p, "low": b.low, "committed": b.committed, "end": b.end, "pending": b.end - b.committed, **self.landing.tally.document(p)}
            for p, b in sorted(self.bounds.items())
        ]
        total = {k: self.landing.tally.count(k) for k in KINDS} | {"pending": sum(b.end - b.committed for b in self.bounds.values())}
        return {"verdict": self.verdict(), "topic": self.topic, "table": self.landing.name, "judged": self.landing.judged, "seconds": round(self.seconds, 2),
                "total": total, "reason": self.landing.reason, "partitions": partitions, "views": [v.document() for v in self.views]}

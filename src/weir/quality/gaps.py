"""Offsets below the commit that are not landed: a transaction's marker or aborted records, which is legal, or a record that was lost.

In: partitions whose landing table holds fewer offsets than Kafka counts. Out: how many records are lost in each; None: could not be found out.
Keep: Kafka is asked, record by record; a gap once found empty is not asked again, since what is committed in Kafka does not change.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from weir.contracts import names
from weir.errors import WeirError
from weir.quality.ask import Offsets, query
from weir.topics import reader

Key = tuple[str, int]
Gap = tuple[int, int]  # first missing offset, next offset that is there (or the commit)
LIMIT: Final = 20_000  # gaps looked at in one asking; more make the answer unknown, and the next asking goes on
SINGLY: Final = 8  # so many gaps of a partition are looked at one by one; more are read in one go from the first to the last
TIME_S: Final = 4.0
TRAILING: Final = 3  # so few offsets past the commit may be markers alone

log = logging.getLogger("weir.quality")


def sql(topic: str, partition: int, at: Offsets) -> str:
    """Return the SELECT for the gaps of a partition: rows `first`, `next`; at most LIMIT + 1. Pure."""
    inside = f"topic = '{topic}' AND partition = {partition} AND offset >= {at.begin} AND offset < {at.committed}"
    edges = f"SELECT offset FROM {names.landing_of(topic)} WHERE {inside} UNION ALL SELECT toUInt64({at.committed})"
    before = f"lagInFrame(offset + 1, 1, toUInt64({at.begin})) OVER (ORDER BY offset ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)"
    return f"SELECT first, next FROM (SELECT {before} AS first, offset AS next FROM ({edges})) WHERE next > first ORDER BY first LIMIT {LIMIT + 1}"


class Gaps:
    """Remembers which gaps are empty. `reader` is replaced in tests: bootstrap to a function (key, gap) -> records in it."""

    def __init__(self, reader: Callable[[str], Any] | None = None) -> None:
        self._reader = reader or Reader
        self._empty: dict[Key, set[Gap]] = {}
        self._lock = threading.Lock()

    def lost(self, bootstrap: str, gaps: Mapping[Key, list[Gap]]) -> dict[Key, int | None]:
        """Return the records found in the gaps of each partition; None: not all could be looked at."""
        found: dict[Key, int | None] = dict.fromkeys(gaps, 0)
        with self._lock:
            fresh = [(k, g) for k, mine in gaps.items() for g in mine if g not in self._empty.get(k, ())]
            if not fresh:
                return found
            deadline, asked = time.monotonic() + TIME_S, self._reader(bootstrap)
            try:
                for key in dict.fromkeys(k for k, _ in fresh):
                    mine = sorted(g for k, g in fresh if k == key)
                    found[key] = self._of(asked, key, mine[:LIMIT], deadline, whole=len(mine) <= LIMIT)
            finally:
                asked.close()
        return found

    def forget(self, below: Mapping[Key, int]) -> None:
        """Drop the gaps that end at or below an offset of their partition: they are asked for no more."""
        with self._lock:
            for key, offset in below.items():
                if key in self._empty:
                    self._empty[key] = {g for g in self._empty[key] if g[1] > offset}

    def _of(self, asked: Any, key: Key, mine: list[Gap], deadline: float, *, whole: bool) -> int | None:
        """Look at the gaps of one partition; the records in them, or None when not all could be looked at."""
        groups = [mine] if len(mine) > SINGLY else [[gap] for gap in mine]
        total: int | None = 0
        for group in groups:
            counts = None if time.monotonic() > deadline else asked.records(key, group)
            for gap, records in (counts or {}).items():
                if records == 0:
                    self._empty.setdefault(key, set()).add(gap)
                total = None if total is None else total + records
            if counts is None or len(counts) < len(group):
                total = None
        return total if whole else None


class Reader:
    """Counts committed records of single ranges."""

    def __init__(self, bootstrap: str) -> None:
        self._reader = reader.Reader(bootstrap, "weir-quality", patience_s=TIME_S)

    def records(self, key: Key, gaps: list[Gap]) -> dict[Gap, int]:
        """Return how many records stand in each of the gaps (ascending), read from the first to the last; those not reached in time are left out."""
        found: dict[Gap, int] = {}
        inside, waiting, deadline = 0, list(gaps), time.monotonic() + TIME_S
        try:
            for messages in self._reader.read({key: (gaps[0][0], gaps[-1][1])}):
                for message in messages:
                    while message.offset() >= waiting[0][1]:
                        found[waiting.pop(0)], inside = inside, 0
                    inside += message.offset() >= waiting[0][0]
                if time.monotonic() > deadline:
                    return found
        except WeirError:
            log.debug("gaps of %s from %s could not be read", key, waiting[:1])
            return found
        return found | {waiting[0]: inside} | dict.fromkeys(waiting[1:], 0)

    def close(self) -> None:
        """Close the connection."""
        self._reader.close()


def of(url: str, key: Key, at: Offsets) -> list[Gap] | None:
    """Return the gaps of one partition as ClickHouse tells them, or None."""
    rows = query(url, sql(*key, at))
    return None if rows is None else [(int(r["first"]), int(r["next"])) for r in rows]


_KNOWN: Final = Gaps()


def look(bootstrap: str, url: str, offsets: Mapping[Key, Offsets], owed: Mapping[Key, int], known: Gaps = _KNOWN) -> tuple[dict[Key, int | None], set[Key]]:
    """Return the lost records of each partition that lacks offsets, and the partitions whose lag is markers alone.

    `offsets`: each from where it is looked at, the begin or the mark; `owed`: distinct landed offsets from there to the commit.
    """
    known.forget({key: at.begin for key, at in offsets.items()})
    wanted: dict[Key, list[Gap]] = {}
    lost: dict[Key, int | None] = {}
    for key, at in offsets.items():
        if at.committed is not None and owed.get(key, 0) < at.committed - at.begin:
            gaps = of(url, key, at)
            lost[key] = None
            if gaps is not None:
                wanted[key] = gaps
    lost |= known.lost(bootstrap, wanted)
    trailing = {k: [(at.committed, at.end)] for k, at in offsets.items()
                if at.committed is not None and 0 < at.end - at.committed <= TRAILING}
    return lost, {k for k, n in known.lost(bootstrap, trailing).items() if n == 0}

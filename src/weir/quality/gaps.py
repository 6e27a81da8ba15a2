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
LIMIT: Final = 500  # gaps looked at in one asking; more make the answer unknown, and the next asking goes on
TIME_S: Final = 4.0
TRAILING: Final = 3  # so few offsets past the commit may be markers alone

log = logging.getLogger("weir.quality")


def sql(topic: str, partition: int, at: Offsets) -> str:
    """Return the SELECT for the gaps of a partition of `user-events`: rows `first`, `next`; at most LIMIT + 1. Pure."""
    inside = f"topic = '{topic}' AND partition = {partition} AND offset >= {at.begin} AND offset < {at.committed}"
    edges = f"SELECT offset FROM {names.LANDING_EVENTS} WHERE {inside} UNION ALL SELECT toUInt64({at.committed})"
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
                for number, (key, gap) in enumerate(fresh):
                    records = None if number >= LIMIT or time.monotonic() > deadline else asked.records(key, gap)
                    before = found[key]
                    if records == 0:
                        self._empty.setdefault(key, set()).add(gap)
                    found[key] = None if records is None or before is None else before + records
            finally:
                asked.close()
        return found


class Reader:
    """Counts committed records of single ranges."""

    def __init__(self, bootstrap: str) -> None:
        self._reader = reader.Reader(bootstrap, "weir-quality", patience_s=TIME_S)

    def records(self, key: Key, gap: Gap) -> int | None:
        """Return how many records stand in the gap; None: not told in time."""
        found, deadline = 0, time.monotonic() + TIME_S
        try:
            for messages in self._reader.read({key: gap}):
                found += len(messages)
                if time.monotonic() > deadline:
                    return None
        except WeirError:
            log.debug("gap %s of %s could not be read", gap, key)
            return None
        return found

    def close(self) -> None:
        """Close the connection."""
        self._reader.close()


def of(url: str, key: Key, at: Offsets) -> list[Gap] | None:
    """Return the gaps of one partition as ClickHouse tells them, or None."""
    rows = query(url, sql(*key, at))
    return None if rows is None else [(int(r["first"]), int(r["next"])) for r in rows]


_KNOWN: Final = Gaps()


def look(bootstrap: str, url: str, offsets: Mapping[Key, Offsets], owed: Mapping[Key, int], known: Gaps = _KNOWN) -> tuple[dict[Key, int | None], set[Key]]:
    """Return the lost records of each partition of `user-events` that lacks offsets, and the partitions whose lag is markers alone.

    `owed`: distinct landed offsets from begin to commit, by partition.
    """
    wanted: dict[Key, list[Gap]] = {}
    lost: dict[Key, int | None] = {}
    for key, at in offsets.items():
        if key[0] == names.TOPIC_USER_EVENTS and at.committed is not None and owed.get(key, 0) < at.committed - at.begin:
            gaps = of(url, key, at)
            lost[key] = None
            if gaps is not None:
                wanted[key] = gaps
    lost |= known.lost(bootstrap, wanted)
    trailing = {k: [(at.committed, at.end)] for k, at in offsets.items()
                if k[0] == names.TOPIC_USER_EVENTS and at.committed is not None and 0 < at.end - at.committed <= TRAILING}
    return lost, {k for k, n in known.lost(bootstrap, trailing).items() if n == 0}

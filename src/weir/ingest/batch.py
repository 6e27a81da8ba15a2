"""Records of a batch with their numbers as columns, each read from the records once: the hash, the order, the envelope and the decoder all need them.

In: records. Out: `Batch`, which is a sequence of records too. Keep: columns and records are in one order and never change.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from operator import attrgetter
from typing import Any, Final, overload

import numpy as np

from weir.ingest.record import Record

DAY_MS: Final = 86_400_000
Numbers = Any  # an array of Int64

_TOPIC, _PARTITION, _OFFSET, _TIMESTAMP, _VALUE = map(attrgetter, ("topic", "partition", "offset", "timestamp_ms", "value"))


class Batch(Sequence[Record]):
    """Records, and per record: `partition`, `offset`, `timestamp_ms` (ms since the epoch) and `length` (bytes of the value, -1 without one) as Int64."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records if isinstance(records, list) else list(records)

    @staticmethod
    def of(records: Sequence[Record]) -> Batch:
        """Return the records as a batch, themselves if they are one."""
        return records if isinstance(records, Batch) else Batch(records)

    def __len__(self) -> int:
        """Return how many records there are."""
        return len(self.records)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Batch: ...
    def __getitem__(self, index: int | slice) -> Record | Batch:
        """Return a record, or a batch of some."""
        return Batch(self.records[index]) if isinstance(index, slice) else self.records[index]

    def _numbers(self, read: Any) -> Numbers:
        return np.fromiter(map(read, self.records), np.int64, len(self.records))

    @cached_property
    def partition(self) -> Numbers:
        """Partitions."""
        return self._numbers(_PARTITION)

    @cached_property
    def offset(self) -> Numbers:
        """Offsets."""
        return self._numbers(_OFFSET)

    @cached_property
    def timestamp_ms(self) -> Numbers:
        """Kafka's timestamps."""
        return self._numbers(_TIMESTAMP)

    @cached_property
    def topics(self) -> list[str]:
        """Topics by record."""
        return list(map(_TOPIC, self.records))

    @cached_property
    def one_topic(self) -> str | None:
        """The topic of all records; None when there are several, or none."""
        found = set(self.topics)
        return found.pop() if len(found) == 1 else None

    @cached_property
    def values(self) -> list[bytes | None]:
        """Values by record."""
        return list(map(_VALUE, self.records))

    @cached_property
    def length(self) -> Numbers:
        """Bytes of the values."""
        try:
            return np.fromiter(map(len, self.values), np.int64, len(self.records))  # type: ignore[arg-type]  # (dyn) None has no length, which is asked for
        except TypeError:
            return np.array([-1 if v is None else len(v) for v in self.values], np.int64)

    @cached_property
    def bodies(self) -> list[bytes]:
        """Values by record, empty where there is none."""
        return [v or b"" for v in self.values] if (self.length < 0).any() else self.values  # type: ignore[return-value]  # (dyn) none is None

    @cached_property
    def lines(self) -> bytes:
        """All bodies with a line end between: with `length`, of these records alone."""
        return b"\n".join(self.bodies)

    def day(self) -> int:
        """Return how many of the first records are of the first one's day, by Kafka's timestamp."""
        days = self.timestamp_ms // DAY_MS
        other = np.flatnonzero(days != days[0])
        return int(other[0]) if other.size else len(days)

    def first(self, count: int) -> Batch:
        """Return the first `count` records, itself when there are no more."""
        return self if count >= len(self) else self[:count]

    def ordered(self) -> Batch:
        """Return the records in the one order in which a batch is hashed and inserted: by topic, partition and offset."""
        if self._in_order():
            return self
        if self.one_topic is None:
            return Batch(sorted(self.records, key=attrgetter("topic", "partition", "offset")))
        order = np.lexsort((self.offset, self.partition))
        records = self.records
        found = Batch([records[i] for i in order.tolist()])
        found.__dict__ |= {name: getattr(self, name)[order] for name in ("partition", "offset", "timestamp_ms")}
        return found

    def _in_order(self) -> bool:
        steps = np.diff(self.partition)
        return self.one_topic is not None and bool(((steps > 0) | ((steps == 0) & (np.diff(self.offset) > 0))).all())

    def starts(self) -> list[int]:
        """Return where each partition of a topic begins. The records are ordered."""
        change = np.flatnonzero(np.diff(self.partition)) + 1
        if self.one_topic is None:
            topics = self.topics
            change = np.union1d(change, [i for i in range(1, len(topics)) if topics[i] != topics[i - 1]])
        return [0, *change.astype(int).tolist()] if len(self) else []

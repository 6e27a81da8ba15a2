"""Records of a batch with their numbers as columns, each read once: the hash, the order, the envelope and the decoder all need them.

In: records, or the consumer's messages, of which a record is made only when somebody asks for one. Out: `Batch`, a sequence of records.
Keep: columns and records are in one order and never change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any, Final, overload

import numpy as np

from weir.ingest.record import Record

DAY_MS: Final = 86_400_000
Numbers = Any  # an array of Int64
_NUMBERS: Final = ("partition", "offset", "timestamp_ms", "length")  # columns that go with their records into another batch


@dataclass(frozen=True, slots=True)
class Reader:
    """How the columns of some items are read, each by one pass that makes nothing else of an item; `record` makes a whole record of one."""

    topics: Callable[[Sequence[Any]], Iterable[str]]
    partitions: Callable[[Sequence[Any]], Iterable[int]]
    offsets: Callable[[Sequence[Any]], Iterable[int]]
    timestamps_ms: Callable[[Sequence[Any]], Iterable[int]]
    values: Callable[[Sequence[Any]], Iterable[bytes | None]]
    traces: Callable[[Sequence[Any]], Iterable[tuple[int, str]]]  # places and `traceparent`s of those that have one
    record: Callable[[Any], Record]


def _attribute(name: str) -> Callable[[Sequence[Any]], Iterable[Any]]:
    read = attrgetter(name)
    return lambda items: map(read, items)


def _itself(record: Record) -> Record:
    return record


RECORDS: Final = Reader(
    _attribute("topic"), _attribute("partition"), _attribute("offset"), _attribute("timestamp_ms"), _attribute("value"),
    lambda items: [(i, r.traceparent) for i, r in enumerate(items) if r.traceparent], _itself,
)


class Batch(Sequence[Record]):
    """Records, and per record: `partition`, `offset`, `timestamp_ms` (ms since the epoch) and `length` (bytes of the value, -1 without one) as Int64."""

    def __init__(self, items: Sequence[Any], reader: Reader = RECORDS) -> None:
        self._items, self._reader = items if isinstance(items, list) else list(items), reader

    @staticmethod
    def of(records: Sequence[Record]) -> Batch:
        """Return the records as a batch, themselves if they are one."""
        return records if isinstance(records, Batch) else Batch(records)

    def __len__(self) -> int:
        """Return how many records there are."""
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Batch: ...
    def __getitem__(self, index: int | slice) -> Record | Batch:
        """Return a record, or a batch of some."""
        if isinstance(index, slice):
            return self._with(self._items[index], lambda _name, column: column[index])
        return self._reader.record(self._items[index])

    def __iter__(self) -> Iterator[Record]:
        """Go through the records."""
        return map(self._reader.record, self._items)

    def __add__(self, more: Sequence[Record]) -> Batch:
        """Return these records and, after them, `more`."""
        other = Batch.of(more)
        if not (self and other):
            return self or other
        if self._reader is not other._reader:
            return Batch([*self, *other])
        return self._with(self._items + other._items, lambda name, column: np.concatenate((column, getattr(other, name))))

    def _with(self, items: list[Any], change: Callable[[str, Numbers], Numbers]) -> Batch:
        """Return a batch of other items, with the numbers that were read already as `change(name, column)` makes them."""
        found = Batch(items, self._reader)
        found.__dict__ |= {name: change(name, self.__dict__[name]) for name in _NUMBERS if name in self.__dict__}
        return found

    def _numbers(self, read: Callable[[Sequence[Any]], Iterable[int]]) -> Numbers:
        return np.fromiter(read(self._items), np.int64, len(self._items))

    @cached_property
    def partition(self) -> Numbers:
        """Partitions."""
        return self._numbers(self._reader.partitions)

    @cached_property
    def offset(self) -> Numbers:
        """Offsets."""
        return self._numbers(self._reader.offsets)

    @cached_property
    def timestamp_ms(self) -> Numbers:
        """Kafka's timestamps."""
        return self._numbers(self._reader.timestamps_ms)

    @cached_property
    def topics(self) -> list[str]:
        """Topics by record."""
        return list(self._reader.topics(self._items))

    @cached_property
    def one_topic(self) -> str | None:
        """The topic of all records; None when there are several, or none."""
        found = set(self._reader.topics(self._items))
        return found.pop() if len(found) == 1 else None

    @cached_property
    def values(self) -> list[bytes | None]:
        """Values by record."""
        return list(self._reader.values(self._items))

    @cached_property
    def traces(self) -> dict[int, str]:
        """The W3C `traceparent` of the records that have one, by place."""
        return dict(self._reader.traces(self._items))

    @cached_property
    def length(self) -> Numbers:
        """Bytes of the values."""
        try:
            return np.fromiter(map(len, self.values), np.int64, len(self))  # type: ignore[arg-type]  # (dyn) None has no length, which is asked for
        except TypeError:
            return np.array([-1 if v is None else len(v) for v in self.values], np.int64)

    @cached_property
    def size(self) -> int:
        """Bytes of all values."""
        return int(np.maximum(self.length, 0).sum())

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
            order = np.array(sorted(range(len(self)), key=list(zip(self.topics, self.partition.tolist(), self.offset.tolist(), strict=True)).__getitem__), np.int64)
        else:
            order = np.lexsort((self.offset, self.partition))
        items = self._items
        return self._with([items[i] for i in order.tolist()], lambda _name, column: column[order])

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

"""The intent: what a worker is about to insert, kept in the consumer group's commit metadata.

In: ranges of a batch. Out: text for the metadata, and back. Keep: the token is a function of the intent, so whoever rebuilds the batch inserts it
under the same token. Format: JSON; `v` is CODE_VERSION, `r` has four integers a range by topic (partition, first offset, last less first, offsets
without a record), `h` is the payload's hash. Short, since the whole stands in the commit of each of its partitions and a broker bounds its length.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from weir.errors import ContractViolation
from weir.ingest.batch import Batch
from weir.ingest.record import Record

CODE_VERSION = 5  # of the decoders and the insert's settings: a batch is replayed only by the code that declared it


@dataclass(frozen=True, slots=True, order=True)
class Range:
    """Offsets first to last (both in) of one partition, and how many records stand between (gaps are legal)."""

    topic: str
    partition: int
    first: int
    last: int
    count: int


@dataclass(frozen=True, slots=True)
class Intent:
    """One batch: its ranges sorted, and the hash of its payload."""

    ranges: tuple[Range, ...]
    payload: str

    @property
    def token(self) -> str:
        """Return the deduplication token, which is the batch's id too."""
        text = json.dumps([CODE_VERSION, [(r.topic, r.partition, r.first, r.last, r.count) for r in self.ranges], self.payload])
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def encode(self) -> str:
        """Return the metadata text."""
        ranges: dict[str, list[int]] = {}
        for r in self.ranges:
            ranges.setdefault(r.topic, []).extend((r.partition, r.first, r.last - r.first, r.last - r.first + 1 - r.count))
        return json.dumps({"v": CODE_VERSION, "r": ranges, "h": self.payload}, separators=(",", ":"))


class _Version(msgspec.Struct):
    v: int


class _Document(msgspec.Struct):
    r: dict[str, list[int]]
    h: str


_VERSION, _DOCUMENT = msgspec.json.Decoder(_Version), msgspec.json.Decoder(_Document)


def decode(text: str | None) -> Intent | None:
    """Read a metadata text; None when there is no intent.

    Raises:
        ContractViolation: it is an intent of other code, which this worker must not replay.
    """
    if not text:
        return None
    try:
        version = _VERSION.decode(text).v
        if version != CODE_VERSION:
            raise ContractViolation(f"a batch declared by code version {version} is open", hint=f"let a worker of version {version} finish it first")
        document = _DOCUMENT.decode(text)
    except msgspec.MsgspecError as error:
        raise _not_ours() from error
    ranges = []
    for topic, numbers in document.r.items():
        if len(numbers) % 4:
            raise _not_ours()
        for partition, first, span, gaps in zip(*(numbers[i::4] for i in range(4)), strict=True):
            ranges.append(Range(topic, partition, first, first + span, span + 1 - gaps))
    if not ranges or any(not 0 < r.count <= r.last - r.first + 1 or r.first < 0 for r in ranges):
        raise _not_ours()
    return Intent(tuple(ranges), document.h)


def longest(partitions: Mapping[str, int]) -> int:
    """Return the most bytes that an intent over all partitions may need: offsets up to 10^15, 10^7 of them in a range. `partitions`: how many a topic has."""
    ranges = tuple(Range(topic, p, 10**15 - 1, 10**15 + 10**7 - 3, 1) for topic, count in partitions.items() for p in range(count))
    return len(Intent(ranges, "0" * 32).encode())


def _not_ours() -> ContractViolation:
    return ContractViolation("the group's commit metadata is not an intent of ours", hint="another program commits in Weir's group; give it its own")


def of(records: Sequence[Record]) -> Intent:
    """Return the intent of a batch. Records are sorted by topic, partition, offset (see `Batch.ordered`).

    The payload's hash (the first 128 bits of SHA-256, which the processor has instructions for) is of all offsets, timestamps and lengths as little-endian
    Int64 (-1: no value), then of all values with a line end between.
    """
    batch = Batch.of(records)
    starts = batch.starts()
    ends = [*starts[1:], len(batch)]
    ranges = tuple(
        Range(batch[a].topic, batch[a].partition, batch[a].offset, batch[b - 1].offset, b - a) for a, b in zip(starts, ends, strict=True)
    )
    digest = hashlib.sha256()
    for numbers in (batch.offset, batch.timestamp_ms, batch.length):
        digest.update(numbers.astype("<i8", copy=False).tobytes())
    digest.update(batch.lines)
    return Intent(ranges, digest.hexdigest()[:32])

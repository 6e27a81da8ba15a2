"""The intent: what a worker is about to insert, kept in the consumer group's commit metadata.

In: ranges of a batch. Out: text for the metadata, and back. Keep: the token is a function of the intent, so whoever rebuilds the batch inserts it
under the same token. Format: JSON, `v` 1.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from weir.errors import ContractViolation
from weir.ingest.record import Record

CODE_VERSION = 1  # of the decoders and the insert's settings: a batch is replayed only by the code that declared it


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
        return json.dumps({"v": CODE_VERSION, "r": [[r.topic, r.partition, r.first, r.last, r.count] for r in self.ranges], "h": self.payload}, separators=(",", ":"))


class _Version(msgspec.Struct):
    v: int


class _Document(msgspec.Struct):
    r: list[tuple[str, int, int, int, int]]
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
    ranges = tuple(Range(*r) for r in document.r)
    if not ranges or any(not 0 < r.count <= r.last - r.first + 1 for r in ranges):
        raise _not_ours()
    return Intent(ranges, document.h)


def _not_ours() -> ContractViolation:
    return ContractViolation("the group's commit metadata is not an intent of ours", hint="another program commits in Weir's group; give it its own")


def of(records: Sequence[Record]) -> Intent:
    """Return the intent of a batch. Records are sorted by topic, partition, offset (see `ordered`)."""
    bounds: dict[tuple[str, int], list[int]] = {}
    digest = hashlib.blake2b(digest_size=16)
    for r in records:
        found = bounds.get((r.topic, r.partition))
        if found is None:
            bounds[r.topic, r.partition] = [r.offset, r.offset, 1]
        else:
            found[1], found[2] = r.offset, found[2] + 1
        digest.update(f"{r.offset}:{r.timestamp_ms}:{-1 if r.value is None else len(r.value)};".encode())
        digest.update(r.value or b"")
    return Intent(tuple(Range(t, p, first, last, n) for (t, p), (first, last, n) in bounds.items()), digest.hexdigest())


def ordered(records: Sequence[Record]) -> list[Record]:
    """Return the records in the one order in which a batch is hashed and inserted."""
    return sorted(records, key=lambda r: (r.topic, r.partition, r.offset))

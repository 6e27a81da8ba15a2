"""The gate before a lane of changes: a table that is paused, or whose row does not have what its columns promise, is left in Kafka; the others go on.

In: fetched records, the register of captured tables. Out: the records that may be taken, in order. Keep: from a table's partition nothing past a held
record is taken, and nothing is skipped when it is let go: the partition is read again from the held record; a membership that ends forgets what it
held, since the next one finds the same record first.
"""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec

from weir.contracts.captured import Captured, State, misfit
from weir.errors import WeirError
from weir.ingest.lane import Partition
from weir.ingest.record import Record

# What Debezium writes of a long value that an update left alone, where the replica identity leaves it out of the WAL; of bytes the same in base64.
PLACEHOLDER: Final = "__debezium_unavailable_value"
_HOLLOW: Final = (PLACEHOLDER, b64encode(PLACEHOLDER.encode()).decode(), [PLACEHOLDER])
ASK_S: Final = 1.0  # how late a pause or a resume is heeded; one small SELECT


class Holder(Protocol):
    """The consumer's side of a hold."""

    def hold(self, partition: Partition) -> None:
        """Read nothing more of this partition."""

    def release(self, partition: Partition, offset: int) -> None:
        """Read it again, from this offset on."""


class _Source(msgspec.Struct):
    lsn: int | None = None


class _Row(msgspec.Struct):
    op: str = ""
    before: msgspec.Raw = msgspec.Raw(b"null")
    after: dict[str, Any] | None = None
    source: _Source | None = None


_ROW = msgspec.json.Decoder(_Row)
_BEFORE = msgspec.json.Decoder(dict[str, Any] | None)
_OF_A_ROW: Final = frozenset("crud")


def judge(entry: Captured, record: Record) -> str:
    """Return why a record may not land, or an empty text. Pure. What is no change of a row is the decoder's to judge."""
    if entry.state is State.PAUSED:
        return entry.why or "paused"
    if record.value is None:
        return ""
    try:
        row = _ROW.decode(record.value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
    if row.source is not None and row.source.lsn is not None and row.source.lsn < entry.since_lsn:
        return ""
    if row.op == "t" and entry.owned and not entry.barrier:
        return "it was truncated: ./weir table resync makes its copy anew"  # an earlier version's copy has no LSN, by which alone a truncate has an order
    if row.op in _OF_A_ROW and record.key is None and entry.owned and not entry.history:
        return f"its records have no key any more: ALTER TABLE {entry.source} ADD PRIMARY KEY (…); then ./weir table resync {entry.name}"
    if row.op in {"u", "d"} and entry.history and (why := _without_before(entry, row)):
        return why
    if row.op not in {"c", "u", "r"} or row.after is None:
        return ""
    return _hollow(entry, row) or misfit(entry.read, row.after)


def _hollow(entry: Captured, row: _Row) -> str:
    """Return which value an update came without, or an empty text; one that has the row as it was has all values, whatever they look like."""
    if row.op != "u" or row.after is None or bytes(row.before) != b"null":
        return ""
    names = [c.name for c in entry.read if row.after.get(c.name) in _HOLLOW]
    return f"{names[0]} came without its value: ALTER TABLE {entry.source} REPLICA IDENTITY FULL; then ./weir table resync {entry.name}" if names else ""


def _without_before(entry: Captured, row: _Row) -> str:
    """Return why the row as it was is not there whole, which a history takes out of the table, or an empty text."""
    before = _BEFORE.decode(row.before)
    if before is None:
        return f"a change came without the row as it was: ALTER TABLE {entry.source} REPLICA IDENTITY FULL; then ./weir table resync {entry.name}"
    return misfit(entry.read, before)


@dataclass
class _Held:
    offset: int
    at_us: int  # of the entry that said so
    why: str


@dataclass
class Gate:
    """One lane's gate. `told(record, why)`: a table's record was held; `register()`: the captured tables by topic; raises when it cannot be asked."""

    holder: Holder
    register: Callable[[], Mapping[str, Captured]]
    told: Callable[[Record, str], None] = lambda _record, _why: None
    clock: Callable[[], float] = time.monotonic
    held: dict[Partition, _Held] = field(default_factory=dict)
    _awaited: dict[Partition, int] = field(default_factory=dict)
    _entries: Mapping[str, Captured] | None = None
    _asked_s: float = 0.0

    @property
    def topics(self) -> frozenset[str]:
        """Return the topics of all captured tables that the register names."""
        return frozenset(self._entries or ())

    def forget(self) -> None:
        """Drop what was held: the partitions came or went."""
        self.held, self._awaited = {}, {}

    def look(self) -> None:
        """Ask the register when it is time, and let go what it now allows.

        Raises:
            WeirError: it was never told yet; afterwards the last answer stands.
        """
        if self._entries is not None and self.clock() - self._asked_s < ASK_S:
            return
        try:
            self._entries = self.register()
        except WeirError:
            if self._entries is None:
                raise
        self._asked_s = self.clock()
        for partition, held in list(self.held.items()):
            entry = self._entries.get(partition[0])
            if entry is None or (entry.state is not State.PAUSED and entry.at_us != held.at_us):
                del self.held[partition]
                self._awaited[partition] = held.offset
                self.holder.release(partition, held.offset)

    def admit(self, records: Sequence[Record]) -> list[Record]:
        """Return the records that may be taken."""
        self.look()
        entries = self._entries or {}
        return [r for r in records if r.topic not in entries or self._one(entries[r.topic], r)]

    def _one(self, entry: Captured, record: Record) -> bool:
        partition = record.topic, record.partition
        if partition in self.held:
            self.holder.hold(partition)  # a repeated insert resumes all partitions
            return False
        if partition in self._awaited:
            if record.offset != self._awaited[partition]:
                return False  # it was read before the consumer went back
            del self._awaited[partition]
        why = judge(entry, record)
        if not why:
            return True
        self.held[partition] = _Held(record.offset, entry.at_us, why)
        self.holder.hold(partition)
        self.told(record, why)
        return False

"""Decoders: records of a topic to the columns of its landing table; a bad record becomes a reason, never an exception.

In: records. Out: an Arrow table, one row a record, in the records' order. Keep: pure functions of the records and their Kafka timestamps, so
that a replay by another worker makes the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
from google.protobuf.message import DecodeError

from weir.contracts import cdc
from weir.contracts.catalogue import ItemCatalogueEntry
from weir.contracts.events import EVENT_SCHEMA_VERSION, EventType, RejectReason
from weir.contracts.names import CDC_TOPIC_EPOCH, CDC_VERSION_EPOCH_SHIFT
from weir.ingest import columns as fast
from weir.ingest.batch import Batch
from weir.ingest.envelope import envelope, rejected
from weir.ingest.record import TIMESTAMP, Record, reason_of_size

AHEAD_MS = 5 * 60_000  # a producer's clock may run ahead this much of the broker's
BEHIND_MS = 400 * 86_400_000  # loads of history; older than this is a wrong unit, not a late event
RATING_MIN, RATING_MAX = 0.5, 5.0
ID_CHARACTERS = 64

_COUNTRY = re.compile(r"[A-Z]{2}\Z")
_TYPES = frozenset(EventType)
_INT64_MAX = (1 << 63) - 1
_LAST_MS = 10_413_791_999_999  # 2299-12-31, where ClickHouse's DateTime64 ends
_LAST_YEAR = 9999
_NO_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # the last: lists in lists, a thousand deep

Decoder = Callable[[Sequence[Record], str], pa.Table]


class _Event(msgspec.Struct, gc=False):
    schema_version: int
    event_id: str
    user_id: int
    item_id: int
    event_type: str
    session_id: str
    country: str
    occurred_at: int
    rating: float | None = None


_EVENT = msgspec.json.Decoder(_Event)
_NO_EVENT = _Event(0, "", 0, 0, "", "", "", 0)


def judge_event(event: _Event, timestamp_ms: int) -> RejectReason | None:
    """Return why an event that decoded is not acceptable, or None. The clock bound compares with the record's Kafka timestamp."""
    if event.schema_version != EVENT_SCHEMA_VERSION:
        return RejectReason.UNKNOWN_VERSION
    if event.event_type not in _TYPES:
        return RejectReason.UNKNOWN_TYPE
    ids = 0 < event.user_id <= _INT64_MAX and 0 < event.item_id <= _INT64_MAX
    texts = 0 < len(event.event_id) <= ID_CHARACTERS and 0 < len(event.session_id) <= ID_CHARACTERS and _COUNTRY.match(event.country)
    rated = event.rating is None or RATING_MIN <= event.rating <= RATING_MAX
    if not (ids and texts and rated):
        return RejectReason.OUT_OF_RANGE
    if not timestamp_ms - BEHIND_MS <= event.occurred_at <= timestamp_ms + AHEAD_MS:
        return RejectReason.CLOCK
    return None


def _one_event(record: Record) -> tuple[_Event, str]:
    reason = reason_of_size(record)
    if reason is None and record.value is not None:
        try:
            event = _EVENT.decode(record.value)
        except msgspec.ValidationError as error:
            reason = RejectReason.MISSING_FIELD if "missing required" in str(error) else RejectReason.MALFORMED
        except _NO_JSON:
            reason = RejectReason.MALFORMED
        else:
            reason = judge_event(event, record.timestamp_ms)
            if reason is None:
                return event, ""
    return _NO_EVENT, str(reason)


def _events_one_by_one(records: Sequence[Record]) -> tuple[dict[str, pa.Array], list[str]]:
    rows = [_one_event(r) for r in records]
    events = [event for event, _ in rows]
    return {
        "event_id": pa.array([e.event_id for e in events], pa.string()),
        "user_id": pa.array([e.user_id for e in events], pa.int64()),
        "item_id": pa.array([e.item_id for e in events], pa.int64()),
        "event_type": pa.array([e.event_type for e in events], pa.string()),
        "rating": pa.array([e.rating for e in events], pa.float32()),
        "session_id": pa.array([e.session_id for e in events], pa.string()),
        "country": pa.array([e.country for e in events], pa.string()),
        "occurred_at": pa.array([e.occurred_at for e in events], pa.int64()).cast(TIMESTAMP),
        "schema_version": pa.array([e.schema_version for e in events], pa.uint8()),
    }, [reason for _, reason in rows]


def _acceptable(timestamps: pl.Series) -> pl.Expr:
    """Return `judge_event` is None, as an expression over columns."""
    text = {name: pl.col(name).str.len_chars().is_between(1, ID_CHARACTERS) for name in ("event_id", "session_id")}
    rating, at, stamp = pl.col("rating"), pl.col("occurred_at"), pl.lit(timestamps)
    return (
        (pl.col("schema_version") == EVENT_SCHEMA_VERSION) & pl.col("event_type").is_in([t.value for t in EventType])
        & (pl.col("user_id") > 0) & (pl.col("item_id") > 0) & text["event_id"] & text["session_id"]
        & (pl.col("country").str.len_bytes() == 2) & pl.col("country").str.contains(r"^[A-Z]{2}$")  # noqa: PLR2004 - two letters
        & (rating.is_null() | rating.is_between(RATING_MIN, RATING_MAX)) & (at >= stamp - BEHIND_MS) & (at <= stamp + AHEAD_MS)
    )


def _decodes(value: bytes) -> bool:
    try:
        _EVENT.decode(value)
    except _NO_JSON:
        return False
    return True


def _events_at_once(records: Batch) -> tuple[dict[str, pa.Array], dict[int, str]] | None:
    """Return what `_events_one_by_one` would, most rows by column, and the reasons by place; None when the block does not allow it."""
    found = fast.read(records, lambda: _acceptable(pl.Series("stamp", records.timestamp_ms)), _decodes)
    if found is None:
        return None
    frame, sure = found
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks()
    kinds = {"event_id": pa.string(), "user_id": pa.int64(), "item_id": pa.int64(), "event_type": pa.string(), "rating": pa.float32(), "session_id": pa.string(),
             "country": pa.string(), "occurred_at": TIMESTAMP, "schema_version": pa.uint8()}
    if sure.all():
        return {name: table[name].cast(kind).combine_chunks() for name, kind in kinds.items()}, {}
    rest = np.flatnonzero(~sure)
    others, reasons_of_others = _events_one_by_one([records[i] for i in rest.tolist()])
    certain = table.filter(pa.array(sure))
    place = np.empty(len(records), np.int64)
    place[np.flatnonzero(sure)] = np.arange(len(records) - rest.size)
    place[rest] = np.arange(len(records) - rest.size, len(records))
    order = pa.array(place)
    columns = {name: pa.chunked_array([*certain[name].cast(kind).chunks, others[name]], kind).combine_chunks().take(order) for name, kind in kinds.items()}
    return columns, {index: reason for index, reason in zip(rest.tolist(), reasons_of_others, strict=True) if reason}


def user_events(records: Sequence[Record], batch: str) -> pa.Table:
    """Decode user events (`ingest/contracts/user_event.schema.json`)."""
    of = Batch.of(records)
    found = _events_at_once(of)
    if found is None:
        columns, reasons = _events_one_by_one(of)
        found = columns, rejected(reasons)
    return pa.table(envelope(of, batch, found[1]) | found[0])


class _Source(msgspec.Struct, frozen=True):
    lsn: int | None = None
    ts_ms: int | None = None
    txId: int | None = None  # noqa: N815 - Debezium's own name
    snapshot: str | bool | None = None


class _Change(msgspec.Struct):
    op: str
    before: msgspec.Raw = msgspec.Raw(b"null")
    after: msgspec.Raw = msgspec.Raw(b"null")
    source: _Source | None = None


class _Row(msgspec.Struct, gc=False):
    """What a change says: documents as JSON text, empty when there is none."""

    op: str = ""
    before: str = ""
    after: str = ""
    source: _Source = _Source()


_CHANGE = msgspec.json.Decoder(_Change)
_KEY = msgspec.json.Decoder(dict[str, Any])
_OPS = frozenset("crudt")
_OF_A_ROW = frozenset("crud")  # a truncate is of a table: it has no key
_WITH_AFTER = frozenset("cru")
_KEYS = {t.topic: t.key for t in cdc.CDC_TABLES.values()}


def _document(raw: msgspec.Raw) -> str:
    """Return an object as text, "" for null.

    Raises:
        msgspec.ValidationError: it is something else. UnicodeDecodeError: it is not UTF-8, which msgspec looks at only in what it reads.
    """
    text = bytes(raw).decode().strip()
    if text == "null":
        return ""
    if not text.startswith("{"):
        raise msgspec.ValidationError("a row is an object or null")
    return text


def _judge_key(record: Record) -> RejectReason | None:
    """Return why the key names no row of the topic's table, or None; a table that the contract does not know may have none. May raise what `_NO_JSON` lists."""
    name = _KEYS.get(record.topic)
    if record.key is None:
        return RejectReason.MISSING_FIELD if name else None  # the gate holds what a keyed copy cannot take
    key = _KEY.decode(record.key)
    if not key or (name is not None and name not in key):
        return RejectReason.MISSING_FIELD
    if name is None:
        return None
    if type(key[name]) is not int:
        return RejectReason.MALFORMED
    return None if -_INT64_MAX <= key[name] <= _INT64_MAX else RejectReason.OUT_OF_RANGE


def _judge_change(record: Record, row: _Row) -> RejectReason | None:
    """Return why a change that decoded is not acceptable, or None: staging would read a user with zeros out of a row without its document."""
    if row.op not in _OPS:
        return RejectReason.UNKNOWN_TYPE
    s = row.source
    if any(n is not None and not 0 <= n <= last for n, last in ((s.lsn, _INT64_MAX), (s.txId, _INT64_MAX), (s.ts_ms, _LAST_MS))):
        return RejectReason.OUT_OF_RANGE
    if row.op in _WITH_AFTER and not row.after:
        return RejectReason.MISSING_FIELD
    return _judge_key(record) if row.op in _OF_A_ROW else None


def _one_change(record: Record) -> tuple[_Row, str]:
    if record.value is None:  # a tombstone after a delete: for compaction only, nothing new
        return _Row("tombstone"), ""
    try:
        change = _CHANGE.decode(record.value)
        row = _Row(change.op, _document(change.before), _document(change.after), change.source or _Source())
        reason = _judge_change(record, row)
        if reason is None and _shortened(record.value, row):
            return _Row(row.op), str(RejectReason.OVERSIZED)  # reconciliation asks by what it came
    except _NO_JSON:
        reason = RejectReason.MALFORMED
    return (row, "") if reason is None else (_Row(), str(reason))


def _shortened(value: bytes, row: _Row) -> bool:
    """Say whether Debezium may have shortened the row as it is after its change; of a delete only the key counts."""
    return len(value) >= cdc.CHANGE_BYTES and row.op in _WITH_AFTER and len(row.after) > cdc.SURE_BYTES


def debezium(records: Sequence[Record], batch: str) -> pa.Table:
    """Decode Debezium's JSON envelope. `version` orders the changes of a key (docs/decisions/0003): LSNs are missing on some rows."""
    judged = [_one_change(r) for r in records]
    rows = [row for row, _ in judged]
    columns = envelope(records, batch, rejected([reason for _, reason in judged]))
    columns |= {
        "op": pa.array([r.op for r in rows], pa.string()),
        "key": pa.array([(r.key or b"").decode("utf-8", "replace") for r in records], pa.string()),
        "before": pa.array([r.before for r in rows], pa.string()),
        "after": pa.array([r.after for r in rows], pa.string()),
        "source_lsn": pa.array([r.source.lsn for r in rows], pa.uint64()),
        "source_at": pa.array([r.source.ts_ms for r in rows], pa.int64()).cast(TIMESTAMP),
        "tx_id": pa.array([r.source.txId for r in rows], pa.uint64()),
        "snapshot": pa.array([str(r.source.snapshot).lower() if r.source.snapshot is not None else "" for r in rows], pa.string()),
        "version": pa.array([CDC_TOPIC_EPOCH << CDC_VERSION_EPOCH_SHIFT | r.offset for r in records], pa.uint64()),
        "is_deleted": pa.array([int(r.op == "d") for r in rows], pa.uint8()),
    }
    return pa.table(columns)


def judge_item(entry: Any) -> RejectReason | None:
    """Return why a catalogue entry that decoded is not acceptable, or None. Protobuf gives what is missing as 0 or empty; a year 0 is unknown."""
    if entry.item_id == 0 or not entry.title:
        return RejectReason.MISSING_FIELD
    within = entry.item_id > 0 and 0 <= entry.release_year <= _LAST_YEAR and 0 <= entry.updated_at_ms <= _LAST_MS
    return None if within else RejectReason.OUT_OF_RANGE


def _one_item(record: Record) -> tuple[object, str]:
    reason = reason_of_size(record)
    if reason is None and record.value is not None:
        try:
            entry = ItemCatalogueEntry.FromString(record.value)
        except DecodeError:
            reason = RejectReason.MALFORMED
        else:
            reason = judge_item(entry)
            if reason is None:
                return entry, ""
    return ItemCatalogueEntry(), str(reason)


def catalogue_items(records: Sequence[Record], batch: str) -> pa.Table:
    """Decode catalogue entries (`ingest/contracts/item.proto`)."""
    rows = [_one_item(r) for r in records]
    entries = [entry for entry, _ in rows]
    columns = envelope(records, batch, rejected([reason for _, reason in rows]))

    def column(name: str, kind: pa.DataType) -> pa.Array:
        return pa.array([getattr(e, name) for e in entries], kind)

    columns |= {
        "item_id": column("item_id", pa.int64()),
        "title": column("title", pa.string()),
        "genres": pa.array([list(e.genres) for e in entries], pa.list_(pa.string())),  # type: ignore[attr-defined]  # (dyn) built by descriptor
        "release_year": column("release_year", pa.int32()),
        "is_active": column("is_active", pa.uint8()) if not entries else pa.array([int(e.is_active) for e in entries], pa.uint8()),  # type: ignore[attr-defined]  # (dyn) built by descriptor
        "catalogue_version": column("catalogue_version", pa.uint64()),
        "updated_at": column("updated_at_ms", pa.int64()).cast(TIMESTAMP),
        "version": pa.array([CDC_TOPIC_EPOCH << CDC_VERSION_EPOCH_SHIFT | r.offset for r in records], pa.uint64()),
    }
    return pa.table(columns)


def warm() -> None:
    """Decode one record of nothing, so that what the decoder's libraries load at their first use is not loaded with the first batch."""
    user_events([Record("", 0, 0, 0, None, b"{}", ""), Record("", 0, 1, 0, None, b"{", "")], "")


DECODERS: dict[str, Decoder] = {"user_event": user_events, "debezium": debezium, "catalogue_item": catalogue_items}


def arrow_stream(table: pa.Table) -> bytes:
    """Return the table as one Arrow IPC stream of one record batch: one block, so one token."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks(), max_chunksize=max(1, table.num_rows))
    return bytes(sink.getvalue())

"""A Kafka record as the decoders see it, and the columns every landing table begins with."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pyarrow as pa

from weir.contracts.events import MAX_EVENT_BYTES, RejectReason

TIMESTAMP = pa.timestamp("ms", "UTC")
RAW_KEPT_BYTES = 4096  # of a rejected record; enough to see what it was, bounded for the quarantine's size


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record. `timestamp_ms`: Kafka's; `traceparent`: the W3C header or empty. A struct: it is made in a fifth of a frozen data class's time."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    traceparent: str


def reason_of_size(record: Record) -> RejectReason | None:
    """Return the reason when the record is empty or past the size limit."""
    if record.value is None:
        return RejectReason.MALFORMED
    return RejectReason.OVERSIZED if len(record.value) > MAX_EVENT_BYTES else None


def envelope(records: Sequence[Record], batch: str, reasons: Sequence[str]) -> dict[str, pa.Array]:
    """Return the columns that every landing table has, `reasons` being empty for accepted records."""
    count = len(records)
    topics = {r.topic for r in records}
    return {
        "topic": pa.repeat(pa.scalar(topics.pop(), pa.string()), count) if len(topics) == 1 else pa.array([r.topic for r in records], pa.string()),
        "partition": pa.array(np.fromiter((r.partition for r in records), np.uint16, count)),
        "offset": pa.array(np.fromiter((r.offset for r in records), np.uint64, count)),
        "batch": pa.repeat(pa.scalar(batch, pa.string()), count),
        "produced_at": pa.array(np.fromiter((r.timestamp_ms for r in records), np.int64, count)).cast(TIMESTAMP),
        "traceparent": pa.array([r.traceparent for r in records], pa.string()),
        "reject_reason": pa.array(list(reasons), pa.string()),
        "raw": pa.array([(r.value or b"")[:RAW_KEPT_BYTES] if reason else b"" for r, reason in zip(records, reasons, strict=True)], pa.binary())
        if any(reasons) else pa.repeat(pa.scalar(b"", pa.binary()), count),
    }

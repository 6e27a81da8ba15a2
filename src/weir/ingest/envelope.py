"""The columns that every landing table begins with.

In: a batch, its id, and why records were rejected. Out: Arrow columns. Keep: a function of the records alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pyarrow as pa

from weir.ingest.batch import Batch
from weir.ingest.record import TIMESTAMP, Record

RAW_KEPT_BYTES: Final = 4096  # of a rejected record; enough to see what it was, bounded for the quarantine's size


def _texts(few: Mapping[int, str], count: int) -> pa.Array:
    """Return `count` texts, empty but for the `few` by place."""
    if not few:
        return pa.repeat(pa.scalar("", pa.string()), count)
    found = [""] * count
    for index, text in few.items():
        found[index] = text
    return pa.array(found, pa.string())


def envelope(records: Sequence[Record], batch: str, reasons: Mapping[int, str]) -> dict[str, pa.Array]:
    """Return the columns. `reasons`: why a record was rejected, by its place; the others were accepted."""
    of = Batch.of(records)
    count = len(of)
    raw = pa.repeat(pa.scalar(b"", pa.binary()), count)
    if reasons:
        kept = [b""] * count
        for index in reasons:
            kept[index] = of.bodies[index][:RAW_KEPT_BYTES]
        raw = pa.array(kept, pa.binary())
    return {
        "topic": pa.array(of.topics, pa.string()) if of.one_topic is None else pa.repeat(pa.scalar(of.one_topic, pa.string()), count),
        "partition": pa.array(of.partition.astype(np.uint16)),
        "offset": pa.array(of.offset.astype(np.uint64)),
        "batch": pa.repeat(pa.scalar(batch, pa.string()), count),
        "produced_at": pa.array(of.timestamp_ms).cast(TIMESTAMP),
        "traceparent": _texts(of.traces, count),
        "reject_reason": _texts(reasons, count),
        "raw": raw,
    }


def rejected(reasons: Sequence[str]) -> dict[int, str]:
    """Return the reasons that are not empty, by place."""
    return {index: reason for index, reason in enumerate(reasons) if reason}

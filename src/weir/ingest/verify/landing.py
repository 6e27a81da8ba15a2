"""The landing table against the topic: records decoded anew beside the rows that stand at their offsets.

In: records of a range, rows of the same range. Out: how each offset was found. Keep: pure but for the SELECTs' text; a row counts as landed only when it is the
one row of its offset and each of its columns is what the record decodes to; `batch` alone is held to the ledger instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa

from weir.contracts import names
from weir.contracts.clickhouse import literal
from weir.ingest.verify.outcome import Tally

# How a column is rendered: whole numbers as Int64, times as ms since the epoch, texts as bytes, so that both sides have one type.
COLUMNS: Final = {
    "partition": "toInt64(partition)", "offset": "toInt64(offset)", "batch": "batch", "produced_at": "toUnixTimestamp64Milli(produced_at)", "event_id": "event_id",
    "user_id": "user_id", "item_id": "item_id", "event_type": "toString(event_type)", "rating": "rating", "session_id": "session_id", "country": "toString(country)",
    "occurred_at": "toUnixTimestamp64Milli(occurred_at)", "schema_version": "toInt64(schema_version)", "traceparent": "traceparent",
    "reject_reason": "toString(reject_reason)", "raw": "raw",
}
_NUMBERS: Final = ("partition", "offset", "produced_at", "user_id", "item_id", "occurred_at", "schema_version")
SCHEMA: Final = {c: pl.Int64 if c in _NUMBERS else pl.Float32 if c == "rating" else pl.Binary for c in COLUMNS}
COMPARED: Final = tuple(c for c in COLUMNS if c not in {"batch", "partition", "offset"})


def rendered(columns: dict[str, str]) -> str:
    """Return the SELECT list. Pure."""
    return ", ".join(f"{sql} AS {name}" for name, sql in columns.items())


def select(topic: str, partition: int, first: int, *, since_ms: int, before: int | None = None, limit: int | None = None, table: str = names.LANDING_EVENTS) -> str:
    """Return the SELECT of a partition's rows from offset `first` on, produced at `since_ms` or later, in order; of `table`, which has the landing table's columns.

    With `limit`, so many, and all rows of the last one's offset. Pure.
    """
    upper = "" if before is None else f" AND offset < {before}"
    page = "" if limit is None else f" LIMIT {limit} WITH TIES"
    return (f"SELECT {rendered(COLUMNS)} FROM {table} WHERE topic = {literal(topic)} AND partition = {partition} AND offset >= {first}{upper} AND produced_at >= fromUnixTimestamp64Milli({since_ms})"
            f" ORDER BY offset{page}")


def frame(batches: Iterable[pa.RecordBatch], schema: dict[str, Any] = SCHEMA) -> pl.DataFrame:
    """Return blocks as one frame of the schema's types; without blocks an empty one."""
    blocks = list(batches)
    if not blocks:
        return pl.DataFrame(schema=schema)
    made = pl.from_arrow(pa.Table.from_batches(blocks))
    assert isinstance(made, pl.DataFrame)  # noqa: S101 - a table is always one
    return made.select(pl.col(c).cast(kind) for c, kind in schema.items())


def owed(table: pa.Table) -> pl.DataFrame:
    """Return what the decoder makes of records, in the types that `select` renders."""
    made = pl.from_arrow(table)
    assert isinstance(made, pl.DataFrame)  # noqa: S101 - a table is always one
    times = [pl.col(c).dt.epoch("ms") for c in ("produced_at", "occurred_at")]
    return made.with_columns(times).select(pl.col(c).cast(kind) for c, kind in SCHEMA.items())


def judge(wanted: pl.DataFrame, found: pl.DataFrame, partition: int, tally: Tally) -> None:
    """Compare the records of a range (offsets rise, each once) with the rows of the same range (offsets do not fall), and count each offset."""
    offsets, there = wanted["offset"].to_numpy(), found["offset"].to_numpy()
    first = np.searchsorted(there, offsets, "left")
    times = np.searchsorted(there, offsets, "right") - first
    present = np.flatnonzero(times > 0)
    same = _same(wanted[present], found[first[present]])
    accepted = (wanted["reject_reason"].bin.size() == 0).to_numpy()[present]
    single = times[present] == 1
    tally.of(partition, "landed").add(offsets[present[same & single & accepted]])
    tally.of(partition, "quarantined").add(offsets[present[same & single & ~accepted]])
    tally.of(partition, "different").add(offsets[present[~same]])
    tally.of(partition, "missing").add(offsets[times == 0])
    tally.of(partition, "doubled").add(offsets[times > 1], times[times > 1] - 1)
    foreign = there[~np.isin(there, offsets)]  # rows at an offset where the topic holds no record
    tally.of(partition, "unknown").add(foreign)


def _same(wanted: pl.DataFrame, found: pl.DataFrame) -> Any:
    """Return a mask: all compared columns of the row are alike (two nulls are)."""
    alike = np.ones(len(wanted), bool)
    for column in COMPARED:
        alike &= wanted[column].eq_missing(found[column]).to_numpy()
    return alike


def doubled(found: pl.DataFrame, partition: int, tally: Tally) -> None:
    """Count the offsets that stand more than once, where Kafka no longer has the records."""
    offsets, times = np.unique(found["offset"].to_numpy(), return_counts=True)
    tally.of(partition, "doubled").add(offsets[times > 1], times[times > 1] - 1)

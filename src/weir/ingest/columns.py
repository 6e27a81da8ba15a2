"""A block of JSON events to columns at once, for the rows of which it can be shown that the strict decoder would read the same.

In: a batch. Out: a data frame, a mask of the rows that are accepted for sure, and nothing about the others: `decode` judges those one by one.
Keep: never accepts what msgspec would not, and never another value. How: polars reads a line into columns but takes a number for a text and the first
of two fields of one name, so a row counts as sure only when its quotes are as many as its fields need and no text could be a number, literal, list or object.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import polars as pl

from weir.contracts.events import MAX_EVENT_BYTES
from weir.ingest.batch import Batch

SCHEMA: Final = {
    "schema_version": pl.Int64, "event_id": pl.String, "user_id": pl.Int64, "item_id": pl.Int64, "event_type": pl.String,
    "session_id": pl.String, "country": pl.String, "occurred_at": pl.Int64, "rating": pl.Float64,
}
QUOTES: Final = 24  # two round each of eight names and each of four texts
RATED_QUOTES: Final = 2
BLOCK: Final = 4_000  # rows read at once: a line that is no JSON makes only its own block be read twice; 1,000 cost a third more, 80,000 a tenth
NOTHING: Final = b"{}"  # stands for a value that is not read here; a row without fields is never sure
NOT_A_TEXT: Final = r"^(?:-?[0-9][0-9.eE+-]*|true|false|[\[{].*)$"  # what polars makes of a value that is no text

Judge = Callable[[], pl.Expr]


def _frame(text: bytes) -> pl.DataFrame | None:
    try:
        return pl.read_ndjson(text, schema=SCHEMA, ignore_errors=True)
    except pl.exceptions.PolarsError:  # one line that is no JSON fails the block
        return None


def _readable(text: bytes, bodies: Sequence[bytes], decodes: Callable[[bytes], bool]) -> pl.DataFrame | None:
    """Return one row a line of `text`, which is `bodies` joined, or None when the block can't be read line by line."""
    frame = _frame(text)
    if frame is None:
        frame = _frame(b"\n".join([v if v is NOTHING or decodes(v) else NOTHING for v in bodies]))
    return frame if frame is not None and frame.height == len(bodies) else None  # a blank value is no line


def _lines(batch: Batch) -> tuple[bytes, list[bytes], Any]:
    """Return the batch as lines, its bodies and their lengths; what is empty, too large, or holds a line end or a backslash is no line: NOTHING stands for it."""
    text, bodies, length = batch.lines, batch.bodies, batch.length
    odd = (length <= 0) | (length > MAX_EVENT_BYTES)
    if text.count(b"\n") != len(bodies) - 1:
        odd |= [b"\n" in v for v in bodies]
    if b"\\" in text:
        odd |= [b"\\" in v for v in bodies]
    if not odd.any():
        return text, bodies, length
    bodies = list(bodies)
    for index in np.flatnonzero(odd).tolist():
        bodies[index] = NOTHING
    return b"\n".join(bodies), bodies, np.where(odd, len(NOTHING), length)


def _as_many_quotes(bodies: Sequence[bytes], found: int, rated: Any, sure: Any) -> Any:
    """Return `sure` without the rows that hold more or fewer quotes than their fields need. `found`: quotes in all rows."""
    expected = QUOTES + RATED_QUOTES * rated.astype(np.int64)
    unsure = np.flatnonzero(~sure).tolist()
    if found - sum(bodies[i].count(b'"') for i in unsure) == int(expected[sure].sum()):  # a sure row never has fewer, so none has more
        return sure
    counts = np.fromiter((v.count(b'"') for v in bodies), np.int64, len(bodies))
    return sure & (counts == expected)


def read(batch: Batch, judge: Judge, decodes: Callable[[bytes], bool]) -> tuple[pl.DataFrame, Any] | None:
    """Return the columns and the mask of sure rows, or None when the whole block must be read one by one.

    Args:
        batch: the records.
        judge: makes the expression that is true for an acceptable row.
        decodes: says whether the strict decoder reads a value; asked only when the block holds a line that is no JSON.
    """
    text, bodies, length = _lines(batch)
    ends = np.cumsum(length + 1)  # of each line with its line end
    frames, quotes = [], 0
    for start in range(0, len(bodies), BLOCK):
        after = min(start + BLOCK, len(bodies))
        block = text[int(ends[start - 1]) if start else 0 : int(ends[after - 1]) - 1]
        frame = _readable(block, bodies[start:after], decodes)
        if frame is None:
            return None
        frames.append(frame)
        quotes += int(np.count_nonzero(np.frombuffer(block, np.uint8) == ord('"')))
    frame = pl.concat(frames, rechunk=True)
    plain = ~pl.col("event_id").str.contains(NOT_A_TEXT) & ~pl.col("session_id").str.contains(NOT_A_TEXT)
    sure = frame.select((judge() & plain).fill_null(value=False).alias("sure"))["sure"].to_numpy().copy()
    return frame, _as_many_quotes(bodies, quotes, frame["rating"].is_not_null().to_numpy(), sure)

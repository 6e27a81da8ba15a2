"""What stands beside, held to a recompute outside ClickHouse: every row that changed records owe to a table behind is there, with its values.

In: landing rows, a table beside. Out: how many owed rows were found. Keep: shares the recompute of `./weir verify events` and nothing with the SQL that built the table;
both sides are digests in files, compared bucket by bucket.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from weir.contracts.clickhouse import literal
from weir.errors import ContractViolation
from weir.ingest.clickhouse import ClickHouse
from weir.ingest.verify import landing, spill, views

PAGE_ROWS: Final = 50_000


def _pages(client: ClickHouse, topic: str, source: str, where: str) -> Iterator[pl.DataFrame]:
    """Yield landing rows of a table in order of partition and offset."""
    at = (-1, -1)
    while True:
        found = landing.frame(client.select(
            f"SELECT {landing.rendered(landing.COLUMNS)} FROM {source} WHERE topic = {literal(topic)} AND (partition > {at[0]} OR partition = {at[0]} AND offset > {at[1]}) AND {where} "
            f"ORDER BY partition, offset LIMIT {PAGE_ROWS} WITH TIES"))
        if found.is_empty():
            return
        yield found
        at = int(found["partition"][-1]), int(found["offset"][-1])


def lacking(owed: Any, found: Any) -> int:
    """Return how many keys of `owed` (DIGEST rows) have none of their owed values in `found`. Pure."""
    pairs = np.concatenate([owed, found])[["key", "value"]]
    keys, inverse = np.unique(np.concatenate([owed["key"], found["key"]]).view("V16").ravel(), return_inverse=True)
    _, pair = np.unique(np.column_stack([inverse.astype("<u8"), pairs["value"]]), axis=0, return_inverse=True)
    mine, theirs = pair.ravel()[: len(owed)], pair.ravel()[len(owed) :]
    there = np.zeros(len(keys), bool)
    there[inverse[: len(owed)][np.isin(mine, theirs)]] = True
    return int(len(np.unique(inverse[: len(owed)])) - there.sum())


def held(client: ClickHouse, topic: str, table: str, beside: str, source: tuple[str, str], found: tuple[str, int], scratch: Path, span_ms: tuple[int, int]) -> int:
    """See that every row that landing rows owe to `table` is in the one beside; return how many they owe, -1 where no recompute of the table is known.

    `source`: a table of landing rows, and which of them; `found`: the condition for rows of the table beside that may be theirs, and how many those are; `span_ms`: now, and the horizon.

    Raises:
        ContractViolation: one is not, or is another.
    """
    recompute = views.RECOMPUTED.get(table)
    if recompute is None:
        return -1
    where, kept = recompute.kept(*span_ms)
    fold, sides, count = recompute.fold(), spill.Sides(scratch / f"replay-{table}", found[1]), 0

    def owe(rows: pl.DataFrame | None) -> int:
        if rows is None or rows.is_empty():
            return 0
        mine = rows.filter(kept)
        sides.add("owed", spill.digests(views.settled(mine), recompute.key, sorted(recompute.columns)))
        return len(mine)

    for page in _pages(client, topic, *source):
        count += owe(fold.rows(page))
    count += owe(fold.rest())
    for block in client.select(f"SELECT {landing.rendered(dict(recompute.columns))} FROM {beside} WHERE {found[0]} AND {recompute.where} AND {where}"):
        frame = pl.from_arrow(block)
        if isinstance(frame, pl.DataFrame) and len(frame):
            sides.add("found", spill.digests(recompute.placed(views.settled(frame), span_ms[1]), recompute.key, sorted(recompute.columns)))
    missing = sum(lacking(mine, theirs) for mine, theirs in sides.pairs())
    if missing:
        raise ContractViolation(f"{missing} of {count} rows that the range owes to {table} are not in {beside}, recomputed outside ClickHouse", hint="run it again; the live tables serve on")
    return count

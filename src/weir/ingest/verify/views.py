"""What each table behind the landing table must hold, recomputed from landed rows outside ClickHouse.

In: landed rows, in order of partition and offset. Out: the rows that they owe to a table, each with the offsets that it came from. Keep: shares no line with
ingest/ddl and dbt; a table without a recompute here, or with other columns, is *unknown*.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import polars as pl

from weir.contracts import names
from weir.contracts.events import EVENT_SCHEMA_VERSION
from weir.contracts.retention import Retention
from weir.ingest.verify.outcome import OUTLIVED, UNPLACED

MINUTE_MS: Final = 60_000
DAY_MS: Final = 86_400_000
TTL_MARGIN_MS: Final = 10 * MINUTE_MS  # what a TTL takes while the verification runs is judged on neither side
PLACE: Final = {"at_partition": pl.Int64, "at_first": pl.Int64, "at_last": pl.Int64, "at_rows": pl.Int64}


Place = tuple[pl.Expr, pl.Expr, pl.Expr, pl.Expr]


class Fold(Protocol):
    """Makes a view's rows of landed ones, chunk after chunk."""

    def rows(self, landed: pl.DataFrame) -> pl.DataFrame:
        """Return what a chunk owes; rows that the next chunk may still change are held back."""

    def rest(self) -> pl.DataFrame | None:
        """Return what was held back."""


@dataclass(frozen=True, slots=True)
class Recompute:
    """One table: its key, its columns with how they are rendered, its fold.

    `kept`: which rows are judged, as SQL and the same here, at a time and a horizon (ms): the landing table's TTL may have taken what was produced before it.
    `place`: how its rows say partition, first and last offset and number of records, for tables that know them. `is_set`: how often a key stands means nothing.
    """

    key: tuple[str, ...]
    columns: Mapping[str, str]
    fold: Callable[[], Fold]
    where: str = "1"
    kept: Callable[[int, int], tuple[str, pl.Expr]] = lambda _now_ms, _horizon_ms: ("1", pl.lit(value=True))
    place: Callable[[int], Place] = lambda _horizon_ms: (pl.lit(UNPLACED), pl.lit(0), pl.lit(0), pl.lit(1))
    deduplicates: bool = False  # a record whose key stood before is the same row once more
    is_set: bool = False

    def placed(self, frame: pl.DataFrame, horizon_ms: int) -> pl.DataFrame:
        """Return rows read from the table with the columns of `PLACE`."""
        return frame.with_columns(e.cast(pl.Int64).alias(n) for n, e in zip(PLACE, self.place(horizon_ms), strict=True))


_HERE: Final = [pl.col("partition").alias("at_partition"), pl.col("offset").alias("at_first"), pl.col("offset").alias("at_last"), pl.lit(1, pl.Int64).alias("at_rows")]


class _Each:
    """A view that takes rows one by one."""

    def __init__(self, where: pl.Expr, columns: Mapping[str, pl.Expr]) -> None:
        self._where, self._columns = where, [e.alias(n) for n, e in columns.items()]

    def rows(self, landed: pl.DataFrame) -> pl.DataFrame:
        return landed.filter(self._where).select(*self._columns, *_HERE)

    def rest(self) -> None:
        return None


class _Ledger:
    """One row a batch and partition. A chunk's end may cut a batch, so the last batch of each chunk waits for the next."""

    _ROWS: Final = {"partition": pl.Int64, "batch": pl.Binary, "first_offset": pl.Int64, "last_offset": pl.Int64, "rows": pl.Int64, "rejected": pl.Int64,
                    "max_produced_at": pl.Int64, "offsets": pl.Int64}

    def __init__(self) -> None:
        self._held = pl.DataFrame(schema=self._ROWS)

    def rows(self, landed: pl.DataFrame) -> pl.DataFrame:
        if landed.is_empty():
            return self._out(pl.DataFrame(schema=self._ROWS))
        fresh = landed.group_by("partition", "batch").agg(
            pl.col("offset").min().alias("first_offset"), pl.col("offset").max().alias("last_offset"), pl.len().cast(pl.Int64).alias("rows"),
            (pl.col("reject_reason") != b"").sum().cast(pl.Int64).alias("rejected"), pl.col("produced_at").max().alias("max_produced_at"),
            pl.col("offset").n_unique().cast(pl.Int64).alias("offsets"),
        )
        merged = pl.concat([self._held, fresh.select(list(self._ROWS))]).group_by("partition", "batch").agg(
            pl.col("first_offset").min(), pl.col("last_offset").max(), pl.col("rows").sum(), pl.col("rejected").sum(), pl.col("max_produced_at").max(),
            pl.col("offsets").sum(),
        ).select(list(self._ROWS))
        open_one = (pl.col("partition") == landed["partition"][-1]) & (pl.col("batch") == landed["batch"][-1])
        self._held = merged.filter(open_one)
        return self._out(merged.filter(~open_one))

    def rest(self) -> pl.DataFrame:
        held, self._held = self._held, pl.DataFrame(schema=self._ROWS)
        return self._out(held)

    @staticmethod
    def _out(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(pl.col("partition").alias("at_partition"), pl.col("first_offset").alias("at_first"), pl.col("last_offset").alias("at_last"),
                                  pl.col("offsets").alias("at_rows"))


_ACCEPTED: Final = pl.col("reject_reason") == b""
_MS: Final = "toUnixTimestamp64Milli({})"
_OURS: Final = f"topic = '{names.TOPIC_USER_EVENTS}'"


def _columns(*columns: str) -> dict[str, pl.Expr]:
    return {c: pl.col(c) for c in columns}


def _since(column: str) -> Callable[[int, int], tuple[str, pl.Expr]]:
    return lambda _now_ms, horizon_ms: (f"{_MS.format(column)} >= {horizon_ms}", pl.col(column) >= horizon_ms)


def _within_two_days(now_ms: int, _horizon_ms: int) -> tuple[str, pl.Expr]:
    cut = (now_ms - 2 * DAY_MS + TTL_MARGIN_MS) // MINUTE_MS * MINUTE_MS
    return f"minute > toDateTime({cut // 1000}, 'UTC')", pl.col("minute") > cut


def _within_history(now_ms: int, _horizon_ms: int) -> tuple[str, pl.Expr]:
    """Judge the days that the table's TTL keeps for a day yet: an event may land long after its day."""
    cut = now_ms // DAY_MS - Retention.from_environment(os.environ).history + 1
    return f"toInt64(day) > {cut}", pl.col("day") > cut


class _Members:
    """A set of users by day and country."""

    def rows(self, landed: pl.DataFrame) -> pl.DataFrame:
        made = landed.filter(_ACCEPTED).select((pl.col("occurred_at") // DAY_MS).alias("day"), "country", pl.col("user_id").alias("users"), *_HERE)
        return made.unique(["day", "country", "users"], keep="first", maintain_order=True)

    def rest(self) -> None:
        return None


def _member_place(horizon_ms: int) -> Place:
    """Say of a member of a day that its record may be from before the horizon, unless the day began after it: events are at most minutes ahead of their records."""
    return pl.when(pl.col("day") > horizon_ms // DAY_MS).then(UNPLACED).otherwise(OUTLIVED), pl.lit(0), pl.lit(0), pl.lit(1)


_ACTIVE: Final = {"day": "toInt64(day)", "country": "country", "users": "toInt64(arrayJoin(bitmapToArray(users)))"}
_USER: Final = {
    "user_id": "user_id", "occurred_at": _MS.format("occurred_at"), "event_id": "event_id", "item_id": "item_id", "event_type": "toString(event_type)",
    "rating": "rating", "session_id": "session_id", "country": "toString(country)", "produced_at": _MS.format("produced_at"),
}
_ITEM: Final = {
    "minute": "toInt64(toUnixTimestamp(minute)) * 1000", "item_id": "item_id", "event_id": "event_id", "occurred_at": _MS.format("occurred_at"),
    "event_type": "toString(event_type)", "country": "toString(country)",
}
_QUARANTINE: Final = {
    "partition": "toInt64(partition)", "offset": "toInt64(offset)", "batch": "batch", "produced_at": _MS.format("produced_at"),
    "reject_reason": "toString(reject_reason)", "raw": "raw", "traceparent": "traceparent", "contract_version": "toInt64(contract_version)",
}
_LEDGER: Final = {
    "partition": "toInt64(partition)", "batch": "batch", "first_offset": "toInt64(first_offset)", "last_offset": "toInt64(last_offset)", "rows": "toInt64(rows)",
    "rejected": "toInt64(rejected)", "max_produced_at": _MS.format("max_produced_at"),
}
_MINUTE: Final = pl.col("occurred_at") - pl.col("occurred_at") % MINUTE_MS

RECOMPUTED: Final[Mapping[str, Recompute]] = {
    names.QUARANTINE: Recompute(
        ("partition", "offset"), _QUARANTINE, lambda: _Each(~_ACCEPTED, _columns(*_QUARANTINE) | {"contract_version": pl.lit(EVENT_SCHEMA_VERSION, pl.Int64)}), _OURS, _since("produced_at"),
        place=lambda _horizon_ms: (pl.col("partition"), pl.col("offset"), pl.col("offset"), pl.lit(1)),
    ),
    names.LEDGER: Recompute(
        ("partition", "batch"), _LEDGER, _Ledger, _OURS, _since("max_produced_at"),
        place=lambda _horizon_ms: (pl.col("partition"), pl.col("first_offset"), pl.col("last_offset"), pl.col("rows")),
    ),
    f"{names.DB_STAGING}.int_user_events": Recompute(
        ("user_id", "occurred_at", "event_id"), _USER, lambda: _Each(_ACCEPTED, _columns(*_USER)), kept=_since("produced_at"), deduplicates=True,
    ),
    f"{names.DB_STAGING}.int_active_users": Recompute(("day", "country", "users"), _ACTIVE, _Members, kept=_within_history, place=_member_place, is_set=True),
    f"{names.DB_STAGING}.int_item_events": Recompute(
        ("minute", "item_id", "event_id"), _ITEM,
        lambda: _Each(_ACCEPTED & (pl.col("occurred_at") > pl.col("produced_at") - DAY_MS), {**_columns(*_ITEM), "minute": _MINUTE}), kept=_within_two_days,
    ),
}


def settled(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a table's rows in the types of the recompute: whole numbers Int64, texts bytes."""
    def kind(dtype: Any) -> Any:
        return pl.Int64 if dtype.is_integer() else pl.Float32 if dtype.is_float() else pl.Binary

    return frame.with_columns(pl.col(c).cast(kind(d)) for c, d in frame.schema.items())

"""What the walk over landed events found lately: for `./weir status`, the page, and the verdict's JSON.

In: ops.event_windows. Out: `EventFacts`. Keep: None where it could not be asked, never zero; each count says through which record it holds and how far back repeats were sought.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

from weir.contracts import names
from weir.contracts.clickhouse import literal
from weir.quality import terminal
from weir.quality.ask import query
from weir.quality.event_windows import BACK_ROWS, BACK_S, TOPIC

OVER_H: Final = 24
BEHIND_MS: Final = 10 * 60_000  # a walk so far behind what landed has stopped, or is at its share of a core under a peak
SHOWN: Final = 8  # restated windows, the newest


@dataclass(frozen=True, slots=True)
class EventFacts:
    """Sums over the windows looked through in the last OVER_H hours. Times in ms, None: there is none. `hours`, `days`: restated windows (start, events), newest first.

    `through_ms`: Kafka timestamp of the newest event looked through; `landed_ms`: of the newest landed; `back_to_ms`: how far back the newest window sought repeats.
    """

    windows: int
    rows: int
    late_1h: int
    late_1d: int
    late_ms_max: int
    hours_restated: int
    days_restated: int
    hours: tuple[tuple[int, int], ...]
    days: tuple[tuple[str, int], ...]
    repeated: int
    conflicting: int
    again_by_user: int
    again_by_item: int
    places: tuple[str, ...]
    through_ms: int | None
    landed_ms: int | None
    back_to_ms: int | None
    back_rows: int
    cost_s: float

    @property
    def behind_ms(self) -> int | None:
        """Return how much newer the newest landed event is than the newest looked through; None: not known."""
        if self.landed_ms is None:
            return 0
        return None if self.through_ms is None else max(0, self.landed_ms - self.through_ms)


_SUMS: Final = f"""
SELECT count() AS windows, sum(w.rows) AS rows, sum(w.late_1h) AS late_1h, sum(w.late_1d) AS late_1d, max(w.late_ms_max) AS late_ms_max,
       sumMap(w.hours) AS hours, sumMap(w.days) AS days, sum(w.repeated) AS repeated, sum(w.conflicting) AS conflicting,
       sum(w.again_by_user) AS again_by_user, sum(w.again_by_item) AS again_by_item, groupArrayArray(5)(w.places) AS places,
       toUnixTimestamp64Milli(argMax(w.back_to, w.number)) AS back_to, argMax(w.back_rows, w.number) AS back_rows, sum(w.cost_s) AS cost_s
FROM (SELECT * FROM {names.EVENT_WINDOWS} FINAL WHERE topic = {literal(TOPIC)} AND checked_at >= now64(3) - INTERVAL {OVER_H} HOUR ORDER BY number DESC) AS w
"""
_THROUGH: Final = f"SELECT count() AS n, toUnixTimestamp64Milli(max(newest_at)) AS at FROM {names.EVENT_WINDOWS} WHERE topic = {literal(TOPIC)} AND newest_at > toDateTime64(0, 3)"
_LANDED: Final = f"SELECT count() AS n, toUnixTimestamp64Milli(max(produced_at)) AS at FROM {names.LANDING_EVENTS}"


def ask(url: str) -> EventFacts | None:
    """Return what was found in the last OVER_H hours; None: could not be asked, or ingest has not made the table yet."""
    sums, through, landed = query(url, _SUMS), query(url, _THROUGH), query(url, _LANDED)
    if not sums or not through or not landed:
        return None
    return parse(sums[0], *(int(r[0]["at"]) if int(r[0]["n"]) else None for r in (through, landed)))


def parse(row: Mapping[str, Any], through_ms: int | None, landed_ms: int | None) -> EventFacts:
    """Read the row of `_SUMS`. Pure."""
    hours = sorted(((int(datetime.fromisoformat(f"{at}+00:00").timestamp()) * 1000, int(n)) for at, n in row["hours"].items()), reverse=True)
    days = sorted(((str(day), int(n)) for day, n in row["days"].items()), reverse=True)
    return EventFacts(
        int(row["windows"]), int(row["rows"]), int(row["late_1h"]), int(row["late_1d"]), int(row["late_ms_max"]), len(hours), len(days), tuple(hours[:SHOWN]), tuple(days[:SHOWN]),
        int(row["repeated"]), int(row["conflicting"]), int(row["again_by_user"]), int(row["again_by_item"]), tuple(row["places"]), through_ms, landed_ms,
        int(row["back_to"]) or None, int(row["back_rows"]), float(row["cost_s"]),
    )


def document(found: EventFacts | None) -> dict[str, Any] | None:
    """Return it for JSON, with the windows that the counts hold in. Pure."""
    if found is None:
        return None
    restated = {"hours": [{"from_ms": at, "events": n} for at, n in found.hours], "days": [{"day": day, "events": n} for day, n in found.days]}
    return asdict(found) | restated | {"behind_ms": found.behind_ms, "over_h": OVER_H, "sought_back_rows_max": BACK_ROWS, "sought_back_s_max": BACK_S,
                                       "same_contents": found.repeated - found.conflicting}


def lines(found: EventFacts | None) -> list[str]:
    """Return it for reading. Pure."""
    if found is None:
        return ["late and repeated events: unknown, ClickHouse could not be asked or has no windows of them yet"]
    if found.behind_ms is None:
        return ["late and repeated events: unknown, none of what landed was looked through yet: ./weir logs quality"]
    behind = "" if (found.behind_ms or 0) < BEHIND_MS else f"; {terminal.age(found.behind_ms)} behind what landed, so newer ones are unknown: ./weir logs quality"
    late = (f"late events: {found.late_1h:,} by more than 1 h, {found.late_1d:,} by more than 1 d (most {terminal.age(found.late_ms_max)}) of {found.rows:,} in {OVER_H} h;"
            f" restated: {_windows(found.hours_restated, 'hour')}, {_windows(found.days_restated, 'day')}{behind}")
    sought = "within one window alone" if found.back_to_ms is None else f"back to {datetime.fromtimestamp(found.back_to_ms // 1000, UTC):%Y-%m-%d %H:%M:%S} UTC, {found.back_rows:,} events"
    repeated = f"repeated event ids: {found.repeated:,} in {OVER_H} h (the newest sought {sought}), {found.repeated - found.conflicting:,} with the same contents, counted once"
    if not found.conflicting:
        return [late, repeated]
    conflicting = (f"conflicting event ids: {found.conflicting:,} with other contents, of which {found.again_by_user:,} count again by user and {found.again_by_item:,} by item;"
                   f" such as {', '.join(f'{TOPIC}/{place}' for place in found.places)}")
    return [late, repeated, conflicting]


def _windows(count: int, grain: str) -> str:
    return f"{count:,} {grain}{'' if count == 1 else 's'}"

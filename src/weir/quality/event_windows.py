"""Windows of landed events in which what is late, repeated or in conflict is counted: their rule, their questions as SQL. Pure.

In: marks, the window before. Out: the next `Span`s, SELECTs, an `EventWindow`. Keep: a window begins where the one before ended, so each event is counted in one; both
questions read by the primary key; how far back repeats were sought is part of the answer. The rule and its costs: docs/decisions/0019-duplicates-and-late-events.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from weir.contracts import names
from weir.contracts.clickhouse import literal
from weir.quality.marks import Key, Mark

TOPIC: Final = names.TOPIC_USER_EVENTS
STEP: Final = 4_000_000  # offsets of one window: their hashed ids are a set of 128 MB in ClickHouse
LEAST: Final = 1 << 14  # offsets: a window that ClickHouse could not answer is asked for in halves, down to this
BACK_ROWS: Final = 16_000_000  # events before a window among which repeats are sought: 9.6 minutes at 100 M events an hour
BACK_S: Final = 24 * 3600  # and never further back than this
WINDOWS_BACK: Final = 10_000  # rows of ops.event_windows read to find where that begins; a window is at least 10 s
LISTED: Final = 10_000  # ids in the text of a question; past that it finds them a second time
PLACES: Final = 5
MEMORY_BYTES: Final = 1_500_000_000

Position = Mapping[int, int]  # partition to offset


@dataclass(frozen=True, slots=True)
class Span:
    """What one window looks at: of each partition offsets `first` to below `next`, and repeats from `back` on. `back_rows`: events between; `back_to_ms`: 0 for none."""

    first: Position
    next: Position
    back: Position = field(default_factory=dict)
    back_rows: int = 0
    back_to_ms: int = 0

    @property
    def offsets(self) -> int:
        """Return how many offsets are looked at."""
        return sum(n - self.first[p] for p, n in self.next.items())


@dataclass(frozen=True, slots=True)
class Times:
    """Of a window: accepted events, the Kafka timestamps (ms) of all its records, how many events are late, and by hour (ms of its start) and day how many restate it."""

    rows: int = 0
    oldest_at_ms: int = 0
    newest_at_ms: int = 0
    late_1h: int = 0
    late_1d: int = 0
    late_ms_max: int = 0
    hours: Mapping[int, int] = field(default_factory=dict)
    days: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Repeats:
    """Of a window: events whose id was met before, and among those the ones with other contents and what they do to the keyed tables (see the DDL)."""

    repeated: int = 0
    conflicting: int = 0
    again_by_user: int = 0
    again_by_item: int = 0
    places: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EventWindow:
    """A window as it is kept. See ingest/ddl/06_event_windows.sql."""

    number: int
    span: Span
    times: Times
    repeats: Repeats
    cost_s: float
    checked_at_ms: int


def waiting(position: Position, marks: Mapping[Key, Mark]) -> int:
    """Return how many offsets below the marks lie past the position."""
    return sum(max(0, m.next - position.get(p, m.first)) for (t, p), m in marks.items() if t == TOPIC)


def begun(marks: Mapping[Key, Mark]) -> dict[int, int]:
    """Return where the first window begins: at the first landed event, where the history is longer than BACK_ROWS so many before the marks."""
    mine = {p: m for (t, p), m in marks.items() if t == TOPIC}
    return {p: max(m.first, m.next - BACK_ROWS // len(mine)) for p, m in mine.items()}


def following(position: Position, marks: Mapping[Key, Mark], step: int) -> Span | None:
    """Return the next window: of each partition an equal share of `step` offsets at most; None: nothing waits. Partitions that have nothing keep their place."""
    ends = {p: m for (t, p), m in marks.items() if t == TOPIC}
    first = {p: position.get(p, m.first) for p, m in ends.items()} | {p: at for p, at in position.items() if p not in ends}
    behind = [p for p, m in ends.items() if m.next > first[p]]
    if not behind:
        return None
    share = max(1, step // len(behind))
    return Span(first, {p: min(max(at, ends[p].next), at + share) if p in ends else at for p, at in first.items()})


def _ranges(low: Position, high: Position, which: str = "reject_reason = ''") -> str:
    found = [f"(partition = {p} AND offset >= {low.get(p, at)} AND offset < {at})" for p, at in sorted(high.items()) if at > low.get(p, at)]
    return f"topic = {literal(TOPIC)} AND {which} AND ({' OR '.join(found) or '0'})"


_HASH: Final = "cityHash64(event_id)"
_LIMITS: Final = f"max_threads = 1, max_memory_usage = {MEMORY_BYTES}, max_bytes_before_external_group_by = {MEMORY_BYTES // 4}"


def times_sql(span: Span) -> str:
    """Return the SELECT of a window's lateness: a row an hour of event time, and one of what was rejected, which has only Kafka timestamps."""
    late = "(toUnixTimestamp64Milli(produced_at) - toUnixTimestamp64Milli(occurred_at))"
    return (
        "SELECT toUnixTimestamp(toStartOfHour(occurred_at)) AS hour, toString(toDate(occurred_at)) AS day, reject_reason = '' AS accepted, count() AS n,"
        f" countIf({late} > 3600000) AS late_1h,"
        f" countIf({late} > 86400000) AS late_1d, max({late}) AS late_max, countIf(toStartOfHour(occurred_at) + INTERVAL 1 HOUR <= produced_at) AS restates_hour,"
        " countIf(toStartOfDay(occurred_at) + INTERVAL 1 DAY <= produced_at) AS restates_day, toUnixTimestamp64Milli(min(produced_at)) AS oldest,"
        f" toUnixTimestamp64Milli(max(produced_at)) AS newest FROM {names.LANDING_EVENTS} WHERE {_ranges(span.first, span.next, '1')} GROUP BY hour, day, accepted SETTINGS {_LIMITS}"
    )


def met_sql(span: Span) -> str:
    """Return the SELECT of the hashed ids that come more than once in the window, or in it and before it."""
    new = f"SELECT {_HASH} AS h FROM {names.LANDING_EVENTS} WHERE {_ranges(span.first, span.next)}"
    within = f"{new} GROUP BY h HAVING count() > 1"
    if not span.back:
        return within
    return f"{within} UNION ALL SELECT {_HASH} AS h FROM {names.LANDING_EVENTS} WHERE {_ranges(span.back, span.first)} AND h IN ({new})"


def listed_sql(span: Span) -> str:
    """Return the SELECT of those ids as one array, of at most one more than LISTED."""
    return f"SELECT groupUniqArray({LISTED + 1})(h) AS ids FROM ({met_sql(span)}) SETTINGS {_LIMITS}"


def repeats_sql(span: Span, ids: Sequence[int]) -> str:
    """Return the SELECT of what is repeated and in conflict. `ids`: the hashed ids to look at, where they are at most LISTED. A collision of hashes is told apart by the id."""
    among = ", ".join(map(str, ids)) if len(ids) <= LISTED else f"SELECT h FROM ({met_sql(span)})"
    low = {p: span.back.get(p, at) for p, at in span.first.items()}
    partitions, firsts = ", ".join(map(str, span.first)), ", ".join(f"toUInt64({n})" for n in span.first.values())
    rows = (
        f"SELECT event_id, offset >= transform(toUInt64(partition), [{partitions}], [{firsts}], toUInt64(0)) AS new, partition, offset,"
        " cityHash64(partition, offset) AS place, cityHash64(user_id, occurred_at) AS user_key, cityHash64(item_id, toStartOfMinute(occurred_at)) AS item_key,"
        " cityHash64(user_id, occurred_at, item_id, event_type, ifNull(rating, -1), session_id, country) AS contents, occurred_at > produced_at - INTERVAL 1 DAY AS in_items"
        f" FROM {names.LANDING_EVENTS} WHERE {_ranges(low, span.next)} AND {_HASH} IN ({among})"
    )
    by_id = (
        "SELECT event_id, uniqExactIf(place, new) AS fresh, uniqExactIf(place, NOT new) AS earlier, uniqExact(contents) AS held, uniqExactIf(contents, NOT new) AS before,"
        " uniqExact(user_key) AS users, uniqExactIf(user_key, NOT new) AS users_before, uniqExactIf(item_key, in_items) AS items,"
        " uniqExactIf(item_key, in_items AND NOT new) AS items_before, argMax((partition, offset), (new, offset)) AS last"
        f" FROM ({rows}) GROUP BY event_id HAVING fresh > 0"
    )
    return (
        "SELECT sum(fresh - (earlier = 0)) AS repeated, sum(held - greatest(before, 1)) AS conflicting, sum(users - greatest(users_before, 1)) AS again_by_user,"
        " sum(greatest(items, 1) - greatest(items_before, 1)) AS again_by_item,"
        f" groupArrayIf({PLACES})(concat(toString(last.1), '/', toString(last.2)), held > greatest(before, 1)) AS places FROM ({by_id}) SETTINGS {_LIMITS}"
    )


def last_sql() -> str:
    """Return the SELECT of the newest window."""
    return f"SELECT number, next FROM {names.EVENT_WINDOWS} FINAL WHERE topic = {literal(TOPIC)} ORDER BY number DESC LIMIT 1"


def back_sql(number: int) -> str:
    """Return the SELECT of how far back the windows up to `number` reach within BACK_ROWS and BACK_S."""
    newest_first = (
        f"SELECT number, first, rows, oldest_at, checked_at, sum(rows) OVER (ORDER BY number DESC) AS total FROM {names.EVENT_WINDOWS} FINAL"
        f" WHERE topic = {literal(TOPIC)} AND number > {max(0, number - WINDOWS_BACK)}"
    )
    return (
        "SELECT count() AS n, argMin(first, number) AS back, sum(rows) AS back_rows, toUnixTimestamp64Milli(minIf(oldest_at, oldest_at > toDateTime64(0, 3))) AS oldest"
        f" FROM ({newest_first}) WHERE total <= {BACK_ROWS} AND checked_at >= now64(3) - INTERVAL {BACK_S} SECOND"
    )


def position(row: Mapping[str, int | str]) -> dict[int, int]:
    """Read a map of partitions to offsets, whose keys JSON makes texts."""
    return {int(p): int(n) for p, n in row.items()}


def times(rows: Sequence[Mapping[str, Any]]) -> Times:
    """Add up the rows of `times_sql`."""
    oldest, newest = min((int(r["oldest"]) for r in rows), default=0), max((int(r["newest"]) for r in rows), default=0)
    rows = [r for r in rows if int(r["accepted"])]
    days: dict[str, int] = {}
    for r in rows:
        if int(r["restates_day"]):
            days[r["day"]] = days.get(r["day"], 0) + int(r["restates_day"])
    return Times(
        sum(int(r["n"]) for r in rows), oldest, newest,
        sum(int(r["late_1h"]) for r in rows), sum(int(r["late_1d"]) for r in rows), max((0, *(int(r["late_max"]) for r in rows))),
        {int(r["hour"]) * 1000: int(r["restates_hour"]) for r in rows if int(r["restates_hour"])}, days,
    )


def repeats(row: Mapping[str, Any]) -> Repeats:
    """Read the row of `repeats_sql`."""
    return Repeats(int(row["repeated"]), int(row["conflicting"]), int(row["again_by_user"]), int(row["again_by_item"]), tuple(row["places"]))


def _time(ms: int, *, whole: bool = False) -> str:
    at = f"{datetime.fromtimestamp(ms // 1000, UTC):%Y-%m-%d %H:%M:%S}"
    return at if whole else f"{at}.{ms % 1000:03d}"


def document(w: EventWindow) -> dict[str, Any]:
    """Return a window as a row to insert."""
    return {
        "topic": TOPIC, "number": w.number, "first": dict(w.span.first), "next": dict(w.span.next), "rows": w.times.rows, "oldest_at": _time(w.times.oldest_at_ms),
        "newest_at": _time(w.times.newest_at_ms), "late_1h": w.times.late_1h, "late_1d": w.times.late_1d, "late_ms_max": w.times.late_ms_max,
        "hours": {_time(at, whole=True): n for at, n in w.times.hours.items()}, "days": dict(w.times.days), "back_to": _time(w.span.back_to_ms),
        "back_rows": w.span.back_rows, "repeated": w.repeats.repeated, "conflicting": w.repeats.conflicting, "again_by_user": w.repeats.again_by_user,
        "again_by_item": w.repeats.again_by_item, "places": list(w.repeats.places), "cost_s": round(w.cost_s, 3), "checked_at": _time(w.checked_at_ms),
    }

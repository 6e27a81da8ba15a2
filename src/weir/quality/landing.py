"""What ClickHouse tells of landed rows: those above the marks in one look, those of given windows, and a table's totals from its parts' metadata.

In: a URL, marks or windows, Kafka's offsets. Out: a `Landed` a partition. Keep: rows are read by the primary key from the marks on, so that a look costs what is
new; a table's totals and the rows above its marks are told of one and the same state of it; None: could not be asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from weir.contracts import names
from weir.contracts.clickhouse import literal
from weir.quality.ask import Offsets, query
from weir.quality.marks import NONE, Key, Mark, compared

LOOK_RECORDS: Final = 4_000_000  # above the marks of a table; 45 s of the planned peak. More wait for `weir.quality.advance`
LOOK_ROWS: Final = 16 * LOOK_RECORDS  # a granule of 8192 rows is read for each partition and part; a table whose rows no mark explains stops here too
LATE_MS: Final = 120_000  # rows above the marks are looked for in parts with rows as new as this before the newest mark; where they do not explain the totals, in whole days
TRIES: Final = 4

SETTLED_MS: Final = 60_000  # a record may wait so long in its producer, or be stamped by a clock so wrong, before the topic's end counts it

# When the newest event of a table occurred: events by their own time, changes by their commit's.
_OCCURRED: Final[Mapping[str, str]] = {
    names.LANDING_EVENTS: "maxIf(occurred_at, reject_reason = '')",
    names.LANDING_CDC: "ifNull(max(source_at), toDateTime64(0, 3, 'UTC'))",
    names.LANDING_CATALOGUE: "toDateTime64(0, 3, 'UTC')",
}
# Both reads of the one query are of the same parts: without it a batch could land between them.
_TOGETHER: Final = "enable_shared_storage_snapshot_in_query = 1, optimize_use_implicit_projections = 1"


@dataclass(frozen=True, slots=True)
class Landed:
    """Rows of one topic partition in its landing table, from an offset on. All but `days`, `max` and the times are of those below the commit.

    `days`: all rows by day (ISO); `held`: rows of the days that are compared with the ledger; `owed`: distinct offsets that Kafka still has.
    """

    rows: int = 0
    held: int = 0
    distinct: int = 0
    owed: int = 0
    max: int | None = None
    newest_at_ms: int | None = None
    occurred_at_ms: int | None = None
    days: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Above:
    """One look at a landing table: its rows by day, and what lies above the marks."""

    totals: Mapping[str, int]
    landed: Mapping[Key, Landed]


def _by_key(values: Mapping[Key, int]) -> str:
    """Return an SQL expression: the value of the row's topic partition, 0 where there is none. Pure."""
    if not values:
        return "toUInt64(0)"
    keys = ", ".join(literal(f"{t}/{p}") for t, p in values)
    return f"transform(concat(toString(topic), '/', toString(partition)), [{keys}], [{', '.join(f'toUInt64({n})' for n in values.values())}], toUInt64(0))"


def _grouped(table: str, where: str, below: str, begins: Mapping[Key, int], newer: str, since: str) -> str:
    """Return the SELECT of landed rows by topic and partition. `below`: whether a row is below the commit; `newer`: whether it may be newer than Kafka's answer. Pure."""
    known = f"{below} AND offset >= {_by_key(begins)}"
    by_day = (
        f"SELECT topic, partition, toDate(produced_at) AS day, count() AS n, countIf({below}) AS under, countIf({below} AND produced_at {compared(since)}) AS compared,"
        f" uniqExactIfState(offset, {below}) AS uniques, uniqExactIfState(offset, {known}) AS in_kafka, maxIf(offset, NOT ({newer})) AS highest,"
        f" countIf(NOT ({newer})) AS older, max(produced_at) AS newest, {_OCCURRED[table]} AS occurred FROM {table} WHERE {where} GROUP BY topic, partition, day"
    )
    return (
        "SELECT toString(topic) AS topic, partition, groupArray(toString(day)) AS d, groupArray(n) AS c, sum(under) AS rows, sum(compared) AS held,"
        " uniqExactIfMerge(uniques) AS distinct, uniqExactIfMerge(in_kafka) AS owed, max(highest) AS highest, sum(older) AS older,"
        f" toUnixTimestamp64Milli(max(newest)) AS newest, toUnixTimestamp64Milli(max(occurred)) AS occurred FROM ({by_day}) GROUP BY topic, partition"
    )


def _parse(row: Mapping[str, Any]) -> Landed:
    return Landed(int(row["rows"]), int(row["held"]), int(row["distinct"]), int(row["owed"]), int(row["highest"]) if int(row["older"]) else None,
                  int(row["newest"]) or None, int(row["occurred"]) or None, dict(zip(row["d"], map(int, row["c"]), strict=True)))


def above_sql(table: str, marks: Mapping[Key, Mark], offsets: Mapping[Key, Offsets] | None, asked_ms: int, since: str, where: str = "1") -> str:
    """Return the one SELECT of a look: the table's rows by day (topic empty), and the rows that no mark covers, by topic and partition. Pure.

    `where`: which of the rows are looked at; `asked_ms`: when Kafka was asked; rows produced about then or later may lie past its ends. Kafka away: all rows count as below the commit.
    """
    covered = " OR ".join(f"(topic = {literal(t)} AND partition = {p} AND offset < {m.next})" for (t, p), m in marks.items())
    below = "1" if offsets is None else f"offset < {_by_key({k: o.committed or 0 for k, o in offsets.items()})}"
    begins = {k: o.begin for k, o in (offsets or {}).items()}
    rows = _grouped(table, f"{where} AND NOT ({covered})" if covered else where, below, begins, f"produced_at >= fromUnixTimestamp64Milli({asked_ms - SETTLED_MS}, 'UTC')", since)
    totals = (f"SELECT '' AS topic, toUInt16(0) AS partition, groupArray(toString(day)) AS d, groupArray(n) AS c, {', '.join(f'toUInt64(0) AS {c}' for c in _COUNTS)},"
              f" toInt64(0) AS newest, toInt64(0) AS occurred FROM (SELECT toDate(produced_at) AS day, count() AS n FROM {table} GROUP BY day)")
    return f"{totals} UNION ALL {rows} SETTINGS {_TOGETHER}, max_rows_to_read = {LOOK_ROWS}"


_COUNTS: Final = ("rows", "held", "distinct", "owed", "highest", "older")


def by_day(marks: Mapping[Key, Mark]) -> dict[str, int]:
    """Return the rows below the marks by day. Pure."""
    found: dict[str, int] = {}
    for mark in marks.values():
        for day, n in mark.days.items():
            found[day] = found.get(day, 0) + n
    return found


def above(url: str, table: str, marks: Mapping[Key, Mark], offsets: Mapping[Key, Offsets] | None, asked_ms: int, since: str) -> Above | None:
    """Look at one landing table. `marks`, `offsets`: of its topics; `since`: the first day that is compared.

    Only the parts that have new rows are read, then only the days whose rows the marks do not explain: a part costs a granule for each partition, and a history has many.
    """
    below, days = by_day(marks), None
    newest = max((m.newest_at_ms for m in marks.values() if m.newest_at_ms), default=0)
    where = f"produced_at >= fromUnixTimestamp64Milli({newest - LATE_MS}, 'UTC')" if newest else "1"
    looked = None
    for _ in range(TRIES):
        found = query(url, above_sql(table, marks, offsets, asked_ms, since, where))
        if found is None:
            return None
        totals = next((dict(zip(r["d"], map(int, r["c"]), strict=True)) for r in found if not r["topic"]), {})
        looked = Above(totals, {(r["topic"], int(r["partition"])): _parse(r) for r in found if r["topic"]})
        differ = {d for d in {*totals, *below} if totals.get(d, 0) != below.get(d, 0)}
        explained = all(totals.get(d, 0) == below.get(d, 0) + sum(x.days.get(d, 0) for x in looked.landed.values()) for d in differ if d >= since)
        if explained or where == "1" or (days is not None and differ <= days):
            break
        days = differ
        where = f"toDate(produced_at) IN ({', '.join(literal(d) for d in sorted(days))})"
    return looked


def windows(url: str, table: str, ranges: Mapping[Key, tuple[int, int]], begins: Mapping[Key, int], since: str, timeout_s: float) -> dict[Key, Landed] | None:
    """Return the rows of one range of offsets in each partition, a thread's work."""
    where = " OR ".join(f"(topic = {literal(t)} AND partition = {p} AND offset >= {first} AND offset < {after})" for (t, p), (first, after) in ranges.items())
    low = {k: b for k, b in begins.items() if k in ranges and b > ranges[k][0]}
    found = query(url, f"{_grouped(table, where, '1', low, '0', since)} SETTINGS max_threads = 1", timeout_s)
    return None if found is None else {k: Landed() for k in ranges} | {(r["topic"], int(r["partition"])): _parse(r) for r in found}


def booked(url: str, ranges: Mapping[Key, tuple[int, int]], since: str, timeout_s: float) -> dict[Key, int] | None:
    """Return the rows that the ledger counts in each range, which ends where a batch does; only of days that are compared."""
    if not ranges:
        return {}
    where = " OR ".join(f"(topic = {literal(t)} AND partition = {p} AND last_offset >= {first} AND last_offset < {after})" for (t, p), (first, after) in ranges.items())
    found = query(url, f"SELECT topic, partition, sumIf(rows, max_produced_at {compared(since)}) AS n FROM {names.LEDGER} WHERE {where} GROUP BY topic, partition", timeout_s)
    return None if found is None else {(r["topic"], int(r["partition"])): int(r["n"]) for r in found}


def waiting(mark: Mark | None, at: Offsets | None) -> int:
    """Return how many offsets lie between a partition's mark and its commit. Pure."""
    return max(0, (at.committed or 0) - (mark or NONE).next) if at is not None else 0

"""The marks: below which offset each topic partition's landed rows were checked, and what was found. Their rule is docs/decisions/0017-marks.md.

In: ops.checked_windows. Out: a `Mark` a partition. Keep: a mark says only what its windows say, and they must follow one another without a hole; what could not be
read is None, never no mark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from weir.contracts import names
from weir.contracts.retention import KAFKA_MAX_DAYS
from weir.quality.ask import query
from weir.quality.judge import Check, Verdict

Key = tuple[str, int]

# Landing tables and ledger lose old rows at moments of their own: only what both must still have is compared. A batch lies within a day.
HELD_DAYS: Final = KAFKA_MAX_DAYS

RECHECK_S: Final = 24 * 3600  # a window is checked again when its check is as old as this: 15 days of 100 M events an hour are then 0.4 M rows a second
STALE_S: Final = 2 * RECHECK_S  # an older check is no answer any more


def held_from(now_ms: int) -> str:
    """Return the first day (ISO) that is compared. Pure."""
    return (datetime.fromtimestamp(now_ms / 1000, UTC).date() - timedelta(days=HELD_DAYS)).isoformat()


def compared(since: str) -> str:
    """Return what a time's column must be, as SQL, to be of a day that is compared. Pure."""
    return f">= toDateTime64('{since} 00:00:00', 3, 'UTC')"


def held(days: Mapping[str, int], since: str) -> int:
    """Return the rows of the days from `since` on. Pure."""
    return sum(n for day, n in days.items() if day >= since)


@dataclass(frozen=True, slots=True)
class Mark:
    """Of one topic partition: offsets from `first` to below `next` were checked. `days`: their rows by day (ISO); times in ms, None: there is none.

    `checked_at_ms`: the oldest check of what is still compared; `faults`: what is wrong, one a window; `whole`: no window is missing.
    """

    first: int
    next: int
    days: Mapping[str, int] = field(default_factory=dict)
    newest_at_ms: int | None = None
    occurred_at_ms: int | None = None
    checked_at_ms: int | None = None
    faults: tuple[str, ...] = ()
    whole: bool = True


NONE: Final = Mark(0, 0)

_READ: Final = """
SELECT topic, partition, min(first) AS low, max(next) AS high, sum(next - first) AS covered, sumMap(days) AS by_day,
       toUnixTimestamp64Milli(maxIf(newest_at, notEmpty(days))) AS newest, toUnixTimestamp64Milli(max(occurred_at)) AS occurred,
       toUnixTimestamp64Milli(minIf(checked_at, newest_at {held})) AS checked, countIf(newest_at {held}) AS compared,
       groupArrayIf(concat('offsets ', toString(first), ' to ', toString(next - 1), ': ', fault), fault != '' AND newest_at {held}) AS faults
FROM {table} FINAL GROUP BY topic, partition
"""


def there(url: str) -> bool | None:
    """Return whether there is a table of windows; None: could not be asked."""
    known = query(url, f"SELECT count() AS n FROM system.tables WHERE concat(database, '.', name) = '{names.CHECKED_WINDOWS}'")
    return None if known is None else bool(known[0]["n"])


def read(url: str, since: str) -> dict[Key, Mark] | None:
    """Return the marks; none before the first check; None: could not be asked. `since`: the first day that is compared."""
    known = there(url)
    if not known:
        return None if known is None else {}
    rows = query(url, _READ.format(table=names.CHECKED_WINDOWS, held=compared(since)))
    return None if rows is None else {(r["topic"], int(r["partition"])): parse(r) for r in rows}


def parse(row: Mapping[str, Any]) -> Mark:
    """Read one row of `_READ`. Pure."""
    low, high = int(row["low"]), int(row["high"])
    return Mark(
        low, high, {str(d): int(n) for d, n in row["by_day"].items()}, int(row["newest"]) or None, int(row["occurred"]) or None,
        int(row["checked"]) if int(row["compared"]) else None, tuple(row["faults"]), whole=int(row["covered"]) == high - low,
    )


def judge_totals(table: str, totals: Mapping[str, int] | None, counted: Sequence[Mapping[str, int]] | None, since: str) -> Check:
    """Compare a landing table's rows by day, as its parts' metadata tell, with what was checked below the marks and counted above them. Pure.

    `totals`: day to rows; `counted`: the same of each partition, below its mark and above it; None: could not be asked, or is too much to count in one look.
    """
    name = f"rows of {table}"
    if totals is None or counted is None:
        return Check(name, Verdict.UNKNOWN, "ClickHouse could not be asked" if totals is None else "not all above the marks was counted")
    owed: dict[str, int] = {}
    for days in counted:
        for day, n in days.items():
            owed[day] = owed.get(day, 0) + n
    wrong = [(d, totals.get(d, 0) - owed.get(d, 0)) for d in sorted({*totals, *owed}) if d >= since and totals.get(d, 0) != owed.get(d, 0)]
    if not wrong:
        return Check(name, Verdict.YES)
    told = ", ".join(f"{date.fromisoformat(d)} {abs(n)} rows {'more' if n > 0 else 'fewer'}" for d, n in wrong[:3])
    return Check(name, Verdict.NO, f"the table holds other rows than were checked: {told}{' …' if len(wrong) > 3 else ''}")  # noqa: PLR2004 - what one line shows


def judge_age(marks: Mapping[Key, Mark] | None, now_ms: int) -> Check:
    """Judge how old the oldest check is that the verdict rests on. Pure."""
    name = "checks below the marks"
    if marks is None:
        return Check(name, Verdict.UNKNOWN, "ClickHouse could not be asked")
    oldest = checked_since_ms(marks)
    if oldest is not None and now_ms - oldest > STALE_S * 1000:
        hours = (now_ms - oldest) / 3_600_000
        return Check(name, Verdict.UNKNOWN, f"the oldest is {hours:.0f} h old, and each is due after {RECHECK_S // 3600} h: ./weir logs quality")
    return Check(name, Verdict.YES)


def checked_since_ms(marks: Mapping[Key, Mark]) -> int | None:
    """Return the time (ms) since which every row below the marks was checked at least once; None: there is none. Pure."""
    return min((m.checked_at_ms for m in marks.values() if m.checked_at_ms is not None), default=None)

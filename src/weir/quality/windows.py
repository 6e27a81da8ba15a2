"""Windows: ranges of offsets of one topic partition, each checked as a whole, joined while they are small, and checked again when their check is old. Pure.

In: what ClickHouse, the ledger and Kafka tell of a range. Out: a `Window`, or nothing where it could not be told. Keep: a window that is wrong says so until a later
check finds it right; one whose records Kafka has dropped is held to what was seen when it still had them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from weir.quality.ask import Offsets
from weir.quality.judge import PartitionCount, Verdict, judge_partition
from weir.quality.landing import Landed
from weir.quality.marks import Key, held

WINDOW_ROWS: Final = 1_000_000  # a smaller last window grows with what comes: 15 days of 100 M events an hour are 36,000 windows
STEP: Final = 1 << 20  # offsets checked at once; about the rows of the largest batch


@dataclass(frozen=True, slots=True)
class Window:
    """One range, offsets `first` to below `next`. `days`: its rows by day (ISO); times in ms. See ingest/ddl/05_checked_windows.sql."""

    key: Key
    first: int
    next: int
    days: Mapping[str, int] = field(default_factory=dict)
    newest_at_ms: int = 0
    occurred_at_ms: int = 0
    checked_at_ms: int = 0
    fault: str = ""

    @property
    def rows(self) -> int:
        """Return how many rows it had when it was checked first."""
        return sum(self.days.values())


def judged(key: Key, span: tuple[int, int], landed: Landed, booked: int, at: Offsets, lost: int | None, now_ms: int) -> Window | None:
    """Judge a range by the rule of the verdict; None: Kafka could not tell. `lost`: records in its gaps; `booked`: the ledger's rows of it."""
    first, after = span
    low = min(max(first, at.begin), after)
    told = judge_partition(PartitionCount(
        *key, begin=low, end=at.end, committed=after, ledger_rows=booked, landed_rows=landed.held, landed_distinct=landed.held - (landed.rows - landed.distinct),
        landed_owed=landed.owed, landed_max=landed.max, lost=lost, mark=after,
    ))
    if told.verdict is Verdict.UNKNOWN:
        return None
    return Window(key, first, after, landed.days, landed.newest_at_ms or now_ms, landed.occurred_at_ms or 0, now_ms, told.reason)


def joined(last: Window | None, new: Window) -> Window:
    """Return the last window grown by the next one; the next one alone where the last is large, wrong, or elsewhere."""
    if last is None or last.next != new.first or last.fault or new.fault or last.rows >= WINDOW_ROWS:
        return new
    days = {d: last.days.get(d, 0) + new.days.get(d, 0) for d in {*last.days, *new.days}}
    newest = max((w.newest_at_ms for w in (last, new) if w.days), default=new.newest_at_ms)
    return Window(new.key, last.first, new.next, days, newest, max(last.occurred_at_ms, new.occurred_at_ms), min(last.checked_at_ms, new.checked_at_ms))


def again(window: Window, landed: Landed, booked: int, since: str, now_ms: int) -> Window:
    """Check a window again, without Kafka: its rows of each day from `since` on are as many as before, none twice, and the ledger says so too."""
    before, now = ({d: n for d, n in days.items() if d >= since} for days in (window.days, landed.days))
    fault = ""
    if landed.rows != landed.distinct:
        fault = f"{landed.rows - landed.distinct} rows are doubled"
    elif before != now:
        fault = f"{sum(now.values())} rows are landed where {sum(before.values())} were when it was checked first"
    elif booked != landed.held:
        fault = f"the ledger says {booked} rows, the landing table holds {landed.held}"
    return replace(window, checked_at_ms=now_ms, fault=fault)


def mended(window: Window, found: Window | None, since: str, begin: int) -> Window:
    """Return a wrong window after it was judged anew: right only where Kafka still has all its records, or no row is missing that was there."""
    if found is None:
        return window
    if not found.fault and begin > window.first and held(found.days, since) < held(window.days, since):
        return replace(window, checked_at_ms=found.checked_at_ms)
    if found.fault:
        return replace(window, checked_at_ms=found.checked_at_ms, fault=found.fault)
    return found


def span(first: int, commit: int, step: int, edges: tuple[int, int] | None) -> int:
    """Return where the next window from `first` on ends: at the commit, or where a batch of the ledger does, so that its rows can be compared.

    `edges`: the last batch's end within `step` offsets (0: none), and the first batch's end above `first`; None: the ledger has no batch near.
    """
    if commit - first <= step:
        return commit
    return min(commit, (edges[0] or edges[1]) if edges else first + step)


def parse(row: Mapping[str, Any]) -> Window:
    """Read a row of ops.checked_windows."""
    return Window((row["topic"], int(row["partition"])), int(row["first"]), int(row["next"]), {str(d): int(n) for d, n in row["days"].items()},
                  int(row["newest"]), int(row["occurred"]), int(row["checked"]), row["fault"])


def _time(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms // 1000, UTC):%Y-%m-%d %H:%M:%S}.{ms % 1000:03d}"


def document(window: Window) -> dict[str, Any]:
    """Return a window as a row to insert."""
    return {"topic": window.key[0], "partition": window.key[1], "first": window.first, "next": window.next, "days": dict(window.days),
            "newest_at": _time(window.newest_at_ms), "occurred_at": _time(window.occurred_at_ms),
            "checked_at": _time(window.checked_at_ms), "fault": window.fault}

"""What ClickHouse tells in one look: landed rows above the marks, the ledger's and the quarantine's counts, keyed copies, and how new each hop's newest is.

In: a URL, Kafka's offsets. Out: `ClickHouseFacts`. Keep: read-only; None: that question failed, or what is above the marks is too much for one look.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from weir.contracts import names
from weir.quality import landing
from weir.quality.ask import CDC_TABLES, TIMEOUT_S, Offsets, query
from weir.quality.landing import Above
from weir.quality.marks import NONE, Key, Mark

QUARANTINE_ROWS: Final = 20_000_000  # so many are counted by reason; beyond, together
ALL_REASONS: Final = "all reasons"


@dataclass(frozen=True, slots=True)
class ClickHouseFacts:
    """What ClickHouse told; None: that question failed. `above`: by landing table; one that is not there has too much above its marks."""

    marks: Mapping[Key, Mark] | None = None
    above: Mapping[str, Above | None] = field(default_factory=dict)
    ledger: Mapping[Key, int] | None = None  # rows booked above the marks and below the commits
    staging: Mapping[str, int | None] = field(default_factory=dict)
    quarantine: Mapping[str, int] | None = None
    newest: Mapping[str, int | None] = field(default_factory=dict)
    fed: int | None = None  # rows of the keyed copy of the events, which the views fill


def _number(url: str, sql: str) -> int | None:
    rows = query(url, sql)
    value = next(iter(rows[0].values())) if rows else None
    return None if value is None else int(value)


def _newest(url: str, table: str, column: str) -> int | None:
    """Return the newest time (ms) of a column by which the table is partitioned, from its parts' metadata."""
    rows = query(url, f"SELECT count() AS n, toUnixTimestamp64Milli(max({column})) AS v FROM {table}")
    return int(rows[0]["v"]) if rows and rows[0]["n"] else None


def _quarantine(url: str) -> dict[str, int] | None:
    by_reason = query(url, f"SELECT reject_reason, count() AS n FROM {names.QUARANTINE} GROUP BY reject_reason ORDER BY n DESC SETTINGS max_rows_to_read = {QUARANTINE_ROWS}")
    if by_reason is not None:
        return {r["reject_reason"]: int(r["n"]) for r in by_reason}
    together = _number(url, f"SELECT count() AS n FROM {names.QUARANTINE}")
    return None if together is None else {ALL_REASONS: together}


def _above(url: str, known: Mapping[Key, Mark] | None, offsets: Mapping[Key, Offsets] | None, asked_ms: int, since: str) -> dict[str, Above | None]:
    if known is None:
        return dict.fromkeys(names.LANDINGS)
    found: dict[str, Above | None] = {}
    for table in names.LANDINGS:
        mine = {k: o for k, o in (offsets or {}).items() if names.landing_of(k[0]) == table}
        if sum(landing.waiting(known.get(k), o) for k, o in mine.items()) <= landing.LOOK_RECORDS:
            below = {k: m for k, m in known.items() if names.landing_of(k[0]) == table}
            found[table] = landing.above(url, table, below, None if offsets is None else mine, asked_ms, since)
    return found


def _ledger(url: str, known: Mapping[Key, Mark] | None, offsets: Mapping[Key, Offsets] | None, since: str) -> dict[Key, int] | None:
    if known is None or offsets is None:
        return None
    return landing.booked(url, {k: (known.get(k, NONE).next, o.committed) for k, o in offsets.items() if o.committed is not None}, since, TIMEOUT_S)


def _occurred(known: Mapping[Key, Mark] | None, above: Mapping[str, Above | None], table: str) -> int | None:
    """Return the newest event or commit time of a landing table: what the marks know, or what lies above them. Pure."""
    there = above.get(table)
    if known is None or there is None:
        return None
    times = [m.occurred_at_ms for k, m in known.items() if names.landing_of(k[0]) == table] + [x.occurred_at_ms for x in there.landed.values()]
    return max((t for t in times if t is not None), default=None)


def clickhouse(url: str, known: Mapping[Key, Mark] | None, offsets: Mapping[Key, Offsets] | None, asked_ms: int, since: str) -> ClickHouseFacts:
    """Ask ClickHouse everything, at once. `known`: the marks; `asked_ms`: when Kafka was asked for `offsets`; `since`: the first day that is compared."""
    times = {
        "event landed": (names.LANDING_EVENTS, "produced_at"), "change landed": (names.LANDING_CDC, "produced_at"),
        "catalogue landed": (names.LANDING_CATALOGUE, "produced_at"), "mart user_activity": (f"{names.DB_STAGING}.int_user_events", "occurred_at"),
    }
    with ThreadPoolExecutor(max_workers=4) as pool:
        above = pool.submit(_above, url, known, offsets, asked_ms, since)
        ledger = pool.submit(_ledger, url, known, offsets, since)
        quarantine = pool.submit(_quarantine, url)
        staging = {t: pool.submit(_number, url, f"SELECT count() AS n FROM {s}") for t, (s, _) in CDC_TABLES.items()}
        fed = pool.submit(_number, url, f"SELECT count() AS n FROM {names.DB_STAGING}.int_user_events")
        asked = {name: pool.submit(_newest, url, *of) for name, of in times.items()}
        found = above.result()
        newest = {name: f.result() for name, f in asked.items()}
        newest |= {"change committed": _occurred(known, found, names.LANDING_CDC), "event time landed": _occurred(known, found, names.LANDING_EVENTS)}
        return ClickHouseFacts(known, found, ledger.result(), {t: f.result() for t, f in staging.items()}, quarantine.result(), newest, fed.result())

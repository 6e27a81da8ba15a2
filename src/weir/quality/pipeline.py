"""What the counts do not show: the connector's task, whether the slot holds what is owed, what reconciliation verified, when recovery was proven.

In: PostgreSQL, Connect's REST interface, the newest rows of ops.reconcile_cycles, the experiments' evidence. Out: values and a `Check` each. Keep: read-only; a task that
failed is a failure though its connector says RUNNING; a slot that is gone or lost names the way back, since what it held will not come by itself.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from weir.contracts import captured, cdc, tls, wayback
from weir.contracts.captured import Captured, State
from weir.contracts.wayback import WayBack
from weir.errors import ContractViolation
from weir.quality import recovery
from weir.quality.ask import TIMEOUT_S, query
from weir.quality.event_facts import EventFacts
from weir.quality.judge import Check, Verdict

RESYNC = f"what it held does not come by itself: {wayback.COMMAND} brings it"
OLD_MS = 3_600_000  # continuous reconciliation comes round in minutes
LOAD_MINUTES = 10
TRACE = 240  # characters of a trace that are shown


@dataclass(frozen=True, slots=True)
class Slot:
    """The replication slot. `wal_status`: PostgreSQL's reserved, extended, unreserved or lost, or `missing`; sizes in bytes, None: not told.

    `left_bytes`: how much more may be written before the slot may be lost; None also where there is no limit. `behind_bytes`: WAL that Debezium has not confirmed.
    """

    wal_status: str
    active: bool
    retained_bytes: int | None
    left_bytes: int | None
    why: str = ""  # PostgreSQL's invalidation_reason
    behind_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Connector:
    """The connector as Connect tells it: `state` of the connector, `task` of its worst task; `trace`: the first line of what a task said."""

    state: str
    task: str
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Verified:
    """The newest cycle of one table or view, and the newest LSN and time (ms) through which it was verified; None: never."""

    kind: str
    name: str
    outcome: str
    reason: str
    at_ms: int
    through_lsn: int | None
    through_ms: int | None

    @property
    def lsn(self) -> str:
        """Return the LSN as PostgreSQL writes it."""
        return "never" if self.through_lsn is None else f"{self.through_lsn >> 32:X}/{self.through_lsn & 0xFFFFFFFF:X}"


@dataclass(frozen=True, slots=True)
class Api:
    """What the API says of itself: whether it has items to recommend, how many, and by which model (`POPULARITY`: by none).

    `newest_event_at_ms`: of the events in what it serves; `answered`: requests since its start; None: it did not say.
    `why_popularity`: why popularity serves, a value of `weir.contracts.model.WhyPopularity`, or "" where that is not known.
    """

    ready: bool
    items: int
    model_version: str
    newest_event_at_ms: int | None = None
    answered: int | None = None
    why_popularity: str = ""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """All of it; None: could not be asked (`verified` is empty before the first cycle)."""

    slot: Slot | None = None
    connector: Connector | None = None
    verified: tuple[Verified, ...] | None = None
    recovery: tuple[recovery.Proof, ...] | None = None
    captured: tuple[Captured, ...] | None = ()
    api: Api | None = None
    events: EventFacts | None = None
    way_back: WayBack | None = None  # one that is under way, or was stopped


_SLOT = """
SELECT coalesce(wal_status, 'lost'), active, (pg_current_wal_lsn() - restart_lsn)::bigint, safe_wal_size, coalesce(invalidation_reason, ''),
  (CASE WHEN pg_current_wal_lsn() < confirmed_flush_lsn THEN 0 ELSE pg_current_wal_lsn() - confirmed_flush_lsn END)::bigint
FROM pg_replication_slots WHERE slot_name = %s
"""


def ask_slot(dsn: str) -> Slot | None:
    """Return the slot, or None when PostgreSQL could not be asked."""
    import psycopg

    with contextlib.suppress(psycopg.Error, OSError), psycopg.connect(dsn, connect_timeout=3, autocommit=True) as connection:
        connection.execute("SET statement_timeout = '3s'")
        row = connection.execute(_SLOT, (cdc.SLOT,)).fetchone()
        if row is None:
            return Slot("missing", active=False, retained_bytes=None, left_bytes=None)
        kept, left, behind = (None if n is None else int(n) for n in (row[2], row[3], row[5]))
        return Slot(row[0], bool(row[1]), kept, left, row[4], behind)
    return None


def ask_connector(url: str) -> Connector | None:
    """Return the connector's state, or None when Connect could not be asked."""
    try:
        answer = httpx.get(f"{url}/connectors/{cdc.CONNECTOR}/status", timeout=TIMEOUT_S, verify=tls.context())
        if answer.status_code == httpx.codes.NOT_FOUND:
            return Connector("UNREGISTERED", "NONE")
        document = answer.raise_for_status().json()
    except (httpx.HTTPError, ValueError):
        return None
    parts = document.get("tasks") or []
    worst = next((t for t in parts if t.get("state") == "FAILED"), next((t for t in parts if t.get("state") != "RUNNING"), parts[0] if parts else {}))
    connector = document.get("connector", {})
    trace = str(worst.get("trace") or connector.get("trace") or "").split("\n", 1)[0]
    if len(trace) > TRACE:  # Debezium's line may hold all of its offsets in the middle
        trace = f"{trace[:TRACE // 2]} … {trace[-TRACE // 2:]}"
    return Connector(str(connector.get("state", "")), str(worst.get("state", "NONE")), trace)


def ask_api(url: str) -> Api | None:
    """Return what the API says at /ready, or None when it could not be asked."""
    try:
        document = httpx.get(f"{url}/ready", timeout=TIMEOUT_S, verify=tls.context()).json()  # 503 has the same document
        return Api(
            bool(document["ready"]), int(document["items"]), str(document["model_version"]), document.get("newest_event_at_ms"), document.get("answered"),
            str(document.get("why_popularity", "")))
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return None


def judge_api(api: Api | None, *, promoted: bool) -> Check:
    """Judge what is served. Pure. `promoted`: a model was, so something must be served; before that an empty API is no fault."""
    name = "recommendations"
    if api is None:
        return Check(name, Verdict.UNKNOWN, "the API could not be asked")
    if api.ready:
        return Check(name, Verdict.YES)
    if promoted:
        return Check(name, Verdict.NO, "a model is promoted, and the API has no item to recommend: ./weir logs features shows why")
    return Check(name, Verdict.UNKNOWN, "nothing is loaded yet: ./weir demo does")


def ask_verified(url: str) -> tuple[Verified, ...] | None:
    """Return the newest cycle of each table and view; None: could not be asked; empty: none was run yet."""
    known = query(url, f"SELECT count() AS n FROM system.tables WHERE concat(database, '.', name) = '{cdc.RECONCILE_CYCLES}'")
    if known is None or not known[0]["n"]:
        return None if known is None else ()
    rows = query(
        url,
        "SELECT kind, name, argMax(outcome, at) AS outcome, argMax(reason, at) AS reason, toUnixTimestamp64Milli(max(at)) AS at_ms,"
        " max(verified_lsn) AS lsn, toUnixTimestamp64Milli(max(verified_at)) AS through_ms"
        f" FROM {cdc.RECONCILE_CYCLES} GROUP BY kind, name ORDER BY kind, name",
    )
    gone = ask_removed(url)  # nobody looks after a table that is captured no more
    return None if rows is None else tuple(aged(
        Verified(r["kind"], r["name"], r["outcome"], r["reason"], int(r["at_ms"]), int(r["lsn"]) or None, int(r["through_ms"]) if int(r["lsn"]) else None),
        int(time.time() * 1000)) for r in rows if r["name"] not in gone)


def aged(verified: Verified, now_ms: int) -> Verified:
    """Return it as it counts now: an answer that nobody has looked after for OLD_MS says nothing any more. Pure."""
    if now_ms - verified.at_ms <= OLD_MS:
        return verified
    return replace(verified, outcome="unknown", reason=f"not looked at for {(now_ms - verified.at_ms) / 3_600_000:,.1f} h: ./weir logs reconcile shows why")


def ask_load(url: str) -> float | None:
    """Return the part of one core that continuous reconciliation took over the last LOAD_MINUTES; None: could not be asked, or it has not been round."""
    known = query(url, f"SELECT count() AS n FROM system.columns WHERE concat(database, '.', table) = '{cdc.RECONCILE_CYCLES}' AND name = 'cost_s'")
    if not known or not known[0]["n"]:
        return None
    rows = query(url, f"SELECT sum(cost_s) / (60 * {LOAD_MINUTES}) AS share, count() AS n FROM {cdc.RECONCILE_CYCLES} WHERE cost_s > 0 AND at > now64(3) - INTERVAL {LOAD_MINUTES} MINUTE")
    return float(rows[0]["share"]) if rows and rows[0]["n"] else None


def verified_lines(verified: Sequence[Verified] | None, load: float | None, now_ms: int) -> list[str]:
    """Return for each table, mart and view through which LSN it was verified, and what verifying costs. Pure."""
    if verified is None:
        return ["verified: unknown, ClickHouse could not be asked"]
    found = [f"verified {v.name}: {v.outcome}, through {v.lsn}" + ("" if v.through_ms is None else f", {max(0, now_ms - v.through_ms) / 1000:,.0f} s ago")
             + (f": {v.reason}" if v.outcome != "yes" and v.reason else "") for v in verified]
    cost = "not known" if load is None else f"{load:.1%} of one core over {LOAD_MINUTES} minutes"
    return [*(found or ["verified: never yet"]), f"verifying takes {cost}"]


def ask_captured(url: str) -> tuple[Captured, ...] | None:
    """Return the captured tables of the register; None: could not be asked; empty: there is none yet."""
    known = query(url, f"SELECT count() AS n FROM system.tables WHERE concat(database, '.', name) = '{captured.TABLE}'")
    if known is None or not known[0]["n"]:
        return None if known is None else ()
    rows = query(url, f"SELECT document FROM {captured.TABLE} FINAL")
    return None if rows is None else tuple(captured.standing(r["document"] for r in rows).values())


def ask_removed(url: str) -> frozenset[str]:
    """Return the names of tables that were captured once and are no more; empty when the register could not be asked."""
    rows = query(url, f"SELECT name FROM {captured.TABLE} FINAL WHERE JSONExtractString(document, 'state') = '{State.REMOVED}'")
    return frozenset(str(r["name"]) for r in rows or ())


def judge_captured(tables: Sequence[Captured] | None) -> list[Check]:
    """Judge the tables that do not flow: stopped by a change of their columns or since changes were lost is wrong, by a command or while a copy is built is not known. Pure."""
    if tables is None:
        return [Check("captured tables", Verdict.UNKNOWN, "ClickHouse could not be asked")]
    found = []
    for t in tables:
        if t.state is State.PAUSED:
            found.append(Check(f"table {t.name}", Verdict.NO if t.by in {"schema", "loss"} else Verdict.UNKNOWN, f"paused: {t.why}"))
        elif t.state is State.RESYNCING:
            found.append(Check(f"table {t.name}", Verdict.UNKNOWN, f"resyncing: {t.why}"))
    return found


def judge_slot(slot: Slot | None) -> Check:
    """Judge the slot. Pure."""
    name = f"replication slot {cdc.SLOT}"
    if slot is None:
        return Check(name, Verdict.UNKNOWN, "PostgreSQL could not be asked")
    if slot.wal_status in {"missing", "lost"}:
        why = f" ({slot.why})" if slot.why else ""
        return Check(name, Verdict.NO, f"{'there is none' if slot.wal_status == 'missing' else 'lost'}{why}: {RESYNC}")
    if slot.wal_status == "unreserved":
        return Check(name, Verdict.UNKNOWN, "past max_slot_wal_keep_size: it may be lost at the next checkpoint")
    return Check(name, Verdict.YES)


def ask_way_back(home: Path) -> WayBack | None:
    """Return the way back from a lost slot that is not at its end; None: there is none."""
    try:
        return wayback.parse(wayback.path(home).read_text())
    except FileNotFoundError:
        return None
    except (OSError, ContractViolation):
        return WayBack("its mark cannot be read", 0, 0, 0)


def judge_way_back(mark: WayBack | None) -> list[Check]:
    """Judge it: until its end rows that the source deleted may stand. Pure."""
    if mark is None:
        return []
    at = "the connector is to be started anew" if not mark.reading else "every table is read anew" if mark.tables is None else f"to be proven still: {', '.join(mark.tables) or 'nothing'}"
    return [Check(f"way back of slot {cdc.SLOT}", Verdict.UNKNOWN, f"under way, or stopped: {at}; {wayback.COMMAND} goes on with it")]


def judge_connector(connector: Connector | None) -> Check:
    """Judge the connector by its task. Pure."""
    name = f"connector {cdc.CONNECTOR}"
    if connector is None:
        return Check(name, Verdict.UNKNOWN, "Kafka Connect could not be asked")
    if "FAILED" in {connector.state, connector.task}:
        back = f"; {wayback.COMMAND} brings back what the slot does not have" if wayback.GAP in connector.trace else ""
        return Check(name, Verdict.NO, f"its task is {connector.task}, the connector says {connector.state}: {connector.trace or 'no trace'}{back}")
    if (connector.state, connector.task) != ("RUNNING", "RUNNING"):
        return Check(name, Verdict.UNKNOWN, f"its task is {connector.task}, the connector {connector.state}")
    return Check(name, Verdict.YES)


def judge_verified(verified: Sequence[Verified] | None) -> list[Check]:
    """Judge what reconciliation said last of each table and view. Pure. What was never reconciled is shown so, and judged by its counts alone."""
    if verified is None:
        return [Check("reconciliation", Verdict.UNKNOWN, "ClickHouse could not be asked")]
    return [Check(f"reconciliation of {v.name}", Verdict(v.outcome), "" if v.outcome == "yes" else v.reason or v.outcome) for v in verified]


def checks(pipeline: Pipeline) -> list[Check]:
    """Return all of its checks."""
    return [
        judge_connector(pipeline.connector), judge_slot(pipeline.slot), *judge_way_back(pipeline.way_back), *judge_verified(pipeline.verified), *judge_captured(pipeline.captured),
        *recovery.judge_recovery(pipeline.recovery),
    ]

"""What a change of a source's columns means for a table, and what is done about it: safe ones are taken up, others stop the table and say what they hit.

In: the register, the source's catalogues, dbt's manifest, what ingest holds. Out: entries of the register; a copy made anew where a column came. Keep: a
table that is stopped is let go by a command only; what could not be looked at is looked at again.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from weir.capture import history, resync
from weir.capture.parts import Parts
from weir.connect import catalog, preflight
from weir.contracts import cdc
from weir.contracts.captured import Captured, State
from weir.contracts.schema import Change, Kind, SourceColumn, changes
from weir.errors import Unavailable, Undecided, WeirError
from weir.reconcile.sink import Sink
from weir.transform import impact

AGAIN_S: Final = 60.0  # after a resync that did not end well

log = logging.getLogger("weir.capture")


@dataclass(frozen=True, slots=True)
class Source:
    """One table as the catalogue has it. `losses`: why its changes do not come, or come without their long values, each with the SQL that mends it."""

    columns: tuple[SourceColumn, ...]
    key: tuple[str, ...]
    losses: tuple[str, ...] = ()


def look(dsn: str, tables: Sequence[str], histories: Collection[str] = ()) -> dict[str, Source]:
    """Return what the catalogue says of tables (schema.table). `histories`: those kept as one.

    Raises:
        Unavailable: PostgreSQL could not be asked.
    """
    import psycopg

    try:
        with psycopg.connect(dsn, connect_timeout=5, autocommit=True) as c:
            return {t: Source(there.columns, catalog.key(c, t), tuple(map(str, found))) for t, (there, found) in preflight.losses(c, tables, histories).items()}
    except psycopg.Error as error:
        raise Unavailable(f"PostgreSQL's catalogue could not be asked: {str(error).strip()}", hint="./weir logs postgres shows why") from error


def baseline(sink: Sink, table: cdc.CdcTable, now: Sequence[SourceColumn], since_lsn: int) -> Captured | None:
    """Return the first entry of a table that dbt makes: its columns as they are; None before its keyed table is there."""
    there = sink.columns(table.staging)
    if not there or not now:
        return None
    return Captured(table.name, table.source, State.CAPTURING, tuple(now), frozenset(c.name for c in now if c.name in there), since_lsn=since_lsn)


def explain(entry: Captured, found: Sequence[Change], manifest: dict[str, Any] | None) -> str:
    """Return the changes, each with what it hits, as one text. Pure."""
    told = []
    for change in found:
        hits = "what it hits is not known before dbt has run" if manifest is None else str(impact.reach(manifest, entry.view, change.column))
        told.append(f"{change}" if change.safe else f"{change} ({hits})")
    return "; ".join(told)


def report(dsn: str, entries: Sequence[Captured], home: Path, root: Path) -> list[dict[str, Any]]:
    """Return, a document a table, its state and what has changed, for each change whether it is safe and what it hits (null: not known)."""
    try:
        manifest = impact.manifest(home, root)
    except Undecided:
        manifest = None
    seen = look(dsn, [e.source for e in entries], [e.source for e in entries if e.history])
    found = []
    for entry in entries:
        told = changes(entry.columns, seen[entry.source].columns, entry.used)
        rows = [{"change": str(c.kind), "column": c.column, "safe": c.safe, "why": c.why,
                 "hits": None if c.safe or manifest is None else asdict(impact.reach(manifest, entry.view, c.column))} for c in told]
        found.append({"table": entry.name, "state": str(entry.state), "by": entry.by, "why": entry.why, "changes": rows})
    return found


def lines(documents: Sequence[dict[str, Any]]) -> list[str]:
    """Return the same as text, a line a change. Pure."""
    told = []
    for d in documents:
        if d["state"] != State.CAPTURING:
            told.append(f"{d['table']} is {d['state']}{': ' + d['why'] if d['why'] else ''}")
        for c in d["changes"]:
            hits = "" if c["safe"] else f" ({impact.Impact(**{k: tuple(v) for k, v in c['hits'].items()})})" if c["hits"] else " (what it hits is not known before dbt has run)"
            told.append(f"{d['table']}.{c['column']} {c['change']}, {'flows through' if c['safe'] else 'stops the table'}: {c['why']}{hits}")
    return told


@dataclass
class Watcher:
    """Looks once at a time. `clock`: seconds, monotonic."""

    parts: Parts
    home: Path
    root: Path
    failed_s: dict[str, float] = field(default_factory=dict)

    def manifest(self) -> dict[str, Any] | None:
        """Return dbt's manifest, or None before there is one."""
        try:
            return impact.manifest(self.home, self.root)
        except Undecided:
            return None

    def round(self, now_s: float) -> None:
        """Look at every table; raises as the parts that could not be asked do."""
        tables = self.parts.register.tables()
        new = [t for t in cdc.CDC_TABLES.values() if t.name not in tables]
        seen = look(self.parts.endpoints.postgres_dsn, [*(t.source for t in new), *(e.source for e in tables.values())], [e.source for e in tables.values() if e.history])
        for table in new:
            made = baseline(self.parts.sink, table, seen[table.source].columns, 0)
            if made is not None:
                self.parts.register.write(made)
        for entry in tables.values():
            try:
                self._one(entry, seen[entry.source], tables, now_s)
            except WeirError as error:
                self.failed_s[entry.name] = now_s
                log.warning("%s: %s", entry.name, error)

    def _one(self, entry: Captured, now: Source, tables: dict[str, Captured], now_s: float) -> None:
        if entry.generation:
            resync.sweep(self.parts.sink, entry)  # a resync may have been killed after the register named its copy
        if entry.state is State.PAUSED:
            return
        found, held = changes(entry.columns, now.columns, entry.used), self.parts.register.held(entry)
        bad = [c for c in found if not c.safe]
        if bad or held or now.losses:
            why = "; ".join(w for w in (explain(entry, bad, self.manifest()), held, *now.losses) if w)
            log.warning("%s is paused: %s", entry.name, why)
            self.parts.register.write(entry.to(State.PAUSED, why=why, by="loss" if now.losses else "schema"))
            return
        added = [n for n in now.columns if n.lands and n.name in {c.column for c in found if c.kind is Kind.ADDED}]
        came = [n for n in added if not (entry.history and history.reads_alike(n))]
        unfinished = entry.owned and not entry.generation  # its add was killed, maybe before the connector knew of it
        if unfinished or entry.state is State.RESYNCING or (entry.owned and came):
            if now_s - self.failed_s.get(entry.name, -AGAIN_S) >= AGAIN_S:
                if unfinished:
                    resync.tell(self.parts, self.home, tables.values())
                resync.run(self.parts, entry, now.columns, now.key, lambda text: log.info("%s", text))
        elif found:
            log.info("%s: %s", entry.name, explain(entry, found, None))
            there = frozenset(self.parts.sink.columns(entry.keyed))
            used = entry.used | {n.name for n in added} if entry.owned else frozenset(c.name for c in now.columns if c.name in there)
            made = replace(entry, columns=now.columns, used=used & {c.name for c in now.columns})
            for statement in history.show(made) if entry.history else ():  # first: one that was killed before the register knows shows them again
                self.parts.sink.command(statement)
            self.parts.register.write(made)

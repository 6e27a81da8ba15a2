"""The commands on captured tables: add, pause, resume, resync, remove.

In: endpoints, a table's name. Out: its entry in the register, and what that asks of Kafka, Connect, PostgreSQL and ClickHouse. Keep: each may be run again
after it was killed; what is added is verified before anybody reads it; a table of the shop's contract is never removed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from weir.capture import compared, history, keyed, resync, watch
from weir.capture.parts import Parts, Report
from weir.capture.register import Register, turn
from weir.connect import connector, preflight, publication, register
from weir.contracts import cdc, names
from weir.contracts.captured import KEYED, ROWS, Captured, State
from weir.contracts.endpoints import Endpoints
from weir.contracts.schema import changes
from weir.errors import ContractViolation, Terminal, Unavailable, UnknownName
from weir.reconcile.plan import KEY_TYPES
from weir.reconcile.sink import Sink
from weir.reconcile.source import Source

PARTITIONS: Final = 3  # of an added table's topic; fixed, since the version of a change rests on it (docs/decisions/0003)


@contextmanager
def opened(endpoints: Endpoints) -> Iterator[Parts]:
    """Open what the commands touch."""
    sink = Sink(endpoints.clickhouse_url)
    try:
        yield Parts(endpoints, sink, Source(endpoints.postgres_dsn), Register(sink))
    finally:
        sink.close()


def owned(endpoints: Endpoints) -> list[cdc.CdcTable]:
    """Return the tables that were added and have a keyed copy, paused ones too.

    Raises:
        Unavailable: the register cannot be asked.
    """
    with opened(endpoints) as parts:
        return [e.table() for e in parts.register.tables().values() if e.owned and e.generation]


def added(endpoints: Endpoints) -> list[cdc.CdcTable]:
    """Return the tables that were added and flow; none when the register cannot be asked, which reconciliation then says of each table itself."""
    try:
        with opened(endpoints) as parts:
            return [e.table() for e in parts.register.tables().values() if e.owned and e.generation and e.state is State.CAPTURING]
    except Unavailable:
        return []


def found(tables: dict[str, Captured], name: str) -> Captured:
    """Return a captured table by its name or its schema.table.

    Raises:
        UnknownName: there is none.
    """
    short = next((e for e in tables.values() if name in {e.name, e.source}), None)
    if short is None:
        raise UnknownName.of("captured table", name, sorted(tables))
    return short


def _name(source: str) -> str:
    schema, table = source.split(".", 1)
    return table if schema == "public" else f"{schema}_{table}"


def _refuse_taken(source: str, tables: Iterable[str]) -> None:
    name = _name(source)
    if {name, f"{name}{ROWS}"} & {*tables, *cdc.CDC_TABLES} or re.fullmatch(rf"weir_truncates(_feed)?|.*__[0-9]+(_feed)?|.*{ROWS}", name):
        raise ContractViolation(f"{source} would be read as {KEYED}.{name}, a name that is taken or kept for copies", hint=f"ALTER TABLE {source} RENAME TO …; then ./weir table add it")


def add(endpoints: Endpoints, home: Path, source: str, report: Report, *, most_per_s: int = 0, as_history: bool = False) -> Captured:
    """Capture a table: publication, topic, connector, a keyed copy or a history, verified; return its entry. `most_per_s`: as for `resync.run`.

    Raises:
        ContractViolation: it is unsafe, captured already, or of a name that is taken; says the SQL that mends it.
    """
    source = source if "." in source else f"public.{source}"
    with turn(home), opened(endpoints) as parts:
        tables = parts.register.tables()
        if any(source == e.source for e in tables.values()) or source in publication.TABLES:
            raise ContractViolation(f"{source} is captured already", hint=f"./weir table resync {_name(source)} makes its copy anew")
        _refuse_taken(source, tables)
        entry, key = _prepared(parts, source, as_history=as_history)
        for note in () if as_history else compared.notes(source, entry.columns):
            report(f"{entry.name}: to know: {note}")
        entry = parts.register.write(entry)  # from now on ingest reads its topic
        report(f"{entry.name}: telling the connector")
        try:
            resync.tell(parts, home, (*tables.values(), entry))
            return resync.run(parts, entry, entry.columns, key, report, most_per_s=most_per_s)
        except BaseException:
            _taken_out(parts, home, entry, tables)
            raise


def _prepared(parts: Parts, source: str, *, as_history: bool) -> tuple[Captured, tuple[str, ...]]:
    """Publish the table, let Debezium read it, and make its topic; return its first entry and its key."""
    import psycopg

    dsn = parts.endpoints.postgres_dsn
    ours = (f"ALTER PUBLICATION {publication.NAME} ADD TABLE {source};", f"GRANT USAGE ON SCHEMA {source.split('.', maxsplit=1)[0]} TO {cdc.ROLE}; GRANT SELECT ON {source} TO {cdc.ROLE};")
    histories = [source] * as_history
    unsafe = [f for f in preflight.examine(dsn, [source], histories) if f.sql not in ours]
    if unsafe:
        raise ContractViolation(f"{source} is not safe to capture: " + " | ".join(map(str, unsafe)), hint=f"run that SQL, then ./weir table add {source}{' --history' * as_history} again")
    at = watch.look(dsn, [source], histories)[source]
    used = frozenset(c.name for c in at.columns if c.lands)
    entry = Captured(_name(source), source, State.CAPTURING, at.columns, used, owned=True, history=as_history)
    _refuse_shape(entry, at.key)
    try:
        with psycopg.connect(dsn, connect_timeout=5, autocommit=True) as c:
            for finding in preflight.examine(dsn, [source], histories):
                c.execute(finding.sql.encode())
    except psycopg.Error as error:
        raise ContractViolation(f"{source} could not be published: {str(error).strip()}", hint=f"run as its owner: {' '.join(ours)}") from error
    register.ensure_topic(parts.endpoints, f"{names.CDC_PREFIX}.{source}", PARTITIONS)
    return replace(entry, since_lsn=resync.lsn_now(parts.endpoints), barrier=as_history), at.key


def _refuse_shape(entry: Captured, key: tuple[str, ...]) -> None:
    """See that the copy can be made, and verified."""
    if entry.history:
        history.check(entry)
        return
    keyed.check(entry.source, entry.columns, key)
    odd = [c for c in entry.columns if c.name in key and c.type.split("(")[0] not in KEY_TYPES]
    if odd:
        raise ContractViolation(f"{entry.source} has a key of type {odd[0].type}, by which its copy could not be verified",
                                hint=f"keys may be {', '.join(sorted(KEY_TYPES))}; or ./weir table add {entry.source} --history keeps its changes")


def pause(endpoints: Endpoints, home: Path, name: str, why: str) -> Captured:
    """Leave a table's changes in Kafka until it is resumed."""
    with turn(home), opened(endpoints) as parts:
        entry = found(parts.register.tables(), name)
        if entry.state is State.PAUSED:
            return entry
        return parts.register.write(entry.to(State.PAUSED, why=why or "by command", by="operator"))


def resume(endpoints: Endpoints, home: Path, root: Path, name: str, *, accept: bool) -> Captured:
    """Read a table's changes on, where it was left. `accept`: dbt's models read the source's columns as they are now.

    Raises:
        ContractViolation: its columns have changed so that rows would land as other values, or its changes do not come whole; says what that hits and what to do.
    """
    with turn(home), opened(endpoints) as parts:
        entry = found(parts.register.tables(), name)
        now = watch.look(endpoints.postgres_dsn, [entry.source], _histories(entry))[entry.source]
        again = f"./weir table resync {entry.name}"
        _refuse_losses(entry, now, again if entry.owned else f"./weir table resume {entry.name} and {again}")
        if entry.owned and (entry.by == "loss" or not parts.sink.columns(f"{entry.keyed}_feed")):  # the feed goes when a resync begins that may not end well
            raise ContractViolation(f"{entry.name} stays paused: its copy lacks changes", hint=f"{again} makes a whole one")
        bad = [c for c in changes(entry.columns, now.columns, entry.used) if not c.safe]
        if bad and not (accept and not entry.owned):
            hits = watch.explain(entry, bad, watch.Watcher(parts, home, root).manifest())
            do = f"./weir table resync {entry.name} makes a copy with the columns of now" if entry.owned else (
                f"change the models, ./weir run dbt build, then ./weir table resume {entry.name} --accept and ./weir table resync {entry.name}")
            raise ContractViolation(f"{entry.name} stays paused: {hits}", hint=f"{do}; or undo the change at the source")
        if bad:
            there = frozenset(parts.sink.columns(entry.keyed))
            used = frozenset(c.name for c in now.columns if c.name in there)
            entry = replace(entry, columns=now.columns, used=used, since_lsn=resync.lsn_now(endpoints))
        return parts.register.write(entry.to(State.CAPTURING))


def _histories(entry: Captured) -> list[str]:
    return [entry.source] * entry.history


def _refuse_losses(entry: Captured, now: watch.Source, then: str) -> None:
    if now.losses:
        raise ContractViolation(f"changes of {entry.name} do not come whole: {' | '.join(now.losses)}", hint=f"run that SQL, then {then}")


def resynced(endpoints: Endpoints, home: Path, name: str, report: Report, *, most_per_s: int = 0) -> Captured:
    """Build a table's copy anew beside, verify it and swap. `most_per_s`: as for `resync.run`.

    Raises:
        ContractViolation: a table that dbt makes has changed, and its models first have to; or changes do not come whole, and its copy would not be right for long.
    """
    with turn(home), opened(endpoints) as parts:
        tables = parts.register.tables()
        entry = found(tables, name)
        now = watch.look(endpoints.postgres_dsn, [entry.source], _histories(entry))[entry.source]
        _refuse_losses(entry, now, f"./weir table {'resync' if entry.owned or entry.state is not State.PAUSED else 'resume'} {entry.name}")
        if entry.owned:
            refused = preflight.judge_columns(preflight.TableFacts(entry.source, exists=True, columns=now.columns), generated=True)
            if refused:
                raise ContractViolation(f"{entry.source} is not safe to capture: " + " | ".join(map(str, refused)), hint="run that SQL, then this again")
            _refuse_shape(replace(entry, columns=now.columns, used=frozenset(c.name for c in now.columns if c.lands)), now.key)
            resync.tell(parts, home, tables.values())  # an add that was killed had not: a copy of then would never change
        elif entry.state is State.PAUSED:
            raise ContractViolation(f"{entry.name} is paused ({entry.why}), and its copy is dbt's", hint=f"./weir table resume {entry.name} first")
        return resync.run(parts, entry, now.columns, now.key, report, most_per_s=most_per_s)


def remove(endpoints: Endpoints, home: Path, name: str) -> Captured:
    """Capture a table no more: its copy, its place in the connector and the publication go; its topic stays until its retention is over.

    Raises:
        Terminal: it is a table of the shop's contract.
    """
    with turn(home), opened(endpoints) as parts:
        tables = parts.register.tables()
        entry = found(tables, name)
        if not entry.owned:
            raise Terminal(f"{entry.name} is of the shop's contract, on which dbt's models rest", hint="./weir table pause leaves its changes in Kafka")
        return _taken_out(parts, home, entry, tables)


def _taken_out(parts: Parts, home: Path, entry: Captured, tables: dict[str, Captured]) -> Captured:
    import psycopg

    made = parts.register.write(entry.to(State.REMOVED))
    resync.tell(parts, home, [e for e in tables.values() if e.name != entry.name])
    try:
        with psycopg.connect(parts.endpoints.postgres_dsn, connect_timeout=5, autocommit=True) as c:
            if c.execute("SELECT 1 FROM pg_publication_tables WHERE pubname = %s AND schemaname || '.' || tablename = %s", (publication.NAME, entry.source)).fetchone():
                c.execute(f"ALTER PUBLICATION {publication.NAME} DROP TABLE {entry.source}".encode())
    except psycopg.Error as error:
        raise ContractViolation(f"{entry.source} could not be taken out of the publication: {str(error).strip()}", hint="its owner may") from error
    for statement in (*history.hide(entry), f"DROP VIEW IF EXISTS {entry.view} SYNC"):
        parts.sink.command(statement)
    for (table,) in parts.sink.query(keyed.generations(entry)):
        for statement in keyed.drop(table):
            parts.sink.command(statement)
    return made


def plan(endpoints: Endpoints, home: Path) -> tuple[connector.Plan, dict[str, str]]:
    """Return what would change in the connector, and the configuration that it would have then."""
    with opened(endpoints) as parts:
        target = connector.wanted(endpoints, home, resync.sources(parts.register.tables().values()))
    return connector.plan(endpoints, target), target


def document(entry: Captured) -> dict[str, Any]:
    """Return an entry as JSON values for showing."""
    return {"name": entry.name, "source": entry.source, "topic": entry.topic, "read": entry.view, "history": entry.history, "rows": entry.rows_view if entry.history else entry.view, "state": str(entry.state), "by": entry.by, "why": entry.why,
            "columns": [{"name": c.name, "type": c.type, "nullable": c.nullable, "read": c.name in entry.used} for c in entry.columns]}


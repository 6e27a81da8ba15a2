"""Preflight: what makes a table unsafe to capture, each with the SQL that makes it safe; asked before the connector is registered.

In: PostgreSQL, table names. Out: `Finding`s, none when all is safe. Keep: `judge` is pure and names every reason at once; only catalogues are read.

Sources: PostgreSQL's manual, 29 (logical replication), 52 (catalogues), 54.20 (pg_replication_slots); Debezium's PostgreSQL connector, "setting up".
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from weir.connect import catalog, publication
from weir.connect.publication import Publication
from weir.contracts import cdc, source_types, wayback
from weir.contracts.schema import SourceColumn
from weir.errors import ContractViolation, Unavailable


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What the server and the publication are. `slot`: wal_status, or empty when there is none. `published`: None when there is no publication."""

    wal_level: str
    slots_free: int
    slot: str
    keep_size: str
    role_replicates: bool | None  # None: no such role
    published: Publication | None


@dataclass(frozen=True, slots=True)
class TableFacts:
    """What one table is. `identity`: pg_class.relreplident. `toastable`: some column may be stored outside its row. `narrowed`: the publication leaves rows or columns out.

    `below`: its partitions, or tables that inherit from it. `blind`: roles from which row level security hides rows. `logged`: its changes are in the WAL.
    """

    name: str
    exists: bool
    key: tuple[str, ...] = ()
    identity: str = "d"
    toastable: bool = False
    published: bool = False
    readable: bool = False
    kind: str = "r"
    columns: tuple[SourceColumn, ...] = ()
    narrowed: bool = False
    below: tuple[str, ...] = ()
    blind: tuple[str, ...] = ()
    logged: bool = True


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason not to capture, and the SQL that removes it. `mild`: none to refuse, but to know before."""

    what: str
    sql: str
    mild: bool = False

    def __str__(self) -> str:
        return f"{self.what}: {self.sql}"


def judge_server(f: ServerFacts) -> list[Finding]:
    """Return what is unsafe about the server, the role, the publication and the slot. Pure."""
    found = []
    if f.wal_level != "logical":
        found.append(Finding(f"wal_level is {f.wal_level}, so changes cannot be decoded", "ALTER SYSTEM SET wal_level = 'logical'; -- and restart PostgreSQL"))
    if not f.slot and f.slots_free < 1:
        found.append(Finding("no replication slot is free", "ALTER SYSTEM SET max_replication_slots = 16; -- and restart PostgreSQL"))
    if f.slot == "lost":
        found.append(Finding(f"slot {cdc.SLOT} is lost, and what it held does not come by itself", f"-- {wayback.COMMAND}"))
    if f.keep_size == "-1":
        found.append(Finding("a slot that nobody reads may fill the disk", "ALTER SYSTEM SET max_slot_wal_keep_size = '4GB'; SELECT pg_reload_conf();"))
    if f.role_replicates is None:
        found.append(Finding(f"there is no role {cdc.ROLE}", f"CREATE ROLE {cdc.ROLE} WITH REPLICATION LOGIN PASSWORD '…';"))
    elif not f.role_replicates:
        found.append(Finding(f"role {cdc.ROLE} may not replicate", f"ALTER ROLE {cdc.ROLE} WITH REPLICATION LOGIN;"))
    narrowed = [Finding(f"publication {publication.NAME} leaves rows or columns out", f"{sql};") for sql in publication.narrowed(f.published)]
    return found + judge_publication(f.published) + narrowed


def judge_publication(f: Publication | None) -> list[Finding]:
    """Return what is unsafe about the publication as a whole. Pure."""
    found = []
    if f is None:
        found.append(Finding(f"there is no publication {publication.NAME}", f"{publication.widening(None)[0]};"))
    elif missing := [w for w in publication.OPERATIONS if w not in f.operations]:
        sql = publication.widening(Publication(dict.fromkeys(publication.TABLES, False), f.operations))[0]
        found.append(Finding(f"publication {publication.NAME} leaves out {', '.join(missing)}", f"{sql};"))
    return found


def _becomes(kind: str, name: str) -> str:
    """Return the type that a column without a landing may be changed to, with how. Pure."""
    if kind.endswith("[]"):
        return f"text[] USING {name}::text[]"
    known = kind in source_types.REFUSED or kind.endswith("multirange")
    return f"text USING {name}::text" if known else f"jsonb USING to_jsonb({name})"


def judge_columns(f: TableFacts, *, generated: bool | None) -> list[Finding]:
    """Return the columns that would arrive as null, shortened or not at all, which a snapshot alone does not show. Pure.

    `generated`: the publication has stored generated columns; None: the server knows no such thing. A virtual column lands nowhere and is no fault.
    """
    found = []
    for c in f.columns:
        if c.generated == "s" and not generated:
            sql = f"{publication.GENERATED};" if generated is False else f"ALTER TABLE {f.name} ALTER COLUMN {c.name} DROP EXPRESSION; -- and let a trigger fill it"
            found.append(Finding(f"{f.name}.{c.name} is a stored generated column, null in every change", sql))
        elif c.generated != "v" and not c.lands:
            how = source_types.refusal(c.type)
            found.append(Finding(f"{f.name}.{c.name} of type {c.type} would arrive {how}", f"ALTER TABLE {f.name} ALTER COLUMN {c.name} TYPE {_becomes(c.type, c.name)};"))
    return found


def judge_changes(f: TableFacts, *, published: bool, history: bool = False) -> list[Finding]:
    """Return why changes of a table that there is would be lost, or come without their long values. Pure. `published`, `history`: as `judge_table` says."""
    found = []
    if f.identity == "n" or (f.identity != "f" and (history or f.toastable or not f.key)):
        hollow = "the row as it was, which a history keeps" if history else "its long columns, which then arrive as placeholders"
        why = "no replica identity" if f.identity == "n" else f"a replica identity without {hollow}"
        found.append(Finding(f"{f.name} has {why}", f"ALTER TABLE {f.name} REPLICA IDENTITY FULL;"))
    if published and not f.published:
        found.append(Finding(f"{f.name} is not in publication {publication.NAME}", f"ALTER PUBLICATION {publication.NAME} ADD TABLE {f.name};"))
    if f.narrowed:
        found.append(Finding(f"publication {publication.NAME} leaves rows or columns of {f.name} out", f"{publication.lifting(f.name)};"))
    return found


def judge_table(f: TableFacts, *, published: bool, generated: bool | None = True, history: bool = False) -> list[Finding]:
    """Return what is unsafe about one table. Pure. `published`: there is a publication to be in; `generated`: as `judge_columns` says; `history`: it needs no key then."""
    if not f.exists:
        return [Finding(f"{f.name} does not exist", f"-- create {f.name} first, or is its name spelt otherwise?")]
    if f.kind not in {"r", "p"}:
        return [Finding(f"{f.name} is no table, and only tables have changes to decode", "-- name the tables that it reads")]
    if f.kind == "p" or f.below:  # a partition that is truncated, attached or detached would change rows without a word, published by its root or not
        return [Finding(f"{f.name} has partitions or tables that inherit from it, whose changes come by their own names", f"-- capture those: {', '.join(f.below) or 'there are none yet'}")]
    if not f.logged:
        return [Finding(f"{f.name} is unlogged, so its changes are in no WAL", f"ALTER TABLE {f.name} SET LOGGED;")]
    found = []
    if not f.key and not history:
        other = f"ALTER TABLE {f.name} REPLICA IDENTITY FULL; and ./weir table add {f.name} --history keeps its changes instead"
        found.append(Finding(f"{f.name} has no primary key, so its rows cannot be kept by key", f"ALTER TABLE {f.name} ADD PRIMARY KEY (…); -- or {other}"))
    found += judge_changes(replace(f, narrowed=f.narrowed and f.name not in publication.TABLES), published=published, history=history)  # of the shop's it is told with the server
    if not f.readable:
        schema = f.name.split(".", maxsplit=1)[0]
        found.append(Finding(f"{cdc.ROLE} may not read {f.name}", f"GRANT USAGE ON SCHEMA {schema} TO {cdc.ROLE}; GRANT SELECT ON {f.name} TO {cdc.ROLE};"))
    hidden = "row level security hides rows of"
    found += [Finding(f"{hidden} {f.name} from {role}", f"ALTER ROLE {role} BYPASSRLS;") for role in f.blind]
    return found + judge_columns(f, generated=generated)


_SERVER = """
SELECT current_setting('wal_level'), current_setting('max_replication_slots')::int - (SELECT count(*)::int FROM pg_replication_slots),
  coalesce((SELECT wal_status FROM pg_replication_slots WHERE slot_name = %(slot)s), ''), current_setting('max_slot_wal_keep_size'),
  (SELECT (rolreplication OR rolsuper) AND rolcanlogin FROM pg_roles WHERE rolname = %(role)s)
"""
_TABLE = """
SELECT c.relkind, c.relreplident,
  ARRAY(SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey) WHERE i.indrelid = c.oid AND i.indisprimary),
  EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attstorage <> 'p'),
  n.nspname || '.' || c.relname,
  coalesce((SELECT has_table_privilege(r.oid, c.oid, 'SELECT') AND has_schema_privilege(r.oid, n.oid, 'USAGE') FROM pg_roles r WHERE r.rolname = %(role)s), false),
  ARRAY(SELECT h.inhrelid::regclass::text FROM pg_inherits h WHERE h.inhparent = c.oid ORDER BY 1),
  ARRAY(SELECT r.rolname::text FROM pg_roles r WHERE c.relrowsecurity AND r.rolname IN (%(role)s, current_user) AND NOT r.rolsuper AND NOT r.rolbypassrls
    AND (c.relforcerowsecurity OR NOT pg_has_role(r.oid, c.relowner, 'USAGE')) ORDER BY 1),
  c.relpersistence = 'p'
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass(%(table)s)
"""
_OTHERS = """
SELECT schemaname || '.' || tablename AS name FROM pg_tables
WHERE schemaname NOT IN ('pg_catalog', 'information_schema') AND schemaname || '.' || tablename <> ALL(%(known)s::text[]) ORDER BY name
"""
_WRITES = """
SELECT coalesce((SELECT bool_and(has_table_privilege(r.oid, to_regclass(%(table)s), p)) FROM pg_roles r, unnest(%(privileges)s::text[]) AS p
  WHERE r.rolname = %(role)s AND to_regclass(%(table)s) IS NOT NULL), false)
"""


def facts(connection: Any, name: str, published: Publication | None) -> TableFacts:
    """Return what the catalogue says of a table (schema.table)."""
    row = connection.execute(_TABLE, {"role": cdc.ROLE, "table": name}).fetchone()
    if row is None:
        return TableFacts(name, exists=False)
    kind, identity, key, toastable, full, readable, below, blind, logged = row
    there = {} if published is None else published.tables
    return TableFacts(
        name, exists=True, key=tuple(key), identity=identity, toastable=bool(toastable), published=full in there, readable=bool(readable), kind=kind,
        columns=catalog.columns(connection, name), narrowed=there.get(full, False), below=tuple(below), blind=tuple(blind), logged=bool(logged),
    )


def losses(connection: Any, tables: Sequence[str], histories: Collection[str] = ()) -> dict[str, tuple[TableFacts, list[Finding]]]:
    """Return of each captured table what it is, and why its changes are lost or hollow now; none of a table that is gone. `histories`: those kept as one."""
    published = publication.read(connection)
    shared = judge_publication(published)
    found = {}
    for name in tables:
        there = facts(connection, name, published)
        found[name] = there, [*shared, *judge_changes(there, published=published is not None, history=name in histories)] if there.exists else []
    return found


def examine(dsn: str, tables: Sequence[str] = (), histories: Collection[str] = ()) -> list[Finding]:
    """Return what makes these tables (schema.table; the captured ones when none are named) unsafe to capture. `histories`: those to be kept as one.

    Raises:
        Unavailable: PostgreSQL could not be asked.
    """
    import psycopg

    try:
        with psycopg.connect(dsn, connect_timeout=5, autocommit=True) as c:
            row = c.execute(_SERVER, {"slot": cdc.SLOT, "role": cdc.ROLE}).fetchone()
            assert row is not None  # noqa: S101 - a SELECT without FROM has a row
            server = ServerFacts(row[0], int(row[1]), row[2], row[3], row[4], publication.read(c))
            found = judge_server(server)
            generated = None if server.published is None else server.published.generated
            for name in tables or [t.source for t in cdc.CDC_TABLES.values()]:
                there = facts(c, name if "." in name else f"public.{name}", server.published)
                found += judge_table(there, published=server.published is not None, generated=generated, history=there.name in histories)
            for table, privileges in ((cdc.SIGNAL_TABLE, ["SELECT", "INSERT", "UPDATE"]), (cdc.HEARTBEAT_TABLE, ["SELECT", "UPDATE"])):
                written = c.execute(_WRITES, {"table": table, "privileges": privileges, "role": cdc.ROLE}).fetchone()
                if not written or not written[0]:
                    found.append(Finding(f"{cdc.ROLE} may not write {table}", f"GRANT {', '.join(privileges)} ON {table} TO {cdc.ROLE};"))
    except psycopg.Error as error:
        raise Unavailable(f"PostgreSQL could not be asked what is unsafe: {str(error).strip()}", hint="./weir logs postgres shows why") from error
    return found


def others(dsn: str, known: Sequence[str]) -> list[str]:
    """Return the tables of the database (schema.table), sorted, that are not among these and not Weir's own.

    Raises:
        Unavailable: PostgreSQL could not be asked.
    """
    import psycopg

    mine = [*known, cdc.SIGNAL_TABLE, cdc.HEARTBEAT_TABLE]
    try:
        with psycopg.connect(dsn, connect_timeout=5, autocommit=True) as c:
            return [name for (name,) in c.execute(_OTHERS, {"known": mine})]
    except psycopg.Error as error:
        raise Unavailable(f"PostgreSQL could not be asked for its tables: {str(error).strip()}", hint="./weir logs postgres shows why") from error


def refuse_unsafe(dsn: str, tables: Sequence[str] = ()) -> None:
    """Check the captured tables, or those that are named.

    Raises:
        ContractViolation: something is unsafe; names everything. Unavailable: PostgreSQL could not be asked.
    """
    found = examine(dsn, tables)
    if found:
        raise ContractViolation("the tables are not safe to capture: " + " | ".join(map(str, found)), hint="run that SQL, then ./weir up again; ./weir table check says it a line each")

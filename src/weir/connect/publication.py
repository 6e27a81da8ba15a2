"""The publication that Debezium reads: made, widened where that takes nothing from anybody, or refused with the SQL to run.

In: a connection to the shop's database. Out: publication `weir` with every table and every kind of change. Keep: a table or an operation that is
missing would be lost in silence, so it is looked for at each start; a row filter or a column list is somebody's decision and never removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from weir.contracts import cdc
from weir.errors import ContractViolation

if TYPE_CHECKING:
    from psycopg import Connection

NAME: Final = "weir"
TABLES: Final = (*(t.source for t in cdc.CDC_TABLES.values()), cdc.SIGNAL_TABLE, cdc.HEARTBEAT_TABLE)
GENERATED: Final = f"ALTER PUBLICATION {NAME} SET (publish_generated_columns = stored)"
OPERATIONS: Final = ("insert", "update", "delete", "truncate")


@dataclass(frozen=True, slots=True)
class Publication:
    """What the server has: `tables` by name, True when a row filter or a column list narrows it; `operations` that are published.

    `generated`: stored generated columns are published; None: the server cannot (before PostgreSQL 18), and they come as null from the stream.
    """

    tables: Mapping[str, bool] = field(default_factory=dict)
    operations: frozenset[str] = frozenset()
    generated: bool | None = None


def widening(found: Publication | None) -> list[str]:
    """Return the SQL that makes what is missing, in order; empty when all is there. Pure."""
    if found is None:
        return [f"CREATE PUBLICATION {NAME} FOR TABLE {', '.join(TABLES)}"]
    missing = [t for t in TABLES if t not in found.tables]
    statements = [f"ALTER PUBLICATION {NAME} ADD TABLE {', '.join(missing)}"] if missing else []
    if not found.operations.issuperset(OPERATIONS):
        statements.append(f"ALTER PUBLICATION {NAME} SET (publish = '{', '.join(OPERATIONS)}')")
    return statements


def narrowed(found: Publication | None) -> list[str]:
    """Return the SQL that an operator would run to lift filters from our tables; empty when there are none. Pure."""
    if found is None:
        return []
    return [lifting(t) for t in TABLES if found.tables.get(t)]


def lifting(table: str) -> str:
    """Return the SQL that lifts a row filter or a column list from a table. Pure."""
    return f"ALTER PUBLICATION {NAME} DROP TABLE {table}; ALTER PUBLICATION {NAME} ADD TABLE {table}"


def read(shop: Connection[Any]) -> Publication | None:
    """Return the publication as the server has it, or None. Works from PostgreSQL 14 on, where filters do not exist yet."""
    row = shop.execute("SELECT pubinsert, pubupdate, pubdelete, pubtruncate, to_jsonb(p) ->> 'pubgencols' FROM pg_publication p WHERE pubname = %s", (NAME,)).fetchone()
    if row is None:
        return None
    tables = {f"{s}.{t}": False for s, t in shop.execute("SELECT schemaname, tablename FROM pg_publication_tables WHERE pubname = %s", (NAME,))}
    narrow = shop.execute(
        "SELECT n.nspname, c.relname FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid JOIN pg_class c ON c.oid = r.prrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE p.pubname = %s AND (to_jsonb(r) ->> 'prqual' IS NOT NULL OR to_jsonb(r) ->> 'prattrs' IS NOT NULL)", (NAME,))
    tables |= {f"{s}.{t}": True for s, t in narrow}
    operations = frozenset(o for o, published in zip(OPERATIONS, row[:-1], strict=True) if published)
    return Publication(tables, operations, None if row[-1] is None else row[-1] == "s")


def ensure(shop: Connection[Any]) -> list[str]:
    """Make or widen the publication in the connection's transaction; return the SQL that was run.

    Raises:
        ContractViolation: it is narrowed, or the role may not alter it; the hint is the SQL to run as its owner.
    """
    from psycopg import errors

    found = read(shop)
    if told := narrowed(found):
        raise ContractViolation(
            f"publication {NAME} leaves rows or columns of the shop's tables out", hint=f"run as its owner: {'; '.join(told)};", publication=NAME
        )
    statements = widening(found)
    try:
        for statement in statements:
            shop.execute(statement.encode())
    except errors.InsufficientPrivilege as error:
        raise ContractViolation(
            f"publication {NAME} lacks tables or operations, and this role may not change it", hint=f"run as its owner: {'; '.join(statements)};", publication=NAME
        ) from error
    return statements + _with_generated(shop)


def _with_generated(shop: Connection[Any]) -> list[str]:
    """Publish stored generated columns where the server can and the role may; a table that has one is refused by the preflight otherwise."""
    from psycopg import errors

    now = read(shop)
    if now is None or now.generated is not False:
        return []
    try:
        with shop.transaction():
            shop.execute(GENERATED.encode())
    except errors.InsufficientPrivilege:
        return []
    return [GENERATED]

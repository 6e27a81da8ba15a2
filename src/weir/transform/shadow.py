"""What stands of a keyed model: its table, the views that feed it, and of a deploy the same beside, under names that begin with `shadow__`.

In: system.tables. Out: `Keyed`, and the statements that are left to be done of an exchange. Keep: which step a deploy had reached is read from the tables alone, so it can be killed
at any of them: the comment of the new table says that it is verified, and it has the live name or not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from weir.contracts import names
from weir.contracts.clickhouse import fires
from weir.transform.warehouse import Warehouse

PREFIX: Final = names.SHADOW_PREFIX
VERIFIED: Final = "verified by a deploy, to be exchanged"  # comment of a new table from its verification to the end of the exchange; dbt's catch_up replaces it
_VERSION: Final = re.compile(r"ReplacingMergeTree\((?:'[^']*', ?)*(\w+)")
_TTL: Final = re.compile(r"\bTTL (.+?)(?: SETTINGS | COMMENT |$)")


@dataclass(frozen=True, slots=True)
class Keyed:
    """A table of `staging` with what feeds it. `feeds`: SELECT by view name. `version`: the column by which a key's newest row wins, or empty; `ttl`: an expression, or empty."""

    name: str
    engine: str
    key: str
    version: str
    ttl: str
    comment: str
    uuid: str
    columns: Mapping[str, str] = field(default_factory=dict)
    feeds: Mapping[str, str] = field(default_factory=dict)

    @property
    def table(self) -> str:
        """Return the table's name in full."""
        return f"{names.DB_STAGING}.{self.name}"

    @property
    def is_keyed(self) -> bool:
        """Whether a repeated row is the same row: what a catch-up beside live traffic rests on."""
        return "ReplacingMergeTree" in self.engine

    @property
    def shape(self) -> tuple[Any, ...]:
        """Return what makes two tables with their views the same model."""
        def plain(sql: str) -> str:
            return sql.replace(PREFIX, "")

        return self.engine, self.key, self.version, self.ttl, dict(self.columns), {plain(n): plain(s) for n, s in self.feeds.items()}


@dataclass(frozen=True, slots=True)
class Reader:
    """A view that reads a table by name. `select`: its query; `fires`: on inserts into what it reads; `columns`: what it gives."""

    name: str
    select: str
    fires: bool
    columns: Mapping[str, str]


def shadow_of(model: str) -> str:
    """Return the name of a model's table beside."""
    return f"{PREFIX}{model}"


def names_table(sql: str, table: str) -> bool:
    """Say whether a query names a table in full, quoted or not. Pure."""
    return _pattern(table).search(sql) is not None


def instead(sql: str, table: str, other: str) -> str:
    """Return a query with a table's name in the place of another's. Pure."""
    return _pattern(table).sub(other, sql)


def _pattern(table: str) -> re.Pattern[str]:
    database, name = table.split(".")
    return re.compile(rf"(?<![\w.`])`?{re.escape(database)}`?\.(?:`{re.escape(name)}`|{re.escape(name)}(?![\w.`]))")


def standing(warehouse: Warehouse) -> dict[str, Keyed]:
    """Return every MergeTree table of `staging` by name, those beside too."""
    rows = warehouse.query(
        "SELECT name, engine, replaceRegexpAll(engine_full, '\\\\s+', ' '), sorting_key, comment, as_select, target_database, target_table, create_table_query, toString(uuid) "
        f"FROM system.tables WHERE database = '{names.DB_STAGING}'")
    columns: dict[str, dict[str, str]] = {}
    for table, column, kind in warehouse.query(f"SELECT table, name, type FROM system.columns WHERE database = '{names.DB_STAGING}' ORDER BY table, position"):
        columns.setdefault(table, {})[column] = kind
    feeds: dict[str, dict[str, str]] = {}
    for name, engine, _full, _key, _comment, select, database, target, create, _uuid in rows:
        if engine == "MaterializedView" and database == names.DB_STAGING and fires(create):
            feeds.setdefault(target, {})[name] = select
    found = {}
    for name, engine, full, key, comment, _select, _database, _target, _create, uuid in rows:
        if engine.endswith("MergeTree"):
            version, ttl = _VERSION.search(full), _TTL.search(full)
            found[name] = Keyed(name, engine, key, version[1] if version else "", ttl[1] if ttl else "", comment, uuid, columns.get(name, {}), feeds.get(name, {}))
    return found


def readers(warehouse: Warehouse, table: Keyed) -> list[Reader]:
    """Return the views, of any database, that read the table by its name."""
    rows = warehouse.query("SELECT database, name, engine, as_select, create_table_query FROM system.tables WHERE engine IN ('View', 'MaterializedView') AND database != 'system' "
                           f"AND position(as_select, '{table.name}') > 0 ORDER BY database, name")
    found = []
    for database, name, engine, select, create in rows:
        if names_table(select, table.table):
            columns = dict(warehouse.query(f"SELECT name, type FROM system.columns WHERE database = '{database}' AND table = '{name}'"))
            found.append(Reader(f"{database}.{name}", select, engine == "MaterializedView" and fires(create), columns))
    return found


def verified(tables: Mapping[str, Keyed]) -> tuple[str, ...]:
    """Return the models of which an exchange was begun and not ended."""
    return tuple(sorted({name.removeprefix(PREFIX) for name, t in tables.items() if t.comment == VERIFIED}))


def remaining(model: str, tables: Mapping[str, Keyed]) -> list[str]:
    """Return what is left to be done of an exchange, as statements that take place together. Pure.

    The order makes a gateway that is killed between two of them leave a table that is behind, which a catch-up heals, and never one with another query's rows: the old view goes
    first, the new one comes once the new table has the name.
    """
    live, beside = tables.get(model), tables.get(shadow_of(model))
    feeds = beside.feeds if beside else {}
    stands = live is not None and live.comment == VERIFIED
    there = live.feeds if live else {}
    table, other = f"{names.DB_STAGING}.{model}", f"{names.DB_STAGING}.{shadow_of(model)}"
    made = [] if stands else [*(f"DROP TABLE {names.DB_STAGING}.{name}" for name in there), f"EXCHANGE TABLES {table} AND {other}"]
    for name, select in feeds.items():
        if not (stands and name.removeprefix(PREFIX) in there):
            made.append(f"CREATE MATERIALIZED VIEW {names.DB_STAGING}.{name.removeprefix(PREFIX)} TO {table} AS {select}")
    return made + [f"DROP TABLE {names.DB_STAGING}.{name}" for name in feeds]


def sweep(warehouse: Warehouse, keep: Iterable[str] = ()) -> int:
    """Drop what stands beside, the views first; return how many there were. `keep`: models whose exchange is to be ended."""
    kept = {shadow_of(m) for m in keep}
    rows = warehouse.query(f"SELECT name, target_table FROM system.tables WHERE database = '{names.DB_STAGING}' AND startsWith(name, '{PREFIX}') ORDER BY engine != 'MaterializedView', name")
    gone = [name for name, target in rows if name not in kept and target not in kept]
    for name in gone:
        warehouse.run(f"DROP TABLE IF EXISTS {names.DB_STAGING}.{name} SYNC")
    return len(gone)

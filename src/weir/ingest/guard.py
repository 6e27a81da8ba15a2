"""What the exactly-once claim rests on is asked of the server before the first insert.

In: a server, tables. Out: nothing, or a refusal that names what is off. Keep: every table that an insert reaches is looked at: the landing table and,
through chains, the target of each materialized view behind it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Protocol

from weir.contracts.clickhouse import fires
from weir.errors import ContractViolation
from weir.ingest.clickhouse import INSERT_SETTINGS

# A repeat comes at latest when a late request does: the batches of the longest insert (240 s) and a session, at ten a second, with no room to argue.
MIN_WINDOW: Final = 3000
_WINDOW = re.compile(r"\b(?P<kind>non_)?replicated_deduplication_window = '?(?P<value>\d+)")


class Asked(Protocol):
    """What answers a statement."""

    def execute(self, sql: str, **parameters: str | int) -> str:
        """Run a statement."""


class Server(Asked, Protocol):
    """What is asked."""

    def settings_in_force(self) -> dict[str, str]:
        """Return the insert's settings as the server takes them."""


@dataclass(frozen=True, slots=True)
class View:
    """A materialized view: what it reads, as SQL, and what it fills."""

    name: str
    target: str
    reads: str


def behind(tables: list[str], views: list[View]) -> dict[str, str]:
    """Return each table that an insert into `tables` reaches, with the view that fills it ("" for the tables themselves). Pure.

    A view counts as fed by each table that its SQL names, joined ones too: more than ClickHouse does, never less.
    """
    found = dict.fromkeys(tables, "")
    waiting = list(tables)
    while waiting:
        source = waiting.pop()
        named = re.compile(rf"(?<![\w.]){re.escape(source)}(?![\w.])")
        for view in views:
            if view.target not in found and named.search(view.reads.replace("`", "")):
                found[view.target] = view.name
                waiting.append(view.target)
    return found


def window(engine: str, engine_full: str, defaults: dict[str, str]) -> int:
    """Return a table's deduplication window in blocks; 0 when it has none. Pure."""
    if not engine.endswith("MergeTree"):
        return 0
    kind = "replicated_deduplication_window" if engine.startswith("Replicated") else "non_replicated_deduplication_window"
    for match in _WINDOW.finditer(engine_full):
        if ("non_" if match["kind"] else "") + "replicated_deduplication_window" == kind:
            return int(match["value"])
    return int(defaults.get(kind, "0"))


def _rows(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines()]


def _check_settings(server: Server) -> None:
    found = server.settings_in_force()
    for name, wanted in INSERT_SETTINGS.items():
        if found.get(name) != wanted:
            raise ContractViolation(
                f"the server takes {name} as {found.get(name, 'unknown')!r} where an insert asks for {wanted!r}, so a repeated batch could be counted twice",
                hint="a profile or a constraint of the server overrides it; or the server is too old", setting=name,
            )
    if found.get("deduplicate_insert", "enable") == "disable":
        raise ContractViolation("the server has deduplicate_insert = disable, so a repeated batch would be counted twice",
                                hint="SET deduplicate_insert = 'enable' in its profile", setting="deduplicate_insert")


def fed(server: Asked, tables: list[str]) -> dict[str, str]:
    """Ask which tables an insert into `tables` reaches; see `behind`. Views that are computed anew each time are not among them."""
    text = server.execute(
        "SELECT database || '.' || name, target_database || '.' || target_table, replaceRegexpAll(as_select, '\\\\s+', ' '), "
        "replaceRegexpAll(create_table_query, '\\\\s+', ' ') FROM system.tables WHERE engine = 'MaterializedView' FORMAT TabSeparatedRaw")
    views = [View(name, target, reads) for name, target, reads, create in _rows(text) if fires(create)]
    return behind(tables, views)


def check(server: Server, tables: list[str]) -> None:
    """Ask for the settings of an insert, and for a window on each table that it reaches.

    Raises:
        ContractViolation: one is off; names it. Unavailable: the server does not answer.
    """
    _check_settings(server)
    reached = fed(server, tables)
    engines = {name: (engine, full) for name, engine, full in _rows(server.execute(
        "SELECT database || '.' || name, engine, replaceRegexpAll(engine_full, '\\\\s+', ' ') FROM system.tables "
        "WHERE database NOT IN ('system', 'information_schema', 'INFORMATION_SCHEMA') FORMAT TabSeparatedRaw"))}
    defaults = dict(_rows(server.execute(
        "SELECT name, value FROM system.merge_tree_settings WHERE name LIKE '%replicated_deduplication_window'")))
    for table, view in reached.items():
        if table not in engines:
            raise ContractViolation(f"{table}{f', which {view} fills,' if view else ''} is not there", hint="ingest/ddl and dbt make the tables", table=table)
        blocks = window(*engines[table], defaults)
        if blocks < MIN_WINDOW:
            raise ContractViolation(
                f"{table}{f', which {view} fills,' if view else ''} has a deduplication window of {blocks}, so a repeated batch could be counted twice",
                hint=f"ALTER TABLE {table} MODIFY SETTING non_replicated_deduplication_window = 10000", table=table,
            )

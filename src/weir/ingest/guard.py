"""What the exactly-once claim rests on is asked of the server before the first insert.

In: a server, tables. Out: nothing, or a refusal that names what is off. Keep: every table that an insert reaches is looked at: the landing table and,
through chains, the target of each materialized view behind it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from weir.contracts.clickhouse import fires
from weir.errors import ContractViolation
from weir.ingest.clickhouse import INSERT_SETTINGS

# A repeat comes at latest when a late request does: the batches of the longest insert (240 s) and a session, at ten a second, with no room to argue.
MIN_WINDOW: Final = 3000
MIN_WINDOW_S: Final = 300  # a replicated table forgets by age too, counted from its newest token: the same insert and session
DURABLE: Final = ("fsync_after_insert", "fsync_part_directory")  # acknowledged and lost with the power, a batch's token may outlive its part


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


def setting(name: str, engine_full: str, defaults: dict[str, str]) -> str:
    """Return a table's setting, its own or the server's; "0" when there is none of this name. Pure."""
    own = re.search(rf"\b{name} = '?(\w+)", engine_full)
    found = own[1] if own else defaults.get(name, "0")
    return {"true": "1", "false": "0"}.get(found, found)


def window(engine: str, engine_full: str, defaults: dict[str, str]) -> int:
    """Return a table's deduplication window in blocks; 0 when it has none. Pure."""
    return int(setting(_window(engine), engine_full, defaults)) if engine.endswith("MergeTree") else 0


def _window(engine: str) -> str:
    return "replicated_deduplication_window" if engine.startswith("Replicated") else "non_replicated_deduplication_window"


def faults(engine: str, engine_full: str, defaults: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield what is wrong with a table: as text, the setting, and the value that it needs; "" and "" where no setting mends it. Pure."""
    if not engine.endswith("MergeTree"):
        yield f"is of engine {engine}, which keeps no token of its own, so a repeated batch could be counted twice", "", ""
        return
    if (blocks := window(engine, engine_full, defaults)) < MIN_WINDOW:
        yield f"has a deduplication window of {blocks} ({_window(engine)}), so a repeated batch could be counted twice", _window(engine), "10000"
    age = "replicated_deduplication_window_seconds"
    if engine.startswith("Replicated") and (seconds := int(setting(age, engine_full, defaults))) < MIN_WINDOW_S:
        yield f"has a deduplication window of {seconds} s ({age}), so a repeated batch could be counted twice", age, "3600"
    for name in DURABLE:
        if setting(name, engine_full, defaults) == "0":
            yield f"has {name} = 0, so an acknowledged batch could be lost with the power, and its repeat be dropped", name, "1"


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
    """Ask for the settings of an insert, and for the windows and syncs of each table that it reaches.

    Raises:
        ContractViolation: one is off; names it. Unavailable: the server does not answer.
    """
    _check_settings(server)
    reached = fed(server, tables)
    engines = {name: (engine, full) for name, engine, full in _rows(server.execute(
        "SELECT database || '.' || name, engine, replaceRegexpAll(engine_full, '\\\\s+', ' ') FROM system.tables "
        "WHERE database NOT IN ('system', 'information_schema', 'INFORMATION_SCHEMA') FORMAT TabSeparatedRaw"))}
    defaults = dict(_rows(server.execute(
        "SELECT name, value FROM system.merge_tree_settings WHERE name LIKE '%replicated_deduplication_window%' OR name LIKE 'fsync_%'")))
    for table, view in reached.items():
        name = f"{table}{f', which {view} fills,' if view else ''}"
        if table not in engines:
            raise ContractViolation(f"{name} is not there", hint="ingest/ddl and dbt make the tables", table=table)
        for fault, missing, value in faults(*engines[table], defaults):
            hint = f"ALTER TABLE {table} MODIFY SETTING {missing} = {value}" if missing else "a MergeTree table, replicated or not, is what a batch goes into (docs/decisions/0023)"
            raise ContractViolation(f"{name} {fault}", hint=hint, table=table, setting=missing)

"""How many parts the tables behind a lane's inserts have, asked of the server every few seconds, in a thread beside the lane.

In: a server, landing tables. Out: `Parts` of each table that an insert reaches. Keep: the lane never waits for it; which tables there are is asked again, since dbt
may have added a view.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Final

from weir.contracts.clickhouse import literal
from weir.ingest import guard
from weir.ingest.beside import Beside
from weir.ingest.clickhouse import ClickHouse
from weir.ingest.pressure import Parts, bound

ASK_S: Final = 5.0  # at ten inserts a second a table gains 50 parts in it, a twentieth of the bound that ClickHouse has by default
TABLES_S: Final = 60.0  # how often it is asked which tables there are
OLD_S: Final = 30.0
SETTINGS: Final = ("parts_to_delay_insert", "parts_to_throw_insert")


def bounds(engines: dict[str, str], defaults: dict[str, int]) -> dict[str, int]:
    """Return each table's bound on parts in a partition, by its `engine_full` and the server's defaults. Pure."""
    found = {}
    for table, full in engines.items():
        given = {name: int(m[1]) if (m := re.search(rf"\b{name} = '?(\d+)", full)) else defaults.get(name, 0) for name in SETTINGS}
        found[table] = bound(given[SETTINGS[0]], given[SETTINGS[1]])
    return found


def _rows(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines()]


def _among(tables: Sequence[str]) -> str:
    return ", ".join(map(literal, tables))


def ask_bounds(server: guard.Asked, tables: list[str]) -> dict[str, int]:
    """Ask which tables an insert into `tables` reaches, as `guard` does, and for the bound of each."""
    reached = list(guard.fed(server, tables))
    engines = _rows(server.execute(
        f"SELECT database || '.' || name, replaceRegexpAll(engine_full, '\\\\s+', ' ') FROM system.tables WHERE database || '.' || name IN ({_among(reached)})"
        " FORMAT TabSeparatedRaw"))
    defaults = _rows(server.execute(f"SELECT name, value FROM system.merge_tree_settings WHERE name IN ({_among(SETTINGS)})"))
    return bounds(dict(engines), {name: int(value) for name, value in defaults})


def ask(server: guard.Asked, known: dict[str, int]) -> tuple[Parts, ...]:
    """Ask how many parts the fullest partition of each table has. `known`: table to bound."""
    rows = _rows(server.execute(
        "SELECT name, max(n) FROM (SELECT database || '.' || table AS name, partition_id, count() AS n FROM system.parts"
        f" WHERE active AND database || '.' || table IN ({_among(list(known))}) GROUP BY name, partition_id) GROUP BY name"))
    return tuple(Parts(table, int(most), known[table]) for table, most in rows)


class Asker:
    """Asks the server at `url` about `tables` and what lies behind them."""

    def __init__(self, url: str, tables: list[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._url, self._tables, self._clock = url, tables, clock
        self._bounds: dict[str, int] = {}
        self._bounds_s = float("-inf")

    def __call__(self) -> tuple[Parts, ...]:
        """Ask now.

        Raises:
            WeirError: it was not answered.
        """
        client = ClickHouse(self._url)
        try:
            if self._clock() - self._bounds_s >= TABLES_S:
                self._bounds, self._bounds_s = ask_bounds(client, self._tables), self._clock()
            return ask(client, self._bounds)
        finally:
            client.close()


def watch(url: str, tables: list[str], clock: Callable[[], float] = time.monotonic) -> Beside[tuple[Parts, ...]]:
    """Return the newest answer, asked each `ASK_S` while somebody looks."""
    return Beside("parts", Asker(url, tables, clock), (), every_s=ASK_S, old_s=OLD_S, clock=clock)

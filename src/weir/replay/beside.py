"""Tables whose rows bear an offset (landing, quarantine, ledger): the ClickHouse partitions that a replay touches, built beside and put in the live ones' place.

In: a table, which of its rows are replaced. Out: statements. Keep: of a topic partition rows come in the order of offsets, a batch at once; so what is below a mark that was seen is
whole, and what comes later is at or past it. REPLACE PARTITION keeps the table, its views and its deduplication tokens: a batch that is repeated after it counts once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from weir.contracts import names
from weir.contracts.clickhouse import literal
from weir.errors import ContractViolation
from weir.replay.ranges import Marks, Pair, between, from_on
from weir.transform import proof
from weir.transform.warehouse import Warehouse

PREFIX: Final = names.SHADOW_PREFIX
# Rows beside are made anew: a block that is like another is no repeat. A range may be of many days, each a partition.
SETTINGS: Final = "SETTINGS insert_deduplicate = 0, max_partitions_per_insert_block = 0"
HELD_S: Final = 20  # one statement while inserts are held: a lane's insert waits 30 s
FROM_NONE: Final = "SETTINGS allow_replace_partition_from_empty_source = 1"  # a partition of which nothing is left


def shadow_of(table: str, what: str = "") -> str:
    """Return the name of a table beside, in the same database. Pure."""
    database, name = table.split(".")
    return f"{database}.{PREFIX}{name}{f'__{what}' if what else ''}"


def held(select: str) -> str:
    """Return an INSERT … SELECT as it runs while inserts are held. Pure."""
    return f"{select} {SETTINGS}, max_execution_time = {HELD_S}, max_threads = 2"


def replace(table: str, beside: str, ids: Iterable[str]) -> list[str]:
    """Return what puts the partitions in the place of the live ones. Pure."""
    return [f"ALTER TABLE {table} REPLACE PARTITION ID {literal(i)} FROM {beside} {FROM_NONE}" for i in ids]


@dataclass
class Beside:
    """One table. `outside`: the condition for rows that stay as they are; `ids`: partitions that are built; `gone` rows are replaced by `made`, of those partitions."""

    table: str
    column: str
    outside: str
    ids: tuple[str, ...]
    gone: int = 0
    made: int = 0
    marks: dict[Pair, int] = field(default_factory=dict)

    @property
    def beside(self) -> str:
        """Return the name of the one beside."""
        return shadow_of(self.table)

    @property
    def here(self) -> str:
        """Return the condition for rows of the partitions."""
        return f"_partition_id IN ({', '.join(map(literal, self.ids))})"

    def copying(self, condition: str) -> str:
        """Return the statement that copies live rows that stay."""
        return f"INSERT INTO {self.beside} SELECT * FROM {self.table} WHERE {self.here} AND {self.outside} AND {condition}"

    def caught_up(self, later: Marks) -> str:
        """Return the statement that copies what came up to `later`, which are the marks from then on."""
        found = self.copying(between(self.marks, later, self.column))
        self.marks = dict(later)
        return f"{found} {SETTINGS}"

    def last(self) -> list[str]:
        """Return the statements that copy the last rows and see that none is missing, while nothing else writes."""
        live, mine = (f"(SELECT toInt64(count()) FROM {table} WHERE {self.here})" for table in (self.table, self.beside))
        guard = f"SELECT throwIf({live} - {self.gone} != {mine} - {self.made}, {literal(f'rows of {self.table} came where none were expected')}) SETTINGS max_execution_time = {HELD_S}"
        return [held(self.copying(from_on(self.marks, self.column))), guard]

    def prove(self, warehouse: Warehouse) -> int:
        """Compare what was copied with the live rows below the marks; return how many rows that were.

        Raises:
            ContractViolation: they are not the same.
        """
        row = proof.row(columns(warehouse, self.table))
        below = f"{self.here} AND {self.outside} AND NOT {from_on(self.marks, self.column)}"
        sides = [warehouse.one(f"SELECT count(), sum({row}) FROM {table} WHERE {below}") for table in (self.table, self.beside)]
        if sides[0] != sides[1]:
            raise ContractViolation(f"{self.beside} has {sides[1][0]} rows that stay, {self.table} has {sides[0][0]}, or others: something else writes to it", hint="run it again; the live tables serve on")
        return int(sides[0][0])


def columns(warehouse: Warehouse, table: str) -> dict[str, str]:
    """Return a table's columns with their types, in order."""
    return {str(c): str(kind) for c, kind in warehouse.query(f"SELECT name, type FROM system.columns WHERE database || '.' || table = {literal(table)} ORDER BY position")}


def count(warehouse: Warehouse, table: str, where: str = "1") -> int:
    """Return how many rows there are."""
    return int(warehouse.one(f"SELECT count() FROM {table} WHERE {where}")[0])


def partitions(warehouse: Warehouse, *sources: str) -> tuple[str, ...]:
    """Return the ids of the ClickHouse partitions in which rows lie; each source is a table, with WHERE or without."""
    return tuple(i for (i,) in warehouse.query(" UNION DISTINCT ".join(f"SELECT DISTINCT _partition_id FROM {source}" for source in sources)))


def create(warehouse: Warehouse, table: str, what: str = "") -> str:
    """Make an empty table beside with the same columns, engine and keys; return its name."""
    name = shadow_of(table, what)
    warehouse.run(f"CREATE TABLE {name} AS {table}")
    return name


def sweep(warehouse: Warehouse) -> int:
    """Drop what stands beside, of this or an earlier replay; return how many tables there were."""
    rows = warehouse.query(f"SELECT concat(database, '.', name) FROM system.tables WHERE database IN ('{names.DB_LANDING}', '{names.DB_STAGING}') AND startsWith(name, '{PREFIX}') "
                           "ORDER BY engine NOT IN ('MaterializedView', 'View'), name")
    for (name,) in rows:
        warehouse.run(f"DROP TABLE IF EXISTS {name} SYNC")
    return len(rows)


def landed(warehouse: Warehouse, topic: str, floor: Mapping[int, int]) -> dict[Pair, int]:
    """Return the offset after the last landed row of each partition. `floor`: offsets that are known to have landed, from which on to look."""
    parts = " OR ".join(f"partition = {p} AND offset >= {at}" for p, at in sorted(floor.items()))
    rows = warehouse.query(f"SELECT partition, max(offset) + 1 FROM {names.LANDING_EVENTS} WHERE topic = {literal(topic)} AND ({parts}) GROUP BY partition")
    return {(topic, p): at for p, at in floor.items()} | {(topic, int(p)): int(at) for p, at in rows}


def ends(warehouse: Warehouse, table: str, column: str, ids: Iterable[str] = ()) -> dict[Pair, int]:
    """Return the offset after the last row of each topic partition in a table, 0 where only the ledger knows it."""
    here = f"WHERE _partition_id IN ({', '.join(map(literal, ids))})" if ids else ""
    known = {(t, int(p)): 0 for t, p in warehouse.query(f"SELECT topic, partition FROM {names.LEDGER} GROUP BY topic, partition")}
    return known | {(t, int(p)): int(at) for t, p, at in warehouse.query(f"SELECT topic, partition, max({column}) + 1 FROM {table} {here} GROUP BY topic, partition")}

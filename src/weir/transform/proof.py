"""Whether the table beside is what its query makes of the landing tables, and what the standing one has that they no longer give.

In: a keyed table with its feeds. Out: `Proof`, and the lone keys. Keep, so that it is exact beside live ingest, without a guess at time: what is owed is noted first, then the inserts that
run are waited for, then what is there is noted; a row that is there and was not owed is looked for in the landing tables once more, which is later. 64-bit hashes of whole rows
and of keys stand for them, in tables beside, and are compared slice by slice of the key's hash, so memory is bounded.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from weir.contracts import names
from weir.errors import Undecided
from weir.transform.shadow import Keyed
from weir.transform.warehouse import Warehouse

SLICE_ROWS: Final = 4_000_000
SETTLE_S: Final = 60.0  # an insert of ingest has a time limit of 30 s
MARGIN: Final = "INTERVAL 10 MINUTE"  # what a TTL takes while the proof runs is judged on neither side
_ENGINE: Final = "ENGINE = MergeTree ORDER BY k SETTINGS non_replicated_deduplication_window = 0"


@dataclass(frozen=True, slots=True)
class Proof:
    """What was compared. `keys`: owed by the landing tables; `rows`: stored in the table; `missing`: keys it lacks, or has older; `different`: rows that no landed row makes.

    `owed_hash`, `there_hash`: of the keys, whatever their order; `through`: the highest offsets of what was owed, by landing table, topic and partition.
    """

    keys: int
    rows: int
    missing: int
    different: int
    owed_hash: int
    there_hash: int
    through: Mapping[str, Mapping[str, int]]

    @property
    def good(self) -> bool:
        """Whether the table is its query, no row less and none else."""
        return not self.missing and not self.different and self.owed_hash == self.there_hash


def settle(warehouse: Warehouse) -> None:
    """Wait until every insert into a landing table that runs now is over.

    Raises:
        Undecided: one runs for longer than an insert of ingest can.
    """
    running = "SELECT query_id FROM system.processes WHERE query_kind = 'Insert' AND query ILIKE '%landing%'"
    before, deadline = {q for (q,) in warehouse.query(running)}, time.monotonic() + SETTLE_S
    while before & {q for (q,) in warehouse.query(running)} if before else False:
        if time.monotonic() > deadline:
            raise Undecided(f"an insert into a landing table has run for more than {SETTLE_S:.0f} s", hint="./weir logs clickhouse shows why; then run the command again")
        time.sleep(0.1)


def _cast(columns: Mapping[str, str]) -> str:
    return ", ".join(f"CAST(`{c}` AS {kind}) AS `{c}`" for c, kind in columns.items())


def row(columns: Mapping[str, str]) -> str:
    """Return the hash of a row; of what may be null as text, since the hash of a null is null. Pure. `columns`: types by name."""
    return f"sipHash64({', '.join(f'toString(tuple(`{c}`))' if 'Nullable' in kind else f'`{c}`' for c, kind in columns.items())})"


def _key(table: Keyed) -> str:
    return f"sipHash64({table.key})"


def _of_key(table: Keyed) -> dict[str, str]:
    """Return the columns that the key names."""
    return {c: kind for c, kind in table.columns.items() if re.search(rf"(?<!\w){re.escape(c)}(?!\w)", table.key)}


def kept(table: Keyed) -> str:
    """Return the condition for what the table's TTL keeps for a while yet."""
    return f"({table.ttl.removesuffix(' DELETE')}) > now() + {MARGIN}" if table.ttl else "1"


def landed(table: Keyed, columns: Mapping[str, str]) -> str:
    """Return the SELECT of what a table's feeds make of the landing tables, with the table's types. Pure."""
    return " UNION ALL ".join(f"SELECT {_cast(columns)} FROM ({select})" for select in table.feeds.values())


def _hashed(table: Keyed) -> str:
    return f"{_key(table)} AS k, {row(table.columns)} AS r, {f'toUInt64(`{table.version}`)' if table.version else 'toUInt64(0)'} AS v"


def _note(warehouse: Warehouse, name: str, select: str) -> int:
    """Keep an answer in a table beside; return its rows."""
    warehouse.run(f"DROP TABLE IF EXISTS {name} SYNC")
    warehouse.run(f"CREATE TABLE {name} {_ENGINE} AS {select}")
    return int(warehouse.one(f"SELECT count() FROM {name}")[0])


def slices(rows: int) -> Iterator[str]:
    """Yield conditions on a hash `k`, that together take each once. Pure."""
    count = max(1, -(-rows // SLICE_ROWS))
    for n in range(count):
        yield f"k BETWEEN {(n << 64) // count} AND {((n + 1) << 64) // count - 1}"


def through(warehouse: Warehouse, table: Keyed) -> dict[str, dict[str, int]]:
    """Return the highest offset by topic and partition, of each landing table that the feeds read and that has them."""
    made: dict[str, dict[str, int]] = {}
    told = "countIf(name IN ('topic', 'partition', 'offset')) = 3"
    for (name,) in warehouse.query(f"SELECT table FROM system.columns WHERE database = '{names.DB_LANDING}' GROUP BY table HAVING {told} ORDER BY table"):
        if any(f"{names.DB_LANDING}.{name}" in select.replace("`", "") for select in table.feeds.values()):
            rows = warehouse.query(f"SELECT topic, partition, max(offset) FROM {names.DB_LANDING}.{name} GROUP BY topic, partition ORDER BY topic, partition")
            made[f"{names.DB_LANDING}.{name}"] = {f"{topic}[{partition}]": int(offset) for topic, partition, offset in rows}
    return made


def prove(warehouse: Warehouse, table: Keyed) -> Proof:
    """Compare the table with what its feeds' queries make of the landing tables.

    Raises:
        Undecided, Unavailable, Terminal: it could not be compared.
    """
    owed, there, odd = (f"{table.table}__{what}" for what in ("owed", "there", "odd"))
    at = through(warehouse, table)
    query = landed(table, table.columns)
    keys = _note(warehouse, owed, f"SELECT {_hashed(table)} FROM ({query}) WHERE {kept(table)}")
    settle(warehouse)
    rows = _note(warehouse, there, f"SELECT {_hashed(table)} FROM {table.table}")
    warehouse.run(f"DROP TABLE IF EXISTS {odd} SYNC")
    warehouse.run(f"CREATE TABLE {odd} (k UInt64, r UInt64) {_ENGINE}")
    found = [0, 0, 0, 0]
    for part in slices(max(keys, rows)):
        sides = f"SELECT k, v, 0 AS s FROM {owed} WHERE {part} UNION ALL SELECT k, v, 1 AS s FROM {there} WHERE {part}"
        by_key = f"SELECT k, countIf(s = 0) AS o, countIf(s = 1) AS t, maxIf(v, s = 0) AS ov, maxIf(v, s = 1) AS tv FROM ({sides}) GROUP BY k"
        count, missing, first, second = warehouse.one(
            f"SELECT countIf(o > 0), countIf(o > 0 AND (t = 0 OR tv < ov)), groupBitXorIf(k, o > 0), groupBitXorIf(k, o > 0 AND t > 0) FROM ({by_key})")
        found = [found[0] + int(count), found[1] + int(missing), found[2] ^ int(first), found[3] ^ int(second)]
        warehouse.run(f"INSERT INTO {odd} SELECT k, r FROM {there} WHERE {part} AND r NOT IN (SELECT r FROM {owed} WHERE {part})")
    different = 0
    if warehouse.one(f"SELECT count() FROM {odd}")[0]:
        again = f"SELECT r FROM (SELECT {_hashed(table)} FROM ({query})) WHERE k IN (SELECT k FROM {odd})"
        different = int(warehouse.one(f"SELECT count() FROM {odd} WHERE r NOT IN ({again})")[0])
    return Proof(found[0], rows, found[1], different, found[2], found[3], at)


def fill(warehouse: Warehouse, table: Keyed) -> int:
    """Insert what landed while no view fed the table, by its own views' queries; return how many keys it lacked. Beside live inserts, as dbt's catch_up: noted, waited for, looked at again."""
    gap, query, mine = f"{names.DB_STAGING}.{names.SHADOW_PREFIX}{table.name}__gap", landed(table, table.columns), f"SELECT k, v FROM (SELECT {_hashed(table)} FROM {table.table})"
    newest = "ORDER BY v DESC LIMIT 1 BY k" if table.version else ""
    settle(warehouse)
    count = _note(warehouse, gap, f"SELECT k, v FROM (SELECT {_hashed(table)} FROM ({query}) WHERE {kept(table)} {newest}) WHERE (k, v) NOT IN ({mine})")
    if count:
        settle(warehouse)
        columns = ", ".join(f"`{c}`" for c in table.columns)
        warehouse.run(f"INSERT INTO {table.table} ({columns}) SELECT {columns} FROM (SELECT *, {_hashed(table)} FROM ({query})) "
                      f"WHERE (k, v) IN (SELECT k, v FROM {gap}) AND (k, v) NOT IN ({mine}) SETTINGS insert_deduplicate = 0")
    warehouse.run(f"DROP TABLE {gap} SYNC")
    return count


def lone(warehouse: Warehouse, live: Keyed, beside: Keyed) -> int:
    """Note the keys that only the standing table has, since the landing tables have lost theirs; return how many. `prove` has run: what is beside is noted."""
    mine, given, only = (f"{beside.table}__{what}" for what in ("mine", "given", "lone"))
    rows = _note(warehouse, mine, f"SELECT DISTINCT {_key(live)} AS k FROM {live.table} WHERE {kept(live)}")
    _note(warehouse, given, f"SELECT {_key(live)} AS k FROM ({landed(live, _of_key(live))})")
    warehouse.run(f"DROP TABLE IF EXISTS {only} SYNC")
    warehouse.run(f"CREATE TABLE {only} (k UInt64) {_ENGINE}")
    for part in slices(rows):
        warehouse.run(f"INSERT INTO {only} SELECT k FROM {mine} WHERE {part} AND k NOT IN (SELECT k FROM {given} WHERE {part}) "
                      f"AND k NOT IN (SELECT k FROM {beside.table}__there WHERE {part})")
    return int(warehouse.one(f"SELECT count() FROM {only}")[0])


def copy(warehouse: Warehouse, live: Keyed, beside: Keyed) -> int:
    """Copy the rows of lone keys; return how many of the keys the table beside has then."""
    columns: Any = ", ".join(f"`{c}`" for c in beside.columns)
    mine = f"IN (SELECT k FROM {beside.table}__lone)"
    warehouse.run(f"INSERT INTO {beside.table} ({columns}) SELECT {columns} FROM {live.table} WHERE {_key(live)} {mine} SETTINGS insert_deduplicate = 0")
    return int(warehouse.one(f"SELECT uniqExact({_key(beside)}) FROM {beside.table} WHERE {_key(beside)} {mine}")[0])

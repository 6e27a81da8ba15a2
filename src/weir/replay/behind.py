"""Tables that views fill from the landing table: what the changed records owed and owe, built beside in the partitions that this touches.

In: `old` and `new`, the landing rows of the changed records before and now. Out: tables beside, statements. Keep: a row that none of the changed records makes stays as it is; a row that
a changed record made goes, unless another landed record owes it too, or, of a set, one may have that is no longer there; what lands meanwhile is brought by the views' own queries. Live tables keep their tokens, views and comments.

Keyed tables (ReplacingMergeTree) and sets (groupBitmap) can be taken back so. A sum or another state cannot: it is refused, unless none of the changed records reaches it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from weir.contracts import names
from weir.contracts.clickhouse import literal
from weir.errors import ContractViolation
from weir.ingest import guard
from weir.replay import beside
from weir.replay.beside import SETTINGS, create, held, shadow_of
from weir.replay.ranges import Marks, between, from_on
from weir.transform import proof, shadow
from weir.transform.shadow import Keyed
from weir.transform.warehouse import Warehouse

LIVE: Final = names.LANDING_EVENTS
OURS: Final = frozenset({LIVE, names.QUARANTINE, names.LEDGER})  # built by their offsets
_SET: Final = re.compile(r"AggregateFunction\(groupBitmap, ")


class _Client:
    """A warehouse as `guard` asks it."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse

    def execute(self, sql: str, **_parameters: str | int) -> str:
        rows = self._warehouse.query(sql.removesuffix(" FORMAT TabSeparatedRaw"))
        return "\n".join("\t".join(map(str, row)) for row in rows)


def fed(warehouse: Warehouse) -> dict[str, Keyed]:
    """Return the tables behind the landing table, but for quarantine and ledger, by name.

    Raises:
        ContractViolation: one lies where it can't be built beside, is fed by something else too, or feeds another one.
    """
    standing = {t.table: t for t in shadow.standing(warehouse).values()}
    found = {}
    for name, view in guard.fed(_Client(warehouse), [LIVE]).items():
        if name in OURS or name.startswith(f"{names.DB_STAGING}.{names.SHADOW_PREFIX}"):
            continue
        table = standing.get(name)
        if table is None or not all(shadow.names_table(select, LIVE) for select in table.feeds.values()):
            raise ContractViolation(f"{name}, which {view} fills, is not fed by {LIVE} alone, or is no table of {names.DB_STAGING}: it cannot be built beside", hint=f"drop {view}, replay, and make it anew")
        if chained := [r.name for r in shadow.readers(warehouse, table) if r.fires]:
            raise ContractViolation(f"{chained[0]} fires on inserts into {name}, which a replay would not reach", hint=f"drop {chained[0]}, replay, and make it anew")
        found[name] = table
    return found


def made(table: Keyed, source: str) -> str:
    """Return the SELECT of what the table's views make of landing rows `source`, a table or a SELECT in parentheses. Pure."""
    return proof.landed(replace(table, feeds={n: shadow.instead(s, LIVE, source) for n, s in table.feeds.items()}), table.columns)


@dataclass
class Behind:
    """One table while it is built beside.

    `whole_ms`: from when on (ms since the epoch) all that occurred is in the landing table; `before`: a table of the changed records' landing rows before; `old`, `new`: tables of what the
    changed records owed and owe; `ids`: the partitions that they touch.
    """

    warehouse: Warehouse
    table: Keyed
    whole_ms: int
    before: str = ""
    old: str = ""
    new: str = ""
    ids: tuple[str, ...] = ()
    marks: Marks = field(default_factory=dict)

    @property
    def is_set(self) -> bool:
        """Whether it is a table of sets: one bitmap a key, of which the day is a part: other keys may be owed by records of any age."""
        states = [kind for c, kind in self.table.columns.items() if c not in self._keys]
        return "day" in self._keys and self.table.engine.endswith("AggregatingMergeTree") and len(states) == 1 and bool(_SET.match(states[0]))

    @property
    def _keys(self) -> list[str]:
        return [k.strip() for k in self.table.key.split(",")]

    @property
    def _state(self) -> str:
        return next(c for c in self.table.columns if c not in self._keys)

    @property
    def key(self) -> str:
        """Return 128 bits of hash of a row's key, as SQL: a set of them is small (two of a billion keys alike: 1 in 10^20)."""
        return f"sipHash128({self.table.key})"

    @property
    def identity(self) -> str:
        """Return the hash of what makes a row one row: of a versioned table the version too."""
        return f"sipHash128({self.table.key}{f', {self.table.version}' if self.table.version else ''})"

    @property
    def _touched(self) -> str:
        return f"SELECT {self.key} FROM {self.old} UNION ALL SELECT {self.key} FROM {self.new}"

    @property
    def beside(self) -> str:
        """Return the name of the table beside."""
        return shadow_of(self.table.table)

    def reach(self, old: str, new: str) -> bool:
        """Make what the changed records owed and owe; say whether that is another thing.

        Raises:
            ContractViolation: it is, and rows cannot be taken out of such a table.
        """
        self.before = old
        kept = f"({self.table.ttl.removesuffix(' DELETE')}) > now()" if self.table.ttl else "1"
        for what, source in (("old", old), ("new", new)):
            name = create(self.warehouse, self.table.table, what)
            setattr(self, what, name)
            self.warehouse.run(f"INSERT INTO {name} SELECT * FROM ({made(self.table, source)}) WHERE {kept} {SETTINGS}")
        row = proof.row(self.table.columns)
        sides = [self.warehouse.one(f"SELECT count(), sum(k) FROM ({self._members(t) if self.is_set else f'SELECT {row} AS k FROM {t}{self._final}'})") for t in (self.old, self.new)]
        if sides[0] == sides[1]:
            return False
        if not (self.table.is_keyed or self.is_set):
            raise ContractViolation(f"{self.table.table} is no keyed table and no set ({self.table.engine}): what the range has put into it cannot be taken out again",
                                    hint=f"drop {', '.join(self.table.feeds)}, replay, and build the table anew")
        self.ids = beside.partitions(self.warehouse, self.old, self.new)
        return True

    def clone(self) -> None:
        """Take the live partitions as they stand: hard links, which live inserts do not change."""
        was = create(self.warehouse, self.table.table, "was")
        for i in self.ids:
            if beside.count(self.warehouse, self.table.table, f"_partition_id = {literal(i)}"):
                self.warehouse.run(f"ALTER TABLE {was} ATTACH PARTITION ID {literal(i)} FROM {self.table.table}")

    def build(self, rest: str) -> None:
        """Build the partitions beside of the clone and of what the changed records owe now. `rest`: all other landed rows, as a source."""
        name, sql = create(self.warehouse, self.table.table), self.warehouse.run
        if self.is_set:
            self._subtract(name, rest)
        else:
            sql(f"INSERT INTO {name} SELECT * FROM {self._was} WHERE {self.key} NOT IN ({self._touched}) {SETTINGS}")
            sql(f"INSERT INTO {name} SELECT * FROM ({made(self.table, rest)}) WHERE {self.key} IN ({self._touched}) {SETTINGS}")
        sql(f"INSERT INTO {name} SELECT * FROM {self.new} {SETTINGS}")

    def join(self, committed: Marks, settled: Marks) -> None:
        """Bring what landed from `committed`, which was asked before the clone, to `settled`, asked after it: some of that was in the clone."""
        later = f"SELECT * FROM ({made(self.table, f'(SELECT * FROM {LIVE} WHERE {between(committed, settled)})')})"
        if not self.is_set:  # which take a member however often
            later += f" WHERE {self.identity} NOT IN (SELECT {self.identity} FROM {self.beside} WHERE {self.identity} IN (SELECT {self.identity} FROM ({later})))"
        self.warehouse.run(f"INSERT INTO {self.beside} {later} {SETTINGS}")
        self.marks = settled

    @property
    def _was(self) -> str:
        return shadow_of(self.table.table, "was")

    @property
    def _final(self) -> str:
        return " FINAL" if self.table.is_keyed else ""

    def _members(self, table: str, where: str = "1") -> str:
        return f"SELECT sipHash64({self.table.key}, arraySort(bitmapToArray(groupBitmapMergeState({self._state})))) AS k FROM {table} WHERE {where} GROUP BY {self.table.key}"

    def _subtract(self, name: str, rest: str) -> None:
        """Copy the sets without the members that only the changed records had put in; those of days of which landing rows are gone stay, since these may owe them too."""
        taken = made(self.table, f"(SELECT * FROM {self.before} WHERE occurred_at >= fromUnixTimestamp64Milli({self.whole_ms}))")
        key, state, was = self.table.key, self._state, self._was
        still = f"SELECT * FROM {self.new} UNION ALL SELECT * FROM ({made(self.table, rest)}) WHERE ({key}) IN (SELECT {key} FROM {self.old})"
        sides = f"SELECT *, 0 AS side FROM ({taken}) UNION ALL SELECT *, 1 AS side FROM ({still}) UNION ALL SELECT *, 2 AS side FROM {was} WHERE ({key}) IN (SELECT {key} FROM {self.old})"
        merged = ", ".join(f"groupBitmapMergeStateIf({state}, side = {n}) AS s{n}" for n in range(3))
        self.warehouse.run(f"INSERT INTO {name} SELECT * FROM {was} WHERE ({key}) NOT IN (SELECT {key} FROM {self.old}) {SETTINGS}")
        left = f"SELECT {', '.join(f'bitmapAndnot(s2, bitmapAndnot(s0, s1)) AS `{c}`' if c == state else f'`{c}`' for c in self.table.columns)} FROM (SELECT {key}, {merged} FROM ({sides}) GROUP BY {key})"
        self.warehouse.run(f"INSERT INTO {name} SELECT * FROM ({left}) WHERE bitmapCardinality({state}) > 0 {SETTINGS}")

    def caught_up(self, later: Marks) -> str:
        """Return the statement that brings what landed up to `later`, which are the marks from then on."""
        found = f"INSERT INTO {self.beside} SELECT * FROM ({made(self.table, f'(SELECT * FROM {LIVE} WHERE {between(self.marks, later)})')}) {SETTINGS}"
        self.marks = later
        return found

    def last(self) -> list[str]:
        """Return the statement that brings the last rows, while nothing else writes."""
        return [held(f"INSERT INTO {self.beside} SELECT * FROM ({made(self.table, f'(SELECT * FROM {LIVE} WHERE {from_on(self.marks)})')})")]

    def prove(self) -> int:
        """Compare what stays with the clone, by its keys or members, before anything else is brought; return how many that were.

        Raises:
            ContractViolation: they are not the same.
        """
        stay, found = f"{self.key} NOT IN ({self._touched}) AND {proof.kept(self.table)}", 0
        for part in proof.slices(beside.count(self.warehouse, self._was)):
            one = "SELECT count(), sum(k) FROM (SELECT DISTINCT k FROM ({}) WHERE {})"
            sides = [self.warehouse.one(one.format(self._members(t, stay) if self.is_set else f"SELECT sipHash64({self.table.key}) AS k FROM {t} WHERE {stay}", part)) for t in (self._was, self.beside)]
            if sides[0] != sides[1]:
                raise ContractViolation(f"{self.beside} has {sides[1][0]} of {sides[0][0]} keys of {self.table.table} that stay, or others", hint="run it again; the live tables serve on")
            found += int(sides[0][0])
        return found

    def exchange(self) -> list[str]:
        """Return what puts it in the live one's place."""
        return beside.replace(self.table.table, self.beside, self.ids)


def feeds(tables: Iterable[Keyed]) -> dict[str, object]:
    """Return what must not change while tables are built beside: their views and columns. Pure."""
    return {t.table: (t.shape, t.uuid) for t in tables}

"""Quarantine and ledger beside: what the range's rows put into them by the landing table's own views, in the place of what they had put there.

In: the landing table beside, whole in the touched days. Out: tables beside, of those that get other rows. Keep: records of other topics, and of other batches, stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from weir.contracts import names
from weir.contracts.clickhouse import literal
from weir.errors import ContractViolation
from weir.replay.beside import SETTINGS, Beside, create, ends, partitions, shadow_of
from weir.replay.plan import LIVE
from weir.replay.ranges import from_on
from weir.transform import shadow
from weir.transform.warehouse import Warehouse

Held = Callable[[str, tuple[str, str], tuple[str, int]], None]  # a table, its landing rows (table, condition), and which of its rows are theirs, with how many those are


@dataclass(frozen=True, slots=True)
class Books:
    """What builds them. `landing`: the landing table beside; `mine`: the condition for rows of the range."""

    warehouse: Warehouse
    topic: str
    landing: Beside
    mine: str

    def build(self, held: Held) -> list[Beside]:
        """Build those that get other rows, and have each held to a recompute.

        Raises:
            WeirError: one could not be built, or is not what it should be.
        """
        batches, here = shadow_of(names.LEDGER, "batches"), self.landing.here
        both = " UNION ALL ".join(f"SELECT partition, batch FROM {t} WHERE {here} AND {self.mine}" for t in (LIVE, self.landing.beside))
        self.warehouse.run(f"CREATE TABLE {batches} ENGINE = MergeTree ORDER BY (partition, batch) AS SELECT DISTINCT partition, batch FROM ({both})")
        booked = f"(topic = {literal(self.topic)} AND (partition, batch) IN (SELECT partition, batch FROM {batches}))"
        days = f"({self.mine} AND toDate(produced_at) IN (SELECT DISTINCT toDate(produced_at) FROM {self.landing.beside} WHERE {here}))"
        found = []
        for table, column, theirs, source in ((names.QUARANTINE, "offset", days, self.mine), (names.LEDGER, "last_offset", booked, booked)):
            new = self._new(table, f"{here} AND {source}")
            made = self._build(table, column, theirs, new)
            if made is not None:
                held(table, (self.landing.beside, f"{here} AND {source}"), (theirs, made.made))
                found.append(made)
        return found

    def _new(self, table: str, source: str) -> str:
        """Make what the landing rows `source` owe to a table; return its name."""
        rows = self.warehouse.query(f"SELECT as_select FROM system.tables WHERE engine = 'MaterializedView' AND target_database || '.' || target_table = {literal(table)}")
        views = [select for (select,) in rows if shadow.names_table(select, LIVE)]
        if len(views) != 1:
            raise ContractViolation(f"{len(views)} views fill {table} from {LIVE}, where ingest/ddl makes one", hint="./weir restart ingest makes it")
        new, listed = create(self.warehouse, table, "new"), ", ".join(row[0] for row in self.warehouse.query(f"DESCRIBE TABLE ({views[0]})"))
        made = shadow.instead(views[0], LIVE, f"(SELECT * FROM {self.landing.beside} WHERE {source})")
        self.warehouse.run(f"INSERT INTO {new} ({listed}) SELECT {listed} FROM ({made}) {SETTINGS}")
        return new

    def _build(self, table: str, column: str, theirs: str, new: str) -> Beside | None:
        """Build the partitions of a table in which rows go or come; None: they are the same."""
        row = "sipHash64(*)"
        sides = [self.warehouse.one(f"SELECT count(), sum({row}) FROM {t} WHERE {w}") for t, w in ((table, theirs), (new, "1"))]
        if sides[0] == sides[1]:
            return None
        found = Beside(table, column, f"NOT {theirs}", partitions(self.warehouse, f"{table} WHERE {theirs}", new), gone=int(sides[0][0]), made=int(sides[1][0]))
        create(self.warehouse, table)
        found.marks = ends(self.warehouse, table, column, found.ids)
        self.warehouse.run(f"{found.copying(f'NOT {from_on(found.marks, column)}')} {SETTINGS}")
        found.prove(self.warehouse)
        self.warehouse.run(f"INSERT INTO {found.beside} SELECT * FROM {new} {SETTINGS}")
        return found

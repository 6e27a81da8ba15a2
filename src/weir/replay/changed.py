"""Which records of the range would land otherwise than they did: compared row by row with what is live, in the engine, a slice of offsets at a time.

In: the live landing table and the one beside. Out: their places, and their rows before and now, in tables beside. Keep: whatever is the same need not be touched behind; of a row everything
is compared but its batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from weir.contracts import names
from weir.errors import ContractViolation
from weir.replay.beside import SETTINGS, columns, count, create, partitions, shadow_of
from weir.replay.ranges import Span, within
from weir.transform import proof
from weir.transform.warehouse import Warehouse

LIVE: Final = names.LANDING_EVENTS
MOST: Final = 4_000_000  # in one replay: a set of the 16-byte hashes of what they owed and owe, half full, is 0.25 GB, and a query with two of them has 2 GB
SLICE: Final = 4_000_000  # offsets compared at once


@dataclass(frozen=True, slots=True)
class Changed:
    """The changed records. `table`: their places; `old`, `new`: their landing rows before and now."""

    warehouse: Warehouse
    topic: str
    count: int
    table: str = shadow_of(LIVE, "changed")
    old: str = shadow_of(LIVE, "old")
    new: str = shadow_of(LIVE, "new")

    @staticmethod
    def note(warehouse: Warehouse, topic: str, spans: Mapping[int, Span], horizon_ms: int) -> Changed:
        """Compare the range.

        Raises:
            ContractViolation: more would change than one replay can do.
        """
        table, here = shadow_of(LIVE, "changed"), shadow_of(LIVE)
        row = proof.row({c: kind for c, kind in columns(warehouse, LIVE).items() if c != "batch"})
        warehouse.run(f"CREATE TABLE {table} (partition UInt16, offset UInt64) ENGINE = MergeTree ORDER BY (partition, offset)")
        for partition, span in sorted(spans.items()):
            for first in range(span.first, span.after, SLICE):
                part = within(topic, {partition: Span(first, min(first + SLICE, span.after))}, horizon_ms)
                sides = " UNION ALL ".join(f"SELECT partition, offset, {row} AS h, {n} AS side FROM {t} WHERE {part}" for n, t in enumerate((LIVE, here)))
                warehouse.run(f"INSERT INTO {table} SELECT partition, offset FROM ({sides}) GROUP BY partition, offset "
                              f"HAVING NOT (countIf(side = 0) = 1 AND countIf(side = 1) = 1 AND minIf(h, side = 0) = minIf(h, side = 1))")
        found = Changed(warehouse, topic, count(warehouse, table))
        if found.count > MOST:
            raise ContractViolation(f"{found.count:,} records would change, and one replay changes at most {MOST:,}", hint="replay a part of the range at a time")
        if found.count:
            mine = f"{within(topic, spans, horizon_ms)} AND (partition, offset) IN (SELECT partition, offset FROM {table})"
            for what, source in (("old", LIVE), ("new", here)):
                warehouse.run(f"INSERT INTO {create(warehouse, LIVE, what)} SELECT * FROM {source} WHERE {mine} {SETTINGS}")
        return found

    def ids(self) -> tuple[str, ...]:
        """Return the ClickHouse partitions (days) that they lie in."""
        return partitions(self.warehouse, self.old, self.new)

    def by_partition(self) -> dict[int, dict[str, int]]:
        """Return how many there are by partition and kind: now_accepted, now_quarantined, other_values, was_missing, was_doubled, no_record (rows at an offset where Kafka has none)."""
        sides = f"SELECT partition, offset, reject_reason != '' AS r, 0 AS side FROM {self.old} UNION ALL SELECT partition, offset, reject_reason != '' AS r, 1 AS side FROM {self.new}"
        kind = "multiIf(n = 0, 'no_record', o = 0, 'was_missing', o > 1, 'was_doubled', was > is, 'now_accepted', was < is, 'now_quarantined', 'other_values')"
        rows = self.warehouse.query(f"SELECT partition, {kind} AS kind, count() FROM (SELECT partition, offset, countIf(side = 0) AS o, countIf(side = 1) AS n, maxIf(r, side = 0) AS was, "
                                    f"maxIf(r, side = 1) AS is FROM ({sides}) GROUP BY partition, offset) GROUP BY partition, kind ORDER BY partition, kind")
        found: dict[int, dict[str, int]] = {}
        for partition, what, times in rows:
            found.setdefault(int(partition), {})[what] = int(times)
        return found

    def refuse_others(self) -> None:
        """Refuse when a record that landed at an offset is another than the one which Kafka has there now: a record keeps its timestamp, whatever a contract says of it.

        Raises:
            ContractViolation: says of how many, and from which one on.
        """
        landed, at = f"SELECT partition, offset, produced_at FROM {self.old}", "partition, offset"
        others = f"({at}) IN (SELECT {at} FROM {self.old}) AND ({at}, produced_at) NOT IN ({landed})"
        n, partition, offset = self.warehouse.one(f"SELECT count(), min((partition, offset)).1, min((partition, offset)).2 FROM {self.new} WHERE {others}")
        if int(n):
            raise ContractViolation(f"{int(n):,} records that landed have another time than Kafka has at their offsets, from {self.topic}/{partition}/{offset} on: the topic was made anew, so they are other records",
                                    hint="what landed is not in Kafka any more, and stays as it is; replay what landed since by its own offsets")

    def refuse_handled(self) -> None:
        """Refuse when an operator has settled a record in the quarantine that would be accepted now.

        Raises:
            ContractViolation: says how many.
        """
        place = "topic, partition, offset"
        done = f"SELECT {place} FROM {names.QUARANTINE_ACTIONS} WHERE action != 'fix'"
        settled = count(self.warehouse, self.new, f"reject_reason = '' AND ({place}) IN ({done})")
        if settled:
            raise ContractViolation(f"{settled} records that would be accepted now were replayed or discarded by ./weir quarantine", hint="--handled-too takes them in as they are in Kafka; ./weir quarantine show tells what was done")

"""What a replay would replace, how long it takes and what room it needs; and every reason not to begin.

In: what is asked for, Kafka, ClickHouse. Out: a `Plan`, or a refusal of one line that says what to do. Keep: reads only.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from weir.contracts import names
from weir.contracts.clickhouse import literal
from weir.contracts.retention import Retention
from weir.errors import ContractViolation, DiskFull
from weir.ingest.decode import user_events
from weir.ingest.verify.outcome import Bounds
from weir.ingest.verify.run import bounds_of, chunks, whole_from_ms
from weir.replay import behind
from weir.replay.ranges import Asked, Span, spans, within
from weir.topics.reader import Reader
from weir.transform import shadow
from weir.transform.shadow import Keyed
from weir.transform.warehouse import Warehouse

LIVE: Final = names.LANDING_EVENTS
SPARE: Final = 1.25  # of the bytes that the live rows take: fresh parts are merged and compressed later


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be replaced. `rows`, `quarantined`: landed rows of the range by partition; `copied`: rows of the same days that are copied; `seconds`: by the rate of the first records, 0 where there is none."""

    spans: Mapping[int, Span]
    rows: Mapping[int, int]
    quarantined: Mapping[int, int]
    days: tuple[str, ...]
    copied: int
    tables: tuple[str, ...]
    disk_bytes: int
    free_bytes: int
    seconds: float

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        parts = {str(p): {"from": s.first, "to": s.after, "landed": self.rows.get(p, 0), "quarantined": self.quarantined.get(p, 0)} for p, s in sorted(self.spans.items())}
        return {"topic": names.TOPIC_USER_EVENTS, "partitions": parts, "landed": sum(self.rows.values()), "days": list(self.days), "copied": self.copied, "tables": list(self.tables),
                "disk_bytes": self.disk_bytes, "free_bytes": self.free_bytes, "seconds": round(self.seconds, 1)}


@dataclass
class Planner:
    """Asks Kafka and ClickHouse. `landing_days`: how long the landing table keeps its rows."""

    warehouse: Warehouse
    reader: Reader
    asked: Asked
    topic: str = names.TOPIC_USER_EVENTS
    now_ms: int = field(default_factory=lambda: int(time.time() * 1000))
    landing_days: int = field(default_factory=lambda: Retention.from_environment(os.environ).landing)

    @property
    def horizon_ms(self) -> int:
        """Return from when on the landing table is whole (ms since the epoch), as `./weir verify events` has it."""
        return whole_from_ms(self.now_ms, self.landing_days)

    @property
    def span_ms(self) -> tuple[int, int]:
        """Return now and the horizon."""
        return self.now_ms, self.horizon_ms

    def bounds(self) -> dict[int, Bounds]:
        """Return what Kafka holds and the group has committed, by partition."""
        return bounds_of(self.reader, self.topic)

    def _spans(self) -> dict[int, Span]:
        bounds, asked = self.bounds(), self.asked
        since, until = (self.reader.since(self.topic, list(bounds), ms) if ms is not None else {} for ms in (asked.since_ms, asked.until_ms))
        if asked.since_ms is not None:
            below = " OR ".join(f"partition = {p} AND offset < {b.low}" for p, b in bounds.items() if b.low)
            gone = self.warehouse.query(f"SELECT partition, count(), max(produced_at) FROM {LIVE} WHERE topic = {literal(self.topic)} AND ({below or '0'}) "
                                        f"AND produced_at >= fromUnixTimestamp64Milli({asked.since_ms}) GROUP BY partition ORDER BY max(produced_at) DESC")
            if gone:
                raise ContractViolation(f"Kafka no longer holds {gone[0][1]} records since then of {self.topic}/{gone[0][0]}, which begins at offset {bounds[int(gone[0][0])].low}",
                                        hint=f"--since a time after {gone[0][2]} takes what is still there")
        return spans(asked, bounds, since, until, self.topic)

    def plan(self) -> Plan:
        """Say what would be replaced, and refuse what cannot be.

        Raises:
            WeirError: the range is not there, an exchange was begun and not ended, a table behind cannot be built beside, or there is too little disk.
        """
        if begun := shadow.verified(shadow.standing(self.warehouse)):
            raise ContractViolation(f"the exchange of {begun[0]} was begun and not ended", hint=f"./weir deploy {begun[0]} ends it; then run this again")
        if not self.warehouse.holds():
            raise ContractViolation("this ClickHouse cannot hold inserts for an exchange: it is not Weir's gateway", hint="a replay needs POST /together (docs/decisions/0021)")
        found = self._spans()
        mine = within(self.topic, found, self.horizon_ms)
        tables = behind.fed(self.warehouse)
        landed = self.warehouse.query(f"SELECT partition, count(), countIf(reject_reason != '') FROM {LIVE} WHERE {mine} GROUP BY partition")
        days = tuple(str(i) for (i,) in self.warehouse.query(f"SELECT DISTINCT _partition_id FROM {LIVE} WHERE {mine} ORDER BY _partition_id"))
        rows = sum(int(r[1]) for r in landed)
        here = f"database || '.' || table = {literal(LIVE)} AND active AND partition_id IN ({', '.join(map(literal, days)) or literal('')})"
        held, size = self.warehouse.one(f"SELECT sum(rows), sum(bytes_on_disk) FROM system.parts WHERE {here}")
        disk = int(SPARE * (int(size) * (1 + rows / max(1, int(held))) + self._behind_bytes(tables.values(), mine)))
        free = int(self.warehouse.one("SELECT min(free_space) FROM system.disks")[0])
        made = Plan(found, {int(p): int(n) for p, n, _ in landed}, {int(p): int(q) for p, _, q in landed}, days, int(held) - rows, (LIVE, names.QUARANTINE, names.LEDGER, *tables), disk, free, self._seconds(found))
        if disk > free:
            raise DiskFull(f"the tables beside need about {disk / 1e6:,.0f} MB and ClickHouse's disk has {free / 1e6:,.0f} MB", hint="make room there, or take a smaller range")
        return made

    def _behind_bytes(self, tables: Iterable[Keyed], mine: str) -> int:
        """Return the bytes of the partitions of tables behind that the range's rows lie in, and of quarantine and ledger whole."""
        size = int(self.warehouse.one(f"SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database || '.' || table IN ({literal(names.QUARANTINE)}, {literal(names.LEDGER)})")[0])
        for table in tables:
            key = self.warehouse.one(f"SELECT partition_key FROM system.tables WHERE database || '.' || name = {literal(table.table)}")[0] or "'tuple()'"
            reached = f"SELECT DISTINCT toString({key}) FROM ({behind.made(table, f'(SELECT * FROM {LIVE} WHERE {mine})')})"
            size += int(self.warehouse.one(f"SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database || '.' || table = {literal(table.table)} AND partition IN ({reached})")[0])
        return size

    def _seconds(self, found: Mapping[int, Span]) -> float:
        """Return how long reading and decoding twice takes, at the rate of the first records."""
        (partition, span), began = min(found.items()), time.monotonic()
        for first, after, records in chunks(self.reader, (self.topic, partition), (span.first, span.after)):
            user_events(records, "")
            return 2 * sum(s.after - s.first for s in found.values()) * (time.monotonic() - began) / max(1, after - first)
        return 0.0

"""Verify the events: the tables behind the landing table are read first, then topic and landing table side by side, then both are compared.

In: Kafka, ClickHouse, a scratch folder. Out: an `Outcome`. Keep, so that it can run beside live ingest: the commits are asked first, and only offsets below them are judged; the
tables behind are read before the landing table, so a row in them that has not landed is no row that came meanwhile.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from weir.contracts import names
from weir.contracts.clickhouse import literal
from weir.contracts.retention import Retention
from weir.errors import ContractViolation, WeirError
from weir.ingest import guard
from weir.ingest.clickhouse import ClickHouse
from weir.ingest.decode import Decoder, user_events
from weir.ingest.kafka_log import to_record
from weir.ingest.record import Record
from weir.ingest.verify import expired, landing, spill, views
from weir.ingest.verify.outcome import OUTLIVED, UNPLACED, Bounds, Outcome, Table
from weir.topics.reader import Reader

CHUNK_ROWS: Final = 50_000
CHUNK_BYTES: Final = 32 << 20


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is: rows and records read, of about how many; `eta_s`: 0 while unknown."""

    done: int
    total: int
    rate: float
    eta_s: float

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.done:,} of about {self.total:,} records and rows, {self.rate:,.0f}/s, {self.eta_s:.0f} s to go"


def chunks(reader: Reader, partition: tuple[str, int], span: tuple[int, int], rows: int | None = None) -> Iterator[tuple[int, int, list[Record]]]:
    """Yield (first, after, records) of a range of offsets, so that the ranges cover the whole without a gap; about `rows` records (CHUNK_ROWS), or CHUNK_BYTES of values, at once.

    Raises:
        ContractViolation, Unavailable: as `Reader.read`.
    """
    first, after = span
    records: list[Record] = []
    size = 0
    for messages in reader.read({partition: span}):
        fresh = [to_record(m) for m in messages]
        records += fresh
        size += sum(len(r.value or b"") for r in fresh)
        if len(records) >= (rows or CHUNK_ROWS) or size >= CHUNK_BYTES:
            end = records[-1].offset + 1
            yield first, end, records
            first, records, size = end, [], 0
    if first < after:
        yield first, after, records


def bounds_of(reader: Reader, topic: str) -> dict[int, Bounds]:
    """Return what Kafka holds of a topic and the reader's group has committed, by partition.

    Raises:
        ContractViolation: there is no such topic. Unavailable: Kafka does not answer.
    """
    partitions = reader.partitions(topic)
    if not partitions:
        raise ContractViolation(f"there is no topic {topic}", hint="./weir up makes it")
    committed = reader.committed(topic, partitions)
    found = {}
    for p in partitions:
        low, end = reader.bounds(topic, p)
        found[p] = Bounds(low, max(low, committed[p][0]) if p in committed else low, end)
    return found


def whole_from_ms(now_ms: int, landing_days: int) -> int:
    """Return the start of the first day (ms since the epoch) of which the landing table's TTL has surely taken nothing: a day of grace, and batches lie within one. Pure."""
    return (now_ms // views.DAY_MS - landing_days + 2) * views.DAY_MS


@dataclass
class _View:
    """A table behind the landing table while it is verified."""

    table: Table
    recompute: views.Recompute
    fold: views.Fold
    sides: spill.Sides
    kept: pl.Expr


@dataclass
class Verification:
    """One verification. `run` gives the outcome."""

    client: ClickHouse
    reader: Reader
    scratch: Path
    report: Callable[[Progress], None] = lambda _progress: None
    topic: str = names.TOPIC_USER_EVENTS
    decoder: Decoder = user_events
    now_ms: int = field(default_factory=lambda: int(time.time() * 1000))
    landing_days: int = field(default_factory=lambda: Retention.from_environment(os.environ).landing)
    _done: int = 0
    _total: int = 0
    _began: float = field(default_factory=time.monotonic)
    _views: list[_View] = field(default_factory=list)

    @property
    def horizon_ms(self) -> int:
        """Return from when on the landing table is whole (ms since the epoch)."""
        return whole_from_ms(self.now_ms, self.landing_days)

    def run(self) -> Outcome:
        """Verify everything.

        Raises:
            WeirError: Kafka or ClickHouse could not be asked at all. What cannot be asked later is counted as unknown, with its reason.
        """
        bounds = bounds_of(self.reader, self.topic)
        targets = [t for t in guard.fed(self.client, [names.LANDING_EVENTS]) if t != names.LANDING_EVENTS and not t.startswith(f"{names.DB_STAGING}.{names.SHADOW_PREFIX}")]
        table = Table(names.LANDING_EVENTS)
        self._total = sum(b.committed - b.low for b in bounds.values()) + sum(self._rows(t) for t in (names.LANDING_EVENTS, *targets))
        with tempfile.TemporaryDirectory(prefix="verify-", dir=self.scratch) as folder:
            found = [self._read_view(target, Path(folder)) for target in targets]
            bounds = {p: self._partition(p, b, table) for p, b in bounds.items()}
            self._elsewhere(list(bounds), table)
            for view in self._views:
                self._compare(view, bounds, table)
        return Outcome(self.topic, bounds, table, found, time.monotonic() - self._began)

    # -- what there is

    def _rows(self, table: str) -> int:
        database, name = table.split(".")
        return int(self.client.execute("SELECT sum(rows) FROM system.parts WHERE active AND database = {d:String} AND table = {t:String}", d=database, t=name))

    def _tell(self, rows: int) -> None:
        self._done += rows
        rate = self._done / max(1e-3, time.monotonic() - self._began)
        self.report(Progress(self._done, self._total, rate, max(0, self._total - self._done) / rate if rate else 0.0))

    # -- the tables behind

    def _read_view(self, target: str, folder: Path) -> Table:
        """Take the digests of a table's rows as they stand, each copy of a key by itself: nothing is merged away."""
        table, recompute = Table(target), views.RECOMPUTED.get(target)
        if recompute is None:
            table.reason = "no recompute of this table is known: add one to weir.ingest.verify.views"
            return table
        try:
            missing = self._columns(target) ^ set(recompute.columns) ^ ({"topic"} & self._columns(target))
            if missing:
                table.reason = f"its columns are not those of the recompute: {', '.join(sorted(missing))}"
                return table
            where, kept = recompute.kept(self.now_ms, self.horizon_ms)
            sides = spill.Sides(folder / target, self._rows(target))
            for batch in self._scan(target, recompute, where):
                frame = recompute.placed(views.settled(batch), self.horizon_ms)
                sides.add("found", spill.digests(frame, recompute.key, sorted(recompute.columns)))
                table.rows += len(frame)
                self._tell(len(frame))
        except WeirError as error:
            table.reason = f"it could not be read: {error.message}"
            return table
        self._views.append(_View(table, recompute, recompute.fold(), sides, kept))
        return table

    def _columns(self, target: str) -> set[str]:
        database, name = target.split(".")
        return set(self.client.execute("SELECT name FROM system.columns WHERE database = {d:String} AND table = {t:String}", d=database, t=name).split())

    def _scan(self, target: str, recompute: views.Recompute, where: str) -> Iterator[pl.DataFrame]:
        """Read a table, one ClickHouse partition after another: merges never cross them."""
        database, name = target.split(".")
        listed = self.client.execute("SELECT DISTINCT partition_id FROM system.parts WHERE active AND database = {d:String} AND table = {t:String}", d=database, t=name)
        for partition_id in listed.split():
            for block in self.client.select(f"SELECT {landing.rendered(dict(recompute.columns))} FROM {target} "
                                            f"WHERE _partition_id = {literal(partition_id)} AND {recompute.where} AND {where}"):
                frame = pl.from_arrow(block)
                if isinstance(frame, pl.DataFrame):
                    yield frame

    def _feed(self, landed: pl.DataFrame) -> None:
        for view in self._views:
            self._owe(view, view.fold.rows(landed))

    def _owe(self, view: _View, rows: pl.DataFrame | None) -> None:
        if rows is None or rows.is_empty():
            return
        kept = rows.filter(view.kept)
        view.table.tally.of(UNPLACED, "expired").count += len(rows) - len(kept)
        view.sides.add("owed", spill.digests(views.settled(kept), view.recompute.key, sorted(view.recompute.columns)))

    # -- the landing table, partition by partition

    def _partition(self, partition: int, at: Bounds, table: Table) -> Bounds:
        """Judge one partition and feed the views with all its rows; return the bounds, the low one as it was met."""
        position = low = at.low
        try:
            self._old(partition, 0, low, table)
            while position < at.committed:
                try:
                    for position in self._judged(partition, position, at.committed, table):  # noqa: B007, B020 - where a retry goes on
                        pass
                except ContractViolation:
                    low = min(at.committed, self.reader.bounds(self.topic, partition)[0])
                    if low <= position:
                        raise
                    self._old(partition, position, low, table)  # retention went on meanwhile
                    position = low
            self._rows_from(partition, at.committed, table)
        except WeirError as error:
            if position < at.committed:
                table.tally.of(partition, "unknown").add_range(position, at.committed - 1, at.committed - position)
            table.reason = f"partition {partition} from offset {position}: {error.message}"
        for view in self._views:
            self._owe(view, view.fold.rest())
        return Bounds(low, at.committed, at.end)

    def _judged(self, partition: int, first: int, after: int, table: Table) -> Iterator[int]:
        """Judge a range that Kafka still holds; yield how far it is after each chunk."""
        for begin, end, records in chunks(self.reader, (self.topic, partition), (first, after)):
            if (not records or records[0].offset > begin) and self.reader.bounds(self.topic, partition)[0] > begin:
                raise ContractViolation(f"records of {self.topic}/{partition} from {begin} on are no longer in Kafka")
            found = landing.frame(self.client.select(landing.select(self.topic, partition, begin, since_ms=self.horizon_ms, before=end)))
            held = [r for r in records if r.timestamp_ms >= self.horizon_ms]  # a topic that keeps more than the landing table
            table.tally.of(partition, "expired").add(np.array([r.offset for r in records if r.timestamp_ms < self.horizon_ms], np.int64))
            landing.judge(landing.owed(self.decoder(held, "")), found, partition, table.tally)
            self._feed(found)
            table.rows += len(found)
            table.judged += len(held)
            self._tell(len(records) + len(found))
            yield end

    def _pages(self, partition: int, first: int, before: int | None) -> Iterator[pl.DataFrame]:
        while True:
            found = landing.frame(self.client.select(landing.select(self.topic, partition, first, since_ms=self.horizon_ms, before=before, limit=CHUNK_ROWS)))
            if found.is_empty():
                return
            yield found
            self._tell(len(found))
            first = int(found["offset"][-1]) + 1

    def _old(self, partition: int, first: int, low: int, table: Table) -> None:
        """Take the rows whose records retention has taken: counted, doubled ones told; whether any is missing the ledger says (`expired`)."""
        for found in self._pages(partition, first, low) if low > first else ():
            table.tally.of(partition, "expired").add(np.unique(found["offset"].to_numpy()))
            landing.doubled(found, partition, table.tally)
            self._feed(found)
            table.rows += len(found)
        if low > first:
            expired.gaps(self.client, self.topic, partition, first, low, self.horizon_ms, table.tally)

    def _rows_from(self, partition: int, committed: int, table: Table) -> None:
        """Feed the views with what landed past the commit: known, and not judged unless it is past the topic's end."""
        for found in self._pages(partition, committed, None):
            self._feed(found)
            table.rows += len(found)
            offsets = found["offset"].to_numpy()
            end = self.reader.bounds(self.topic, partition)[1]  # asked now: the topic grows
            table.tally.of(partition, "unknown").add(offsets[offsets >= end])

    def _elsewhere(self, partitions: list[int], table: Table) -> None:
        """Count rows of partitions that the topic does not have."""
        rows = self.client.execute(f"SELECT partition, min(offset), max(offset), count() FROM {names.LANDING_EVENTS} "
                                   f"WHERE topic = {literal(self.topic)} AND partition NOT IN ({', '.join(map(str, partitions))}) GROUP BY partition")
        for line in rows.splitlines():
            partition, first, last, count = (int(x) for x in line.split("\t"))
            table.tally.of(partition, "unknown").add_range(first, last, count)

    # -- the comparison

    def _compare(self, view: _View, bounds: Mapping[int, Bounds], table: Table) -> None:
        if table.reason:
            view.table.reason = "the landing table could not be read whole"
        committed, low = _by_partition(bounds, "committed"), _by_partition(bounds, "low")
        for owed, found in view.sides.pairs():
            judged = owed["last"] < committed[owed["partition"]]
            found_by = spill.compare(owed, found, judged)
            view.table.judged += int(judged.sum())
            _count(view.table, "missing", found_by.missing)
            _count(view.table, "different", found_by.different)
            if not view.recompute.is_set:
                _count(view.table, "doubled", found_by.doubled, found_by.doubled_times)
            outlived = found_by.unknown["partition"] == OUTLIVED
            view.table.tally.of(UNPLACED, "expired").count += int(outlived.sum())
            if not table.reason:
                _count(view.table, "unknown", found_by.unknown[~outlived])
            if view.recompute.deduplicates:
                _count(table, "deduplicated", found_by.repeated)
            if view.table.name == names.LEDGER:
                expired.missing(owed, found, low, table.tally)


def _by_partition(bounds: Mapping[int, Bounds], name: str) -> Any:
    made = np.zeros(UNPLACED + 1, np.int64)
    for partition, at in bounds.items():
        made[partition] = getattr(at, name)
    return made


def _count(table: Table, kind: str, rows: Any, times: Any = None) -> None:
    """Count digests by partition; a digest of a batch is its whole range."""
    for partition in np.unique(rows["partition"]).tolist():
        mine = rows["partition"] == partition
        into = table.tally.of(partition, kind)
        if partition == UNPLACED:
            into.count += int(mine.sum())
        elif (rows["first"][mine] == rows["last"][mine]).all():
            into.add(rows["first"][mine], None if times is None else times[mine])
        else:
            for row in rows[mine]:
                into.add_range(int(row["first"]), int(row["last"]), 1)


def verify(bootstrap: str, clickhouse_url: str, scratch: Path, report: Callable[[Progress], None] = lambda _progress: None) -> Outcome:
    """Verify the user events of a stack; `scratch` gets a folder that is deleted at the end, of about 56 bytes a row of each table."""
    scratch.mkdir(parents=True, exist_ok=True)
    client, reader = ClickHouse(clickhouse_url), Reader(bootstrap, names.ingest_group(names.LANDING_EVENTS))
    try:
        return Verification(client, reader, scratch, report).run()
    finally:
        client.close()
        reader.close()

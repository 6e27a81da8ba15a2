"""A history: each change of a table is a row that is never replaced, beside the rows of its snapshots (docs/decisions/0015).

In: an entry with the columns that are to be read, the source. Out: the table and its feed, a snapshot in it, the views its readers read. Keep: documents stay as they came, so
that no change of columns touches a row; a snapshot's rows are seen once it is whole and verified; a change that lands again is the same row, by its place.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Final

from weir.capture import bulk, pace
from weir.capture.parts import Parts, Report
from weir.contracts import names
from weir.contracts.captured import KEYED, Captured, HistoryTable, State
from weir.contracts.clickhouse import literal
from weir.contracts.history import Cut, read
from weir.contracts.schema import SourceColumn
from weir.errors import ContractViolation, Undecided
from weir.ingest.clickhouse import ClickHouse
from weir.reconcile.history import HistoryCycle
from weir.reconcile.outcome import Answer
from weir.reconcile.progress import Progress
from weir.reconcile.sink import Sink
from weir.reconcile.source import Snapshot, Source

SETTLE_S: Final = 60.0  # whoever writes longer than that into a table should not be waited for in silence
TRIES: Final = 3  # for a table that is truncated while it is compared
_OURS: Final = "weir_"  # begins the names that its views use themselves


def check(entry: Captured) -> None:
    """See that a history can be kept.

    Raises:
        ContractViolation: a column cannot be copied by the bulk path, which alone cuts a snapshot into the stream, or bears a name of ours.
    """
    odd = [c for c in entry.read if bulk.value(c.type) is None]
    if odd:
        raise ContractViolation(f"{entry.source}.{odd[0].name} is of type {odd[0].type}, which no snapshot of a history can copy",
                                hint=f"ALTER TABLE {entry.source} ALTER COLUMN {odd[0].name} TYPE text USING {odd[0].name}::text;")
    taken = [c.name for c in entry.read if c.name.startswith(_OURS)]
    if taken:
        raise ContractViolation(f"{entry.source} has a column {taken[0]}, and names that begin with {_OURS} are a history's own",
                                hint=f"ALTER TABLE {entry.source} RENAME COLUMN {taken[0]} TO …;")


def create(entry: Captured) -> list[str]:
    """Return the statements that make the table and its feed where they are not there. Pure; no column of the source is in them."""
    table = (
        f"CREATE TABLE IF NOT EXISTS {entry.keyed} (lsn UInt64, snapshot UInt32, partition UInt16, position UInt64, tx_id UInt64, committed_at DateTime64(3, 'UTC'), op LowCardinality(String),"
        " before String, after String) ENGINE = ReplacingMergeTree ORDER BY (lsn, snapshot, partition, position) SETTINGS non_replicated_deduplication_window = 10000"
        f" COMMENT {literal(f'history of {entry.source}; read {entry.view} or {entry.rows_view}')}"
    )
    feed = (
        f"CREATE MATERIALIZED VIEW IF NOT EXISTS {entry.keyed}_feed TO {entry.keyed} AS SELECT assumeNotNull(source_lsn) AS lsn, toUInt32(0) AS snapshot, partition, version AS position,"
        f" ifNull(tx_id, 0) AS tx_id, ifNull(source_at, produced_at) AS committed_at, op, before, after FROM {names.LANDING_CDC}"
        f" WHERE topic = {literal(entry.topic)} AND op IN ('c', 'u', 'd', 't') AND reject_reason = '' AND source_lsn IS NOT NULL"
    )
    return [table, feed]


def show(entry: Captured) -> list[str]:
    """Return the statements that have readers read the entry's columns and snapshots: the rows as they stand, then the history, which bears the mark. Pure."""
    own = "lsn, partition, position, tx_id, committed_at, op, snapshot"
    sides = ", ".join(read(entry.read, side, prefix=f"{side}_", nullable=True) for side in ("after", "before"))
    return [
        f"CREATE OR REPLACE VIEW {entry.rows_view} AS {entry.rows().standing()}",
        f"CREATE OR REPLACE VIEW {entry.view} AS SELECT {own}, {sides} FROM {entry.keyed} FINAL WHERE snapshot <= {entry.generation} COMMENT {literal(_mark(entry))}",
    ]


def _mark(entry: Captured) -> str:
    return f"snapshot {entry.generation} of {entry.source}"


def hide(entry: Captured) -> list[str]:
    """Return the statement that removes what only a history's readers read. Pure."""
    return [f"DROP VIEW IF EXISTS {entry.rows_view} SYNC"] if entry.history else []


def sweep(sink: Sink, entry: Captured) -> None:
    """Have readers read the snapshot that the register names, if a killed command left them with another."""
    if not entry.generation:
        return
    name = entry.view.removeprefix(f"{KEYED}.")
    if not sink.query(f"SELECT 1 FROM system.tables WHERE database = {literal(KEYED)} AND name = {literal(name)} AND comment = {literal(_mark(entry))}"):
        _all(sink, show(entry))


def reads_alike(added: SourceColumn) -> bool:
    """Say whether a column that was added needs no snapshot: every row that was there reads as null, as its documents do. Pure."""
    return added.nullable and not added.default and not added.generated


def run(parts: Parts, entry: Captured, beside: Captured, report: Report, *, most_per_s: int = 0) -> Captured:
    """Put a snapshot into the history and verify that its rows are the source's; return the entry as it stands then. `beside`: what it is to be.

    Raises:
        WeirError: it could not be done or verified; readers read what they read before, and nothing of the snapshot is left.
    """
    check(beside)
    _all(parts.sink, create(beside))
    _clean(parts, beside)
    report(f"{entry.name}: taking snapshot {beside.generation}")
    parts.register.write(replace(beside, generation=entry.generation, cut=entry.cut, state=State.RESYNCING, why="a snapshot is being taken", by="operator"))
    try:
        made = replace(beside, state=State.CAPTURING, why="", by="", cut=_filled(parts, beside, report, most_per_s))
        rows = _verified(parts, made)
    except BaseException:
        _clean(parts, beside)
        raise
    made = parts.register.write(made)
    _all(parts.sink, show(made))
    report(f"{entry.name}: {rows} rows verified; the history goes on from them")
    return made


def _clean(parts: Parts, beside: Captured) -> None:
    """Remove the rows of a snapshot that the register never named."""
    if parts.sink.query(f"SELECT 1 FROM {beside.keyed} WHERE snapshot >= {beside.generation} LIMIT 1"):
        parts.sink.command(f"ALTER TABLE {beside.keyed} DELETE WHERE snapshot >= {beside.generation} SETTINGS mutations_sync = 2")


def settle(source: Source, table: str, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep) -> None:
    """Wait until the transactions have ended that have written to a table up to now, before it was published it may be: what they wrote is in a snapshot of later, and may be in no stream.

    Raises:
        Undecided: one goes on.
    """
    deadline, before = clock() + SETTLE_S, source.writers(table)
    while before:
        if clock() > deadline:
            raise Undecided(f"transactions that have written to {table} go on: {', '.join(sorted(before))} (pg_locks.virtualtransaction)", hint="end them, then run it again")
        sleep(0.2)
        before &= source.writers(table)


def _filled(parts: Parts, beside: Captured, report: Report, most_per_s: int) -> Cut:
    """Copy the table as one snapshot sees it, the next block read while the last is inserted; return where it was cut."""
    progress, client = Progress(parts.endpoints.kafka_bootstrap), ClickHouse(parts.endpoints.clickhouse_url)
    try:
        settle(parts.source, beside.source)
        since = tuple(sorted(progress.ends(beside.topic).items()))  # before the snapshot: all that it does not see comes later
        rows, began, total = 0, time.monotonic(), parts.source.about(beside.source)
        with parts.source.snapshot() as snapshot, ThreadPoolExecutor(1) as pool:
            cut, under_way = Cut(snapshot.lsn, snapshot.visible, since), None
            for count, sql in _inserts(beside, snapshot, most_per_s):
                _ended(under_way)
                under_way, rows = pool.submit(client.execute, sql), rows + count
                report(pace.line(beside.name, rows, total, time.monotonic() - began))
            _ended(under_way)
    finally:
        progress.close()
        client.close()
    return cut


def _ended(insert: Future[str] | None) -> None:
    if insert is not None:
        insert.result()


def _inserts(beside: Captured, snapshot: Snapshot, most_per_s: int) -> Iterator[tuple[int, str]]:
    documents, held = bulk.documents(beside.source, beside.read), pace.Pace(most_per_s)
    head = insert(beside, lsn=snapshot.lsn, at_ms=snapshot.at_ms)
    for count, text in bulk.blocks(snapshot.copied(f"COPY (SELECT row_number() OVER (), d FROM ({documents}) AS t(d)) TO STDOUT")):
        yield count, f"{head}\n{text}"
        held.read(count)


def insert(entry: Captured, *, lsn: int, at_ms: int) -> str:
    """Return the INSERT that takes a snapshot's rows, each its number and its document, TabSeparated. Pure."""
    return (f"INSERT INTO {entry.keyed} (lsn, snapshot, partition, position, tx_id, committed_at, op, before, after) SELECT {lsn}, {entry.generation}, 0, weir_number, 0,"
            f" fromUnixTimestamp64Milli(toInt64({at_ms}), 'UTC'), 'r', '', weir_doc FROM input('weir_number UInt64, weir_doc String') FORMAT TabSeparated")


def _verified(parts: Parts, made: Captured) -> int:
    """Compare the rows that the history makes with the source's; return how many there are."""
    table = made.table()
    assert isinstance(table, HistoryTable)  # noqa: S101 - what a history says of itself
    progress, why = Progress(parts.endpoints.kafka_bootstrap), ""
    try:
        cycle = HistoryCycle(table, parts.source, parts.sink, progress)
        for _ in range(TRIES):
            try:
                outcome = cycle.check(landing=False)
            except Undecided as error:
                why = str(error)
                continue
            if outcome.outcome is Answer.YES:
                return outcome.rows_checked
            why = outcome.reason
            break
    finally:
        progress.close()
    raise Undecided(f"the snapshot of {made.source} could not be verified: {why}", hint=f"./weir status shows the connector's task; then ./weir table resync {made.name} again")


def _all(sink: Sink, statements: list[str]) -> None:
    for statement in statements:
        sink.command(statement)

"""A resync: a copy is built beside the one that is read, by the bulk path or Debezium's snapshot, joined by the stream, verified key by key, and put in its place.

In: an entry with the columns that are to be read. Out: the entry of the new generation. Keep: the copy that is read changes in one step, from right to
right: one whose rows come with other columns is fed no more from the beginning; what is left of an earlier try is swept first, and of this one when it fails.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from weir.capture import bulk, history, keyed, pace
from weir.capture.parts import Parts, Report
from weir.connect import connector
from weir.contracts import cdc, names
from weir.contracts.captured import Captured, State, newest
from weir.contracts.endpoints import Endpoints
from weir.contracts.schema import SourceColumn, changes
from weir.errors import Undecided
from weir.reconcile.plan import Key
from weir.reconcile.progress import Progress
from weir.reconcile.repair import PREFIX
from weir.reconcile.sink import Sink
from weir.reconcile.source import Source
from weir.reconcile.table import TOO_LARGE, Comparer

TRIES: Final = 5  # for keys that change all the while
HOT_MAX: Final = 1_000  # of these; more are looked for again
LOOK_S: Final = 5.0  # a copy that still grows is compared no sooner after the last time, nor than
LOOKS: Final = 5  # times what that took: a source that is written all the while lets it grow for ever
STILL_S: Final = 90.0  # without a new row or a difference less: a killed Connect worker is back after 12 s, and a signal waits for its turn


def lsn_now(endpoints: Endpoints) -> int:
    """Return the source's insert LSN: every change of the columns as the catalog has them now is older."""
    import psycopg

    with psycopg.connect(endpoints.postgres_dsn, connect_timeout=5, autocommit=True) as c:
        row = c.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
    return int(row[0]) if row else 0


def sources(entries: Iterable[Captured]) -> list[str]:
    """Return what the connector reads for those of these tables that were added, in the order of its list. Pure."""
    return sorted(e.source for e in entries if e.owned)


def tell(parts: Parts, home: Path, entries: Iterable[Captured]) -> None:
    """Have the connector read these tables, and of those added no others; nothing is done where it does. Raises as `connector.apply`."""
    connector.apply(parts.endpoints, connector.wanted(parts.endpoints, home, sources(entries)))


def sweep(sink: Sink, entry: Captured) -> None:
    """Remove what an earlier try left: every generation but the one that the register names, which readers are given first if they read another.

    If they read it, their view stays: an entry that is RESYNCING may have columns that its generation has not.
    """
    if entry.history:
        history.sweep(sink, entry)
    elif entry.owned:
        if entry.generation and not sink.query(keyed.shown(entry)):
            sink.command(keyed.show(entry))
        for (table,) in sink.query(keyed.generations(entry)):
            if table != entry.keyed:
                _all(sink, keyed.drop(table))
    else:
        _drop_beside(sink, entry)


def run(parts: Parts, entry: Captured, now: Sequence[SourceColumn], key: Sequence[str], report: Report, *, most_per_s: int = 0) -> Captured:
    """Build, verify and swap; return the entry as it stands then. `most_per_s`: rows a second that the bulk path may read (0: as fast as it goes).

    A history is not built anew: it gets another snapshot, and its rows stay.

    Raises:
        WeirError: it could not be done or verified; the copy that was read is read still, and nothing of this try is left.
    """
    sweep(parts.sink, entry)
    used = frozenset(c.name for c in now if c.lands) if entry.owned else entry.used & {c.name for c in now}
    beside = replace(entry, columns=tuple(now), used=used, generation=entry.generation + 1, since_lsn=lsn_now(parts.endpoints), barrier=entry.owned)
    safe = all(c.safe for c in changes(entry.columns, now, entry.used)) and entry.state is not State.PAUSED
    if entry.history:
        return _snapshot(parts, entry, beside, report, most_per_s=most_per_s, safe=safe)
    target = beside.keyed if entry.owned else f"{entry.keyed}__next"
    if entry.owned and not safe:
        parts.sink.command(f"DROP TABLE IF EXISTS {entry.keyed}_feed SYNC")  # its rows come otherwise from now on
    quick = _quick(parts, entry, beside)
    try:
        if entry.owned:
            _all(parts.sink, keyed.create(beside, key))
        else:
            _create_beside(parts.sink, entry, target)
        report(f"{entry.name}: building {target} beside")
        parts.register.write(replace(beside, generation=entry.generation, barrier=entry.barrier, state=State.RESYNCING, why="a copy is being built beside", by="operator"))
        rows = _filled(parts, beside, key, replace(entry.table(), staging=target, standing=newest(target, entry.topic if entry.owned else "")), report, most_per_s=most_per_s if quick else None)
        made = parts.register.write(replace(beside, state=State.CAPTURING, why="", by="")) if entry.owned else _swap(parts, beside, target)
    except BaseException:
        _all(parts.sink, keyed.drop(target) if entry.owned else [])
        sweep(parts.sink, entry)
        parts.register.write(_as_before(entry, safe=safe))
        raise
    if entry.owned:
        parts.sink.command(keyed.show(made))
        _all(parts.sink, keyed.drop(entry.keyed) if entry.generation else [])
    report(f"{entry.name}: {rows} rows verified, swapped; nothing is left beside")
    return made


def _as_before(entry: Captured, *, safe: bool) -> Captured:
    """Return what an entry is after a try that failed: as it was, where its rows land as they should."""
    return entry if safe else entry.to(State.PAUSED, why=entry.why or "its resync did not end well", by="loss" if entry.by == "loss" else "schema")


def _snapshot(parts: Parts, entry: Captured, beside: Captured, report: Report, *, most_per_s: int, safe: bool) -> Captured:
    """Put a new snapshot into a history; raises as `run`."""
    try:
        return history.run(parts, entry, beside, report, most_per_s=most_per_s)
    except BaseException:
        parts.register.write(_as_before(entry, safe=safe))
        raise


def _quick(parts: Parts, entry: Captured, beside: Captured) -> bool:
    """Say whether the bulk path is right: every change that may yet land comes with the columns of now, and is newer than what has landed."""
    if not entry.owned or entry.state is not State.CAPTURING or changes(entry.columns, beside.columns, entry.used) or bulk.documents(entry.source, beside.read) is None:
        return False
    return bulk.landed(entry.topic, parts.endpoints.kafka_bootstrap)


def _filled(parts: Parts, beside: Captured, key: Sequence[str], table: cdc.CdcTable, report: Report, *, most_per_s: int | None) -> int:
    """Fill the copy by the quicker way that is right (None: not the bulk path), and wait until it is the same as the source; return how many rows were compared."""
    if beside.owned and beside.generation == 1:  # just published: what was written before may be in no stream
        history.settle(parts.source, beside.source)
    if most_per_s is not None:
        try:
            bulk.Fill(parts.source, parts.sink, parts.endpoints.clickhouse_url, report, most_per_s).run(beside, key)
            return _await(parts, table, report)
        except Undecided as error:
            report(f"{beside.name}: {error.message}; now by Debezium's snapshot, whose rows are newer than these")
    _signal(parts.source, beside.source)
    return _await(parts, table, report)


def _all(sink: Sink, statements: Sequence[str]) -> None:
    for statement in statements:
        sink.command(statement)


def _signal(source: Source, table: str) -> None:
    document = json.dumps({"type": "incremental", "data-collections": [table]}, separators=(",", ":"))
    source.signal(f"{PREFIX}{uuid.uuid4().hex}", document)


def _await(parts: Parts, table: cdc.CdcTable, report: Report) -> int:
    """Wait until the copy is the same as the source, key by key; return how many rows were compared."""
    progress = Progress(parts.endpoints.kafka_bootstrap)
    began = since = time.monotonic()
    most, fewest, why, far, looked, cost = -1, 1 << 62, "", True, began, 0.0  # far: nobody has seen yet that little is left
    try:
        comparer, total = Comparer(table, parts.source, parts.sink, progress), parts.source.about(table.source)
        while time.monotonic() - since < STILL_S:
            rows = int(parts.sink.query(f"SELECT count() FROM {table.staging}")[0][0])
            if rows > most:
                if most >= 0:
                    report(pace.line(table.name, rows, total, time.monotonic() - began))
                most, since = rows, time.monotonic() if far else since
                time.sleep(1.0)
                grows = int(parts.sink.query(f"SELECT count() FROM {table.staging}")[0][0]) > rows
                if rows and grows and time.monotonic() - looked < max(LOOK_S, LOOKS * cost):
                    continue  # it is being filled: comparing it whole would only cost
            looked = time.monotonic()
            try:
                whole = comparer.whole()
            except Undecided as error:
                why = str(error)
                continue
            finally:
                looked, cost = time.monotonic(), time.monotonic() - looked
            far = whole.more
            left = len(whole.found) + (1 << 40 if whole.more else 0)
            if not left and _settled(comparer, set(whole.left), [select for _, select in _feeds(parts.sink, table.staging)]):
                return whole.rows + len(whole.left)
            parked = len({d.key for d in whole.found} & parts.sink.parked(comparer.plan).keys()) if whole.found else 0
            why = f"{len(whole.found)} keys differ{f', {parked} of them since their row is {TOO_LARGE}' if parked else ''}" if left else f"{len(whole.left)} keys change all the while"
            if left < fewest:
                fewest, since = left, time.monotonic()
            time.sleep(1.0)
    finally:
        progress.close()
        parts.source.forget_signals(PREFIX)
    raise Undecided(f"the copy of {table.source} could not be verified: {why or 'no row came'}", hint="./weir status shows the connector's task; then ./weir table resync again")


def _settled(comparer: Comparer, keys: set[Key], feeds: Sequence[str]) -> bool:
    """Say whether the keys that changed during the comparison are the same too; of the few that change ever again, whether the stream brought what the source has."""
    for _ in range(TRIES):
        if not keys:
            return True
        again = comparer.keys(keys)
        if again.found:
            return False
        keys = set(again.left)
    return len(keys) <= HOT_MAX and comparer.came_through(keys, feeds)


# A keyed table of dbt's keeps its name and its views, so the copy changes places with it.


def _feeds(sink: Sink, table: str) -> list[tuple[str, str]]:
    """Return (name, SELECT) of the views that fill a table."""
    rows = sink.query("SELECT concat(database, '.', name), as_select, create_table_query FROM system.tables WHERE engine = 'MaterializedView'")
    return [(n, s) for n, s, whole in rows if f" TO {table} " in whole]


def _create_beside(sink: Sink, entry: Captured, target: str) -> None:
    sink.command(f"CREATE TABLE {target} AS {entry.keyed}")
    for number, (_, select) in enumerate(_feeds(sink, entry.keyed)):
        sink.command(f"CREATE MATERIALIZED VIEW {target}_feed{number} TO {target} AS {select}")
    # What no snapshot brings: rows of a bulk load, and what was deleted, which a later bulk load must lose to.
    sink.command(f"INSERT INTO {target} SELECT * FROM {entry.keyed} WHERE is_deleted = 1 OR version < bitShiftLeft(toUInt64(1), {names.CDC_VERSION_EPOCH_SHIFT})")


def _drop_beside(sink: Sink, entry: Captured) -> None:
    target = f"{entry.keyed}__next"
    for name, _ in _feeds(sink, target):
        sink.command(f"DROP TABLE IF EXISTS {name} SYNC")
    if sink.columns(target):  # the watcher asks every 5 s, and after a definition the gateway looks for every table's logs anew
        sink.command(f"DROP TABLE IF EXISTS {target} SYNC")


def _swap(parts: Parts, beside: Captured, target: str) -> Captured:
    """Exchange the two: until the copy's feeds are dropped every insert reaches both, whichever has the name."""
    comment = str(parts.sink.query("SELECT comment FROM system.tables WHERE concat(database, '.', name) = {t:String}", t=beside.keyed)[0][0])
    parts.sink.command(f"ALTER TABLE {target} MODIFY COMMENT '{comment}'")  # dbt's catch_up keeps its mark there
    parts.sink.command(f"EXCHANGE TABLES {beside.keyed} AND {target}")
    _drop_beside(parts.sink, beside)
    return parts.register.write(replace(beside, state=State.CAPTURING, why="", by=""))

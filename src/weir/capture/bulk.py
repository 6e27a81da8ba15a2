"""The bulk path beside the stream: a table's rows by COPY, in short snapshots, into a copy that the stream fills meanwhile (docs/decisions/0015).

In: a keyed table whose feed is there, the source. Out: its rows, each of a version below every change's and with its snapshot's LSN. Keep: PostgreSQL writes a row as
the document that Debezium would send, and ClickHouse reads it by the SQL that the feed has, so that a value lands the same either way (tests/contract/test_bulk.py);
a table with a type of which that was not tested is left to Debezium.

Sources: PostgreSQL's manual, COPY (text format) and 9.16 (row_to_json); ClickHouse's input() and TabSeparated, which escapes as COPY does.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from weir.capture import keyed, pace
from weir.contracts.captured import Captured
from weir.contracts.clickhouse import quoted
from weir.contracts.schema import SourceColumn
from weir.errors import Undecided
from weir.ingest.clickhouse import ClickHouse
from weir.reconcile import plan
from weir.reconcile.progress import Progress
from weir.reconcile.sink import Sink
from weir.reconcile.source import Source

LAND_S: Final = 20.0  # for what the topic has already; a table that is further behind is left to Debezium
ROWS: Final = 100_000  # a snapshot: one or two seconds, so that it holds no vacuum back
BYTES: Final = 16 << 20  # an insert, of documents; two are in memory

_AS_IT_IS: Final = "{c}"
_TEXT: Final = "({c})::text"
_NUMERIC: Final = "CASE {c} WHEN 'NaN' THEN 'NAN' WHEN 'Infinity' THEN 'POSITIVE_INFINITY' WHEN '-Infinity' THEN 'NEGATIVE_INFINITY' ELSE ({c})::text END"
_TICKS: Final = "CASE WHEN isfinite({c}) THEN floor(extract(epoch FROM {c}) * %s)::bigint WHEN {c} > '1970-01-01' THEN 9223372036854775807 WHEN {c} < '1970-01-01' THEN -9223372036854775807 END"
_DAYS: Final = "CASE WHEN isfinite({c}) THEN ({c} - DATE '1970-01-01')::bigint WHEN {c} > '1970-01-01' THEN 2146033979 WHEN {c} < '1970-01-01' THEN -2147472691 END"
_ISO: Final = "CASE WHEN isfinite({c}) THEN to_char({c} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') ELSE ({c})::text END"

# What row_to_json() takes of a column, so that its document reads as Debezium's does; of other types nothing was tested.
VALUES: Final = {
    "smallint": _AS_IT_IS, "integer": _AS_IT_IS, "bigint": _AS_IT_IS, "oid": "({c})::bigint", "boolean": _AS_IT_IS, "real": _TEXT, "double precision": _TEXT,
    "numeric": _NUMERIC, "money": "({c})::numeric::text", "text": _AS_IT_IS, "character varying": _AS_IT_IS, "character": _AS_IT_IS, "enum": _TEXT, "json": _TEXT,
    "jsonb": _TEXT, "uuid": _TEXT, "bytea": "translate(encode({c}, 'base64'), E'\\n', '')", "date": _DAYS, "timestamp without time zone": _TICKS % "1000000",
    "timestamp with time zone": _ISO, "time without time zone": "(extract(epoch FROM {c}) * 1000000)::bigint", "inet": _AS_IT_IS, "cidr": _AS_IT_IS,
    "macaddr": _AS_IT_IS, "macaddr8": _AS_IT_IS, "int4range": _AS_IT_IS, "int8range": _AS_IT_IS, "numrange": _AS_IT_IS, "daterange": _AS_IT_IS, "tsrange": _AS_IT_IS,
    "tsvector": _AS_IT_IS, "smallint[]": _AS_IT_IS, "integer[]": _AS_IT_IS, "bigint[]": _AS_IT_IS, "boolean[]": _AS_IT_IS, "text[]": _AS_IT_IS,
    "character varying[]": _AS_IT_IS, "uuid[]": _AS_IT_IS,
}


def value(source_type: str) -> str | None:
    """Return the SQL of a column's value in the document, {c} being the column; None: left to Debezium."""
    if re.fullmatch(r"timestamp\([0-3]\) without time zone", source_type):
        return _TICKS % "1000"
    return VALUES.get(re.sub(r"\s*\(.*?\)", "", source_type))


def documents(source: str, columns: Sequence[SourceColumn], inside: str = "") -> str | None:
    """Return the SELECT of a table's rows as documents, one text each; None: a type of one was not tested. `inside`: more of its condition."""
    parts = []
    for column in columns:
        sql = value(column.type)
        if sql is None:
            return None
        name = '"' + column.name.replace('"', '""') + '"'
        parts.append(f"{sql.replace('{c}', name)} AS {name}")
    return f"SELECT row_to_json(r)::text FROM (SELECT {', '.join(parts)} FROM {source} WHERE true{inside}) AS r"


def insert(entry: Captured, key: Sequence[str], *, version: int, lsn: int) -> str:
    """Return the INSERT that takes documents, TabSeparated, into the entry's keyed table."""
    names = ", ".join(quoted(c.name) for c in entry.read)
    return (f"INSERT INTO {entry.keyed} ({names}, version, is_deleted, weir_lsn, weir_produced_at) SELECT {', '.join(keyed.reads(entry, key, 'weir_doc', 'weir_doc'))},"
            f" {version}, 0, {lsn}, now64(3, 'UTC') FROM input('weir_doc String') FORMAT TabSeparated")


def landed(topic: str, bootstrap: str) -> bool:
    """Wait until all that a topic has is landed, and so is older than a feed made now; False: it was not in time.

    What lands later was sent after this look, by the slot that is read now: a change of the slot before that has not landed would win over a newer bulk row.
    """
    progress = Progress(bootstrap)
    try:
        progress.wait_landed(topic, progress.ends(topic), time.monotonic() + LAND_S)
    except Undecided:
        return False
    finally:
        progress.close()
    return True


@dataclass(frozen=True, slots=True)
class Fill:
    """Fills one copy."""

    source: Source
    sink: Sink
    clickhouse_url: str
    report: Callable[[str], None]
    most_per_s: int = 0  # rows read of the source; 0: as fast as it goes

    def run(self, entry: Captured, key: Sequence[str]) -> int:
        """Copy every row, the next read while the last is inserted; return how many.

        Raises:
            Unavailable, Transient or Terminal: a side refused or did not answer; what was inserted stays, in the copy.
        """
        client, rows, began, total = ClickHouse(self.clickhouse_url), 0, time.monotonic(), self.source.about(entry.source)
        try:
            with ThreadPoolExecutor(1) as pool:
                under_way: Future[str] | None = None
                for count, sql in self._inserts(entry, key):
                    if under_way is not None:
                        under_way.result()
                    under_way, rows = pool.submit(client.execute, sql), rows + count
                    self.report(pace.line(entry.name, rows, total, time.monotonic() - began))
                if under_way is not None:
                    under_way.result()
        finally:
            client.close()
        return rows

    def _inserts(self, entry: Captured, key: Sequence[str]) -> Iterator[tuple[int, str]]:
        made = plan.make(entry.table(), *self.source.columns(entry.source), self.sink.columns(entry.keyed))
        held = pace.Pace(self.most_per_s)
        for between in self._slices(made, min(ROWS, held.at_once or ROWS)):
            sql = documents(entry.source, entry.read, made.within(between).inside[0])
            read = 0
            with self.source.snapshot() as snapshot:
                head = insert(entry, key, version=snapshot.at_ms, lsn=snapshot.lsn)
                for count, text in blocks(snapshot.copied(f"COPY ({sql}) TO STDOUT")):
                    read += count
                    yield count, f"{head}\n{text}"
            held.read(read)

    def _slices(self, made: plan.TablePlan, rows: int) -> Iterator[plan.Between]:
        low: int | None = None
        while True:
            high = self.source.bound(made, low, rows) if made.sliceable else None
            yield low, high
            if high is None:
                return
            low = high


def blocks(lines: Iterable[Any], size: int = BYTES) -> Iterator[tuple[int, str]]:
    """Join COPY's rows to texts of about `size` bytes; yield (rows, text)."""
    held: list[bytes] = []
    total = 0
    for line in lines:
        held.append(bytes(line))
        total += len(held[-1])
        if total >= size:
            yield len(held), b"".join(held).decode()
            held, total = [], 0
    if held:
        yield len(held), b"".join(held).decode()

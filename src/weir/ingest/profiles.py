"""Bulk load of user profiles from Parquet, as the data warehouse exports them.

In: a Parquet file with the profile columns and `as_of`. Out: rows of landing.user_profile_exports. Keep: the version is the as-of time in ms, below
every CDC version, so a CDC change always wins (docs/decisions/0003); the same file again changes nothing: its token is of its content.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from weir.contracts import names
from weir.errors import ContractViolation, Terminal
from weir.ingest.clickhouse import ClickHouse
from weir.ingest.decode import arrow_stream

COLUMNS = ("user_id", "age", "gender", "occupation", "zip_code", "country", "preferred_genre", "as_of")
NULLABLE = frozenset({"preferred_genre"})  # at the source too; it lands as an empty text
ROWS_A_BLOCK = 100_000
REPORT_S = 2.0

log = logging.getLogger("weir.ingest.profiles")


def _opened(path: Path) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path)
    except OSError as error:
        raise Terminal(f"{path} cannot be read: {error.strerror or type(error).__name__}", hint="give the path of an export") from error
    except pa.ArrowException as error:
        raise ContractViolation(f"{path.name} is no Parquet file", hint="export the profiles as Parquet") from error
    missing = sorted(set(COLUMNS) - set(file.schema_arrow.names))
    if missing:
        raise ContractViolation(f"{path.name} lacks the columns {', '.join(missing)}", hint="export them; landing.user_profile_exports in ingest/ddl lists all")
    return file


def _versions(block: pa.RecordBatch | pa.Table) -> pa.ChunkedArray:
    """Return the as-of times in ms: a timestamp of any unit is rounded down, an integer is taken for ms."""
    as_of = block.column("as_of")
    if pa.types.is_timestamp(as_of.type):
        as_of = pc.cast(pc.floor_temporal(as_of, unit="millisecond"), pa.timestamp("ms", as_of.type.tz))
    return pc.cast(as_of, pa.int64())


def _faults(block: pa.RecordBatch, now_ms: int) -> Iterator[str]:
    for name in COLUMNS:
        if name not in NULLABLE and block.column(name).null_count:
            yield f"{name} is null"
    if not pa.types.is_integer(block.schema.field("user_id").type):
        yield "user_id is no integer"
    elif pc.any(pc.less_equal(block.column("user_id"), 0)).as_py():
        yield "user_id is not above 0"
    first, last = pc.min_max(_versions(block)).as_py().values()
    if first is not None and not 0 < first <= last <= now_ms:  # past now may be another unit: a version above 2^48 would beat every CDC change for ever
        yield "as_of is not between 1970 and now, as a timestamp or as ms since the epoch"


def check(file: pq.ParquetFile, name: str, now_ms: int) -> None:
    """Look at each row before the first is loaded.

    Raises:
        ContractViolation: a null, an id or an as-of time out of range, a column of another type, a broken file; says in which rows.
    """
    row = 0
    hint = "nothing was loaded; export it again without"
    try:
        for block in file.iter_batches(ROWS_A_BLOCK, columns=list(COLUMNS)):
            found = next(_faults(block, now_ms), None)
            if found:
                raise ContractViolation(f"{name}, rows {row + 1} to {row + block.num_rows}: {found}", hint=hint)
            row += block.num_rows
    except (OSError, pa.ArrowException) as error:
        raise ContractViolation(f"{name} cannot be read past row {row}: {type(error).__name__}", hint=hint) from error


def load(clickhouse_url: str, path: Path) -> int:
    """Load one export; return its rows.

    Raises:
        ContractViolation: the file is none, lacks a column or holds what `check` refuses: nothing was loaded.
        Transient or Terminal: ClickHouse did not take a block; run it again.
    """
    file = _opened(path)
    check(file, path.name, int(time.time() * 1000))
    with path.open("rb") as content:
        export_id = hashlib.file_digest(content, "blake2b").hexdigest()[:32]
    client, total, done = ClickHouse(clickhouse_url), file.metadata.num_rows, 0
    began = told = time.monotonic()
    try:
        for number, block in enumerate(file.iter_batches(ROWS_A_BLOCK, columns=list(COLUMNS))):
            table = pa.Table.from_batches([block])
            versions = _versions(table)
            table = table.append_column("export_id", pa.array([export_id] * table.num_rows, pa.string()))
            table = table.append_column("version", pc.cast(versions, pa.uint64()))
            token = f"{export_id}-{number}"
            client.insert(names.LANDING_PROFILE_EXPORTS, list(table.column_names), arrow_stream(table), token, f"profiles-{token}")
            done += table.num_rows
            if time.monotonic() - told > REPORT_S:
                told, rate = time.monotonic(), done / (time.monotonic() - began)
                log.info("profiles %d of %d, %.0f/s, %.0f s to go", done, total, rate, (total - done) / rate)
    finally:
        client.close()
    return done

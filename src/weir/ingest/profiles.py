"""Bulk load of user profiles from Parquet, as the data warehouse exports them.

In: a Parquet file with the profile columns and `as_of`. Out: rows of landing.user_profile_exports. Keep: the version is the as-of time in ms, below
every CDC version, so a CDC change always wins (docs/decisions/0003); the same file again changes nothing: its token is of its content.
"""

from __future__ import annotations

import hashlib
import logging
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from weir.contracts import names
from weir.errors import ContractViolation
from weir.ingest.clickhouse import ClickHouse
from weir.ingest.decode import arrow_stream

COLUMNS = ("user_id", "age", "gender", "occupation", "zip_code", "country", "preferred_genre", "as_of")
ROWS_A_BLOCK = 100_000
REPORT_S = 2.0

log = logging.getLogger("weir.ingest.profiles")


def load(clickhouse_url: str, path: Path) -> int:
    """Load one export; return its rows.

    Raises:
        ContractViolation: a column is missing. Transient or Terminal: ClickHouse did not take a block; run it again.
    """
    file = pq.ParquetFile(path)
    missing = sorted(set(COLUMNS) - set(file.schema_arrow.names))
    if missing:
        raise ContractViolation(f"{path.name} lacks the columns {', '.join(missing)}", hint="export them; docs/reference/demo-data.md lists all")
    with path.open("rb") as content:
        export_id = hashlib.file_digest(content, "blake2b").hexdigest()[:32]
    client, total, done = ClickHouse(clickhouse_url), file.metadata.num_rows, 0
    began = told = time.monotonic()
    try:
        for number, block in enumerate(file.iter_batches(ROWS_A_BLOCK, columns=list(COLUMNS))):
            table = pa.Table.from_batches([block])
            versions = pc.cast(pc.cast(table["as_of"], pa.timestamp("ms", "UTC")), pa.int64())
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

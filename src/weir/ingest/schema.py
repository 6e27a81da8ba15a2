"""Apply `ingest/ddl/*.sql`: databases, landing tables and their views. Running it again changes nothing."""

from __future__ import annotations

from pathlib import Path

from weir.contracts import names
from weir.contracts.clickhouse import statements
from weir.ingest.clickhouse import ClickHouse

DDL = Path(__file__).resolve().parents[3] / "ingest" / "ddl"


def apply(clickhouse_url: str) -> None:
    """Create what is missing.

    Raises:
        Unavailable: ClickHouse does not answer.
    """
    client = ClickHouse(clickhouse_url)
    try:
        for database in names.DATABASES:
            client.execute(f"CREATE DATABASE IF NOT EXISTS {database} ENGINE = Atomic")
        for statement in statements(DDL):
            client.execute(statement)
    finally:
        client.close()

"""Apply `ingest/ddl/*.sql`: databases, landing tables and their views. Running it again changes nothing."""

from __future__ import annotations

from pathlib import Path

from weir.contracts import names
from weir.ingest.clickhouse import ClickHouse

DDL = Path(__file__).resolve().parents[3] / "ingest" / "ddl"


def statements(text: str) -> list[str]:
    """Split a DDL file into statements; one ends with a semicolon at a line's end. Pure."""
    return [s.strip() for s in text.split(";\n") if s.strip()]


def apply(clickhouse_url: str) -> None:
    """Create what is missing.

    Raises:
        Unavailable: ClickHouse does not answer.
    """
    client = ClickHouse(clickhouse_url)
    try:
        for database in names.DATABASES:
            client.execute(f"CREATE DATABASE IF NOT EXISTS {database} ENGINE = Atomic")
        for path in sorted(DDL.glob("*.sql")):
            for statement in statements(path.read_text()):
                client.execute(statement.rstrip(";"))
    finally:
        client.close()

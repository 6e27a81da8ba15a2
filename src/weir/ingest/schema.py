"""Apply `ingest/ddl/*.sql`: databases, landing tables and their views. Running it again changes nothing but a retention set anew."""

from __future__ import annotations

import os
from pathlib import Path

from weir.contracts import names
from weir.contracts.clickhouse import literal, statements
from weir.contracts.retention import Retention, bounded
from weir.ingest.clickhouse import ClickHouse
from weir.ingest.rejoin import NEW

DDL = Path(__file__).resolve().parents[3] / "ingest" / "ddl"


def apply(clickhouse_url: str, retention: Retention | None = None) -> None:
    """Create what is missing, and bring each table's TTL to `retention` (by default what the environment says).

    Raises:
        Unavailable: ClickHouse does not answer. SettingsError: the environment names a retention that cannot be.
    """
    days = retention or Retention.from_environment(os.environ)
    client = ClickHouse(clickhouse_url)
    try:
        for database in names.DATABASES:
            client.execute(f"CREATE DATABASE IF NOT EXISTS {database} ENGINE = Atomic")
        new = client.execute(f"EXISTS TABLE {names.LANDING_EVENTS}").strip() == "0"
        for statement in map(days.written_into, statements(DDL)):
            client.execute(statement)
            _bound(client, statement)
            if new and names.RESTORES in statement:
                _mark(client, NEW)
    finally:
        client.close()


def mark(clickhouse_url: str, name: str) -> None:
    """Note that the tables were restored, once for each `name`: each lane then compares them with Kafka's commits (weir.ingest.rejoin)."""
    client = ClickHouse(clickhouse_url)
    try:
        _mark(client, name)
    finally:
        client.close()


def _mark(client: ClickHouse, name: str) -> None:
    there = client.execute(f"SELECT count() FROM {names.RESTORES} WHERE id = {literal(name)} AND kind = 'restored'").strip()
    if there == "0":
        client.execute(f"INSERT INTO {names.RESTORES} (id, at, kind) SELECT {literal(name)}, now64(6, 'UTC'), 'restored'")


def _bound(client: ClickHouse, statement: str) -> None:
    """Alter the TTL of a table that an earlier version or another retention made."""
    wanted = bounded(statement)
    if wanted is None:
        return
    table, ttl, days = wanted
    database, name = table.split(".")
    engine = client.execute("SELECT engine_full FROM system.tables WHERE database = {d:String} AND name = {t:String}", d=database, t=name)
    if days not in engine:
        if table == names.LANDING_PROFILE_EXPORTS:
            client.execute(f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS loaded_at DateTime('UTC') DEFAULT now('UTC')")
        client.execute(f"ALTER TABLE {table} MODIFY TTL {ttl}")

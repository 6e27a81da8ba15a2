"""Where a worker stands in its batch: what its group's commits declare, how much of that is landed, and what its health tells.

In: Kafka, ClickHouse, the worker's health. Out: an `Open` batch or none. Keep: read-only; the group is asked without joining it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

from weir.contracts import names, tls
from weir.contracts.clickhouse import parse
from weir.contracts.endpoints import Endpoints
from weir.ingest import intent
from weir.ingest.kafka_log import KafkaLog

TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Open:
    """A batch that was declared and not ended: its token, its rows, and how many of them stand in the landing table."""

    token: str
    rows: int
    landed: int

    @property
    def phase(self) -> str:
        """Return `declared` before the insert, `landed` between the insert and the commit that ends the batch."""
        return "declared" if self.landed == 0 else "landed"


def declared(endpoints: Endpoints, table: str) -> intent.Intent | None:
    """Return what the lane's group declares now; None when no batch is open.

    Raises:
        weir.errors.Fenced: Kafka could not be asked.
    """
    topics = [t for t in names.PARTITIONS if names.landing_of(t) == table]
    log = KafkaLog(endpoints.kafka_bootstrap, names.ingest_group(table), topics)
    try:
        entries = log.committed([(t, p) for t in topics for p in range(names.PARTITIONS[t])])
    finally:
        log.close()
    found = [i for _, metadata in entries.values() if (i := intent.decode(metadata)) is not None]
    return found[0] if found else None


def look(endpoints: Endpoints, table: str) -> Open | None:
    """Return the open batch of a worker that stands still.

    Raises:
        weir.errors.Fenced: Kafka could not be asked.
        clickhouse_connect.driver.exceptions.Error: ClickHouse could not.
    """
    import clickhouse_connect

    found = declared(endpoints, table)
    if found is None:
        return None
    with clickhouse_connect.get_client(**parse(endpoints.clickhouse_url).arguments, send_receive_timeout=10) as client:
        landed = client.query(f"SELECT count() FROM {table} WHERE batch = %(token)s", parameters={"token": found.token}).result_rows[0][0]
    return Open(found.token, sum(r.count for r in found.ranges), int(landed))


def lane(endpoints: Endpoints, table: str) -> dict[str, Any]:
    """Return what the worker says of a lane since its process began (`batches`, `replays`); empty when it does not answer."""
    try:
        lanes = httpx.get(f"{endpoints.ingest_url}/health", timeout=TIMEOUT_S, verify=tls.context()).json()["lanes"]
    except (httpx.HTTPError, ValueError, KeyError):
        return {}
    return next((found for found in lanes if found["table"] == table), {})

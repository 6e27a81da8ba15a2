"""`python -m weir.ingest`: run every lane until SIGTERM. At WEIR_INGEST_URL: GET /health: every lane lands what comes; GET /live: the process works."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Mapping, Sequence

from weir.contracts import names
from weir.contracts.endpoints import Endpoints
from weir.ingest import decode, health, schema
from weir.ingest.beside import Beside
from weir.ingest.worker import LaneThread, calm_collector, real, routes
from weir.telemetry import setup
from weir.topics import retention

RETENTION_S = 60.0  # between two looks at what Kafka keeps: an alarm rises hours before


def retained(bootstrap: str, groups: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Ask whether Kafka may soon delete what the groups have not landed; return what to tell, a line a topic. `groups`: to topics.

    Raises:
        Unavailable: Kafka does not answer.
    """
    found = [alarm for group, topics in groups.items() for alarm in retention.alarms(bootstrap, retention.positions(bootstrap, group, topics)) or ()]
    return tuple(f"retention: {alarm.text}" for alarm in retention.worst(found))


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    endpoints = Endpoints.from_environment()
    telemetry = setup("ingest")
    schema.apply(endpoints.clickhouse_url)
    decode.warm()
    calm_collector()
    lanes = [
        LaneThread(table, decode.DECODERS[decoder], topics, real(endpoints.kafka_bootstrap, endpoints.clickhouse_url), telemetry)
        for table, (decoder, topics) in routes().items()
    ]
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    for lane in lanes:
        lane.start()
    watched = Beside[tuple[str, ...]]("retention", lambda: retained(endpoints.kafka_bootstrap, {names.ingest_group(lane.table): lane.topics for lane in lanes}), (),
                     every_s=RETENTION_S, old_s=5 * RETENTION_S)
    server = health.serve(lanes, endpoints.ingest_url, alarms=watched.latest)
    ended.wait()
    for lane in lanes:
        lane.ended.set()
    for lane in lanes:
        lane.join(timeout=10)
    server.shutdown()
    telemetry.shutdown()


if __name__ == "__main__":
    main()

"""`python -m weir.ingest`: run every lane until SIGTERM. At WEIR_INGEST_URL: GET /health: every lane lands what comes; GET /live: the process works."""

from __future__ import annotations

import logging
import signal
import threading

from weir.contracts.endpoints import Endpoints
from weir.ingest import decode, health, schema
from weir.ingest.worker import LaneThread, calm_collector, real, routes
from weir.telemetry import setup


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
    server = health.serve(lanes, endpoints.ingest_url)
    ended.wait()
    for lane in lanes:
        lane.ended.set()
    for lane in lanes:
        lane.join(timeout=10)
    server.shutdown()
    telemetry.shutdown()


if __name__ == "__main__":
    main()

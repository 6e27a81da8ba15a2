"""`python -m weir.ingest`: run every lane until SIGTERM; health at WEIR_INGEST_URL/health."""

from __future__ import annotations

import json
import logging
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from weir.contracts.endpoints import Endpoints
from weir.ingest import decode, schema
from weir.ingest.worker import LaneThread, calm_collector, real, routes
from weir.telemetry import setup


def _serve_health(lanes: list[LaneThread], url: str) -> ThreadingHTTPServer:
    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            documents = [lane.document() for lane in lanes]
            stopped = any(d["state"].startswith("stopped") for d in documents)
            body = json.dumps({"ok": not stopped, "lanes": documents}).encode()
            self.send_response(503 if stopped else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    own = urlsplit(url)
    server = ThreadingHTTPServer((own.hostname or "127.0.0.1", own.port or 0), Health)  # loopback unless its URL names a host
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


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
    server = _serve_health(lanes, endpoints.ingest_url)
    ended.wait()
    for lane in lanes:
        lane.ended.set()
    for lane in lanes:
        lane.join(timeout=10)
    server.shutdown()
    telemetry.shutdown()


if __name__ == "__main__":
    main()

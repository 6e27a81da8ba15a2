"""`python -m weir.features`: materialize until SIGTERM. GET /health: features are kept; GET /live; POST /refresh: every view is read whole."""

from __future__ import annotations

import json
import logging
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from weir.contracts.endpoints import Endpoints
from weir.features.marts import Marts
from weir.features.materialize import Materializer
from weir.features.service import Service
from weir.features.store import OnlineStore
from weir.telemetry import setup


def _handler(service: Service) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            status, document = service.answer(self.command, self.path)
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _answer  # noqa: N815 - the names that http.server calls

        def log_message(self, *_: object) -> None:
            return

    return Handler


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    endpoints, telemetry = Endpoints.from_environment(), setup("features")
    service = Service(lambda: Materializer(Marts(endpoints.clickhouse_url), OnlineStore(endpoints.redis_url), telemetry))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.ended.set())
    own = urlsplit(endpoints.features_url)
    server = ThreadingHTTPServer((own.hostname or "127.0.0.1", own.port or 0), _handler(service))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    service.run()
    server.shutdown()
    telemetry.shutdown()


if __name__ == "__main__":
    main()

"""`python -m weir.features`: materialize until SIGTERM; /health, and POST /refresh to read every view whole."""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from weir.contracts.endpoints import Endpoints
from weir.errors import WeirError
from weir.features.materialize import BATCH_REFRESH_S, SWEEP_S, TICK_S, Materializer
from weir.features.store import OnlineStore
from weir.telemetry import setup

PAUSE_MAX_S = 2.0
log = logging.getLogger("weir.features")


class Service:
    """The loop and what its HTTP side asks of it. A refresh is done by the loop's thread, so there is one writer."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._telemetry = setup("features")
        self._wanted = threading.Event()
        self._done = threading.Event()
        self.result: dict[str, int] = {}
        self.error = ""
        self.ended = threading.Event()
        self.materializer: Materializer | None = None

    def ask_refresh(self, wait_s: float = 120.0) -> tuple[int, dict[str, object]]:
        """Have every view read whole; return (status, document)."""
        self._done.clear()
        self._wanted.set()
        if not self._done.wait(wait_s):
            return 504, {"error": "the refresh did not end in time"}
        return (503, {"error": self.error}) if self.error else (200, {"rows": self.result})

    def run(self) -> None:
        """Tick until ended; on trouble, back off and go on."""
        pause, swept, refreshed = TICK_S, time.monotonic(), time.monotonic()
        while not self.ended.is_set():
            began = time.monotonic()
            try:
                if self.materializer is None:
                    self.materializer = Materializer(self._endpoints.clickhouse_url, OnlineStore(self._endpoints.redis_url), self._telemetry)
                self.materializer.tick()
                if self._wanted.is_set():
                    self._wanted.clear()
                    self.result, self.error = self.materializer.refresh_all(), ""
                    self._done.set()
                if began - swept > SWEEP_S:
                    swept = began
                    self.materializer.sweep()
                if began - refreshed > BATCH_REFRESH_S:
                    refreshed = began
                    self.materializer.refresh_all(batch_only=True)
                pause = TICK_S
            except WeirError as error:
                if "UNKNOWN_TABLE" not in str(error) and "UNKNOWN_DATABASE" not in str(error):
                    log.warning("%s", error)
                if self.materializer is not None:
                    self.materializer.freshness.state = f"waiting: {str(error)[:160]}"
                self.error = str(error)
                if self._wanted.is_set():
                    self._wanted.clear()
                    self._done.set()
                pause = min(PAUSE_MAX_S, pause * 2)
            self.ended.wait(max(0.0, pause - (time.monotonic() - began)))
        self._telemetry.shutdown()


def _handler(service: Service) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self, status: int, document: object) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            m = service.materializer
            self._answer(200 if m is not None else 503, m.freshness.document() if m is not None else {"state": "starting", "error": service.error})

        def do_POST(self) -> None:
            if self.path != "/refresh":
                self._answer(404, {"error": "POST /refresh reads every view whole"})
                return
            self._answer(*service.ask_refresh())

        def log_message(self, *_: object) -> None:
            return

    return Handler


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    endpoints = Endpoints.from_environment()
    service = Service(endpoints)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.ended.set())
    own = urlsplit(endpoints.features_url)
    server = ThreadingHTTPServer((own.hostname or "127.0.0.1", own.port or 0), _handler(service))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    service.run()
    server.shutdown()


if __name__ == "__main__":
    main()

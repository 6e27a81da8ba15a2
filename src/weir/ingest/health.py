"""What may be asked of the worker over HTTP: whether events land, and whether the process works.

In: the lanes. Out: answers. Keep: two questions. GET /live is the supervisor's: no restart mends a lane that stopped, and one would stop the others too.
GET /health is the truth: 503 while any lane does not land what comes; `trouble` names those that do not come back by themselves, `notes` those
that are well and land less often than they could.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic
from typing import Any, Protocol
from urllib.parse import urlsplit

from weir.ingest.lane import SLOWED, Stats, lands

UNWELL_S = 30.0  # a lane waits and rejoins as it should (a rebalance, a restart of ClickHouse); past this, records are not landing
LIVE_S = 600.0  # the slowest turn, a replay of which every step is at its limit, ends in this
Answer = tuple[int, dict[str, Any]]


class Asked(Protocol):
    """A lane's thread, as far as it is asked."""

    stats: Stats
    turned_s: float

    def is_alive(self) -> bool:
        """Return whether the thread runs."""

    def document(self) -> dict[str, Any]:
        """Return the lane's state."""


def well(stats: Stats, now_s: float) -> bool:
    """Return whether a lane lands what comes: it runs or is slowed, or it did a moment ago and comes back by itself. Pure."""
    if lands(stats.state):
        return True
    return not stuck(stats) and now_s - stats.left_running_s <= UNWELL_S


def stuck(stats: Stats) -> bool:
    """Return whether a lane waits for somebody to do something: it tries again, and nothing says that it will do better. Pure."""
    return stats.state.startswith(("stopped", "failing"))


def answer(lanes: Sequence[Asked], path: str, now_s: float, alarms: Sequence[str] = ()) -> Answer:
    """Answer one GET. `alarms`: what somebody has to see to although every lane may be well, such as records that Kafka soon deletes."""
    if path == "/health":
        ok = all(well(lane.stats, now_s) for lane in lanes)
        told = [lane.document() for lane in lanes]
        trouble = [f"{d['table']} {d['state']}" for d, lane in zip(told, lanes, strict=True) if stuck(lane.stats)] + list(alarms)
        notes = [f"{d['table']} {d['state']}" for d in told if str(d["state"]).startswith(SLOWED)]
        return HTTPStatus.OK if ok else HTTPStatus.SERVICE_UNAVAILABLE, {"ok": ok, "lanes": told, "trouble": trouble, "notes": notes}
    if path == "/live":
        live = all(lane.is_alive() and now_s - lane.turned_s <= LIVE_S for lane in lanes)
        return HTTPStatus.OK if live else HTTPStatus.SERVICE_UNAVAILABLE, {"live": live}
    return HTTPStatus.NOT_FOUND, {"error": "known: GET /health (is every lane landing?), GET /live (does the process work?)"}


def serve(lanes: Sequence[Asked], url: str, clock: Callable[[], float] = monotonic, alarms: Callable[[], Sequence[str]] = tuple) -> ThreadingHTTPServer:
    """Serve the answers in a thread of its own, on loopback unless `url` names a host. `alarms` must not wait."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, document = answer(lanes, urlsplit(self.path).path, clock(), alarms())
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    own = urlsplit(url)
    server = ThreadingHTTPServer((own.hostname or "127.0.0.1", own.port or 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server

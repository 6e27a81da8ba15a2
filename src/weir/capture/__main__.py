"""`python -m weir.capture`: watch the captured tables' columns and the slot's WAL until SIGTERM. Beside the services, under their supervisor."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import Final

from weir.capture.operate import opened
from weir.capture.register import turn
from weir.capture.watch import Watcher
from weir.contracts.endpoints import Endpoints
from weir.errors import WeirError
from weir.quality import growth
from weir.telemetry import setup

EVERY_S: Final = 5.0  # a catalogue query for each table; a row that does not fit is held by ingest at once, whenever this looks
log = logging.getLogger("weir.capture")


def _round(endpoints: Endpoints, home: Path, root: Path, failed_s: dict[str, float]) -> None:
    sample = growth.ask(endpoints.postgres_dsn)
    if sample is not None:
        growth.keep(home, sample)
    with turn(home, wait_s=0), opened(endpoints) as parts:
        Watcher(parts, home, root, failed_s).round(time.monotonic())


def main() -> None:
    """Look every few seconds; a part that is away is asked again the next time."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for name in ("httpx", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    endpoints, home, root = Endpoints.from_environment(), Path(os.environ["WEIR_HOME"]), Path(os.environ["WEIR_ROOT"])
    failed_s: dict[str, float] = {}
    telemetry = setup("capture")
    while not ended.wait(EVERY_S):
        with telemetry.span("weir.capture.round"):
            try:
                _round(endpoints, home, root, failed_s)
                telemetry.count("weir.capture.rounds", 1, {"outcome": "done"})
            except WeirError as error:
                log.info("not this time: %s", error)
                telemetry.count("weir.capture.rounds", 1, {"outcome": "put_off"})
            except Exception:
                log.exception("unexpected")
                telemetry.count("weir.capture.rounds", 1, {"outcome": "failed"})
    telemetry.shutdown()


if __name__ == "__main__":
    main()

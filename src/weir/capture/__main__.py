"""`python -m weir.capture`: watch the captured tables' columns and the slot's WAL until SIGTERM. Beside the services, under their supervisor."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Final

from weir.capture.operate import opened
from weir.capture.register import turn
from weir.capture.watch import Watcher
from weir.contracts.endpoints import Endpoints
from weir.quality import growth
from weir.telemetry import setup
from weir.telemetry.companion import attempt, begin

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
    ended = begin()
    endpoints, home, root = Endpoints.from_environment(), Path(os.environ["WEIR_HOME"]), Path(os.environ["WEIR_ROOT"])
    failed_s: dict[str, float] = {}
    telemetry = setup("capture")
    while not ended.wait(EVERY_S):
        with telemetry.span("weir.capture.round"):
            outcome = attempt(lambda: _round(endpoints, home, root, failed_s), log)
        telemetry.count("weir.capture.rounds", 1, {"outcome": outcome})
    telemetry.shutdown()


if __name__ == "__main__":
    main()

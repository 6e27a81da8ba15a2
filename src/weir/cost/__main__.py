"""`python -m weir.cost [--once]`: sample, price and write every INTERVAL_S seconds until SIGTERM."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Final

from weir.cost import pricing, sampler
from weir.errors import WeirError
from weir.telemetry import setup

INTERVAL_S: Final = 20.0  # reading the memory of 40 processes takes a fifth of a second of a core
ONCE_S: Final = 2.0

log = logging.getLogger("weir.cost")


def main() -> None:
    """Run the loop, or one round."""
    parser = argparse.ArgumentParser(prog="python -m weir.cost", description=__doc__)
    parser.add_argument("--once", action="store_true", help=f"one sample over {ONCE_S:.0f} s, printed as JSON")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    home, clickhouse = os.environ.get("WEIR_HOME", ""), os.environ.get("WEIR_CLICKHOUSE_URL", "")
    if not home or not clickhouse:
        sys.exit("WEIR_HOME and WEIR_CLICKHOUSE_URL must be set. Run this through ./weir run, which sets every endpoint")
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    prices, taker, telemetry = pricing.load(), sampler.Sampler(Path(home)), setup("cost")
    taker.sample()
    while not ended.wait(ONCE_S if arguments.once else INTERVAL_S):
        with telemetry.span("weir.cost.sample"):
            rows = sampler.rows(taker.sample(), prices, time.time())
            for row in rows:
                telemetry.gauge("weir.cost.hourly_usd", float(str(row["usd_per_hour"])), {"part": str(row["part"])})
            try:
                if rows:
                    sampler.write(clickhouse, rows)
            except WeirError as error:
                log.warning("%s", error)
        if arguments.once:
            sys.stdout.write(json.dumps(rows) + "\n")
            break
    telemetry.shutdown()


if __name__ == "__main__":
    main()

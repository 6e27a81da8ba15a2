"""What it costs to look through one full window of landed events for late, repeated and conflicting ones (docs/decisions/0019). Prints JSON.

Run it by `./weir bench event_windows [--rounds 3]`. It starts a gateway of its own on a free port and in a temporary folder, lands a window and what repeats are sought
among (20 M events in 12 partitions), and asks as `weir.quality.event_walk` does, with no event repeated and then with one of a thousand.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path

import httpx
from gateway_fsync import start

from weir.contracts import names
from weir.ingest import schema
from weir.quality.event_walk import EventWalk
from weir.quality.event_windows import BACK_ROWS, STEP, Span
from weir.telemetry import setup

PARTITIONS, BLOCK = 12, 2_000_000
_ROW = (
    "INSERT INTO {table} (topic, partition, offset, batch, produced_at, event_id, user_id, item_id, event_type, session_id, country, occurred_at) SELECT '{topic}', number % {partitions},"
    " intDiv(number, {partitions}), 'b', now64(3) AS at, toString(generateUUIDv4(number)), rand64(number) % 1000000, rand64(number + 1) % 100000, 'view', toString(rand64()), 'DE', at"
    " FROM numbers({first}, {rows})"
)
_AGAIN = (
    "INSERT INTO {table} SELECT * REPLACE (offset + {shift} AS offset) FROM {table} WHERE rand() % 1000 = 0 AND offset >= {low} AND offset < {high}"
)


def _post(url: str, sql: str) -> None:
    httpx.post(url, content=sql.encode(), timeout=600).raise_for_status()


def looks(url: str, span: Span, rounds: int) -> dict[str, object]:
    walk = EventWalk(url, setup("bench", otlp_url=""))
    windows = [walk._look(span, 1, time.monotonic()) for _ in range(rounds)]  # noqa: SLF001 - the questions alone, without marks and rests
    window, taken = windows[-1], [round(w.cost_s, 2) for w in windows]
    return {"seconds": taken, "events": window.times.rows, "among": span.back_rows, "repeated": window.repeats.repeated, "us_an_event": round(min(taken) / window.times.rows * 1e6, 2)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(dir=os.environ.get("WEIR_HOME") or None) as name:
        process, url = start(Path(name) / "engine")
        try:
            schema.apply(url)
            total = BACK_ROWS + STEP
            for first in range(0, total, BLOCK):
                _post(url, _ROW.format(table=names.LANDING_EVENTS, topic=names.TOPIC_USER_EVENTS, partitions=PARTITIONS, first=first, rows=BLOCK))
            back, first, after = dict.fromkeys(range(PARTITIONS), 0), BACK_ROWS // PARTITIONS, total // PARTITIONS
            span = Span(dict.fromkeys(back, first), dict.fromkeys(back, after), back, BACK_ROWS, 1)
            result: dict[str, object] = {"none_repeated": looks(url, span, rounds)}
            _post(url, _AGAIN.format(table=names.LANDING_EVENTS, shift=after - first, low=first - (after - first), high=after))
            result["one_of_a_thousand_repeated"] = looks(url, Span(span.first, dict.fromkeys(back, 2 * after - first), back, BACK_ROWS, 1), rounds)
        finally:
            process.terminate()
            process.wait(30)
    result |= {"machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "load": os.getloadavg()[0]}}
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

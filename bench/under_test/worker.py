"""The worker of `./weir bench ingest`: what `python -m weir.ingest` runs for the events' table, with the modes of that benchmark.

In: the endpoints of the environment, a line on standard input when the others are ready too. Out: a JSON line each time rows or state changed.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from dataclasses import replace
from typing import Any

from weir.contracts import names

TABLE = names.LANDING_EVENTS


def _timed(edges: Any) -> tuple[Any, list[float]]:
    """Return the edges with a log that notes when the first fetch that brought a record was called, and that note."""
    first: list[float] = []

    def log(group: str, topics: list[str]) -> Any:
        member = edges.log(group, topics)
        inner = member.fetch

        def fetch(limit: int, timeout_s: float) -> list[Any]:
            began = time.time()
            records = inner(limit, timeout_s)
            if records and not first:
                first.append(began)
            return records

        member.fetch = fetch
        return member

    return replace(edges, log=log), first


def _at_least_once() -> None:
    """Replace the protocol: no intent, no token; the offsets are committed after the insert, and nobody waits for the commit."""
    from weir.ingest import clickhouse, worker
    from weir.ingest.intent import Intent, Range
    from weir.ingest.lane import cut

    clickhouse.INSERT_SETTINGS.update(insert_deduplicate="0", deduplicate_blocks_in_dependent_materialized_views="0")

    class Plain(worker.Lane):
        _number = 0

        def _process(self) -> None:
            batch = cut(self._buffer, self.limits.rows)
            self._buffer = self._buffer[len(batch):]
            self._number += 1
            ends = {(r.topic, r.partition): r.offset + 1 for r in batch}
            intent = Intent(tuple(Range(t, p, 0, end - 1, 0) for (t, p), end in ends.items()), f"{os.getpid()}-{self._number}")
            table, began = self.decoder(batch, intent.token), self.clock()
            self._insert(intent, table, "insert")
            self._position.update(ends)
            self.log._consumer.commit(offsets=[worker_position(t, p, end) for (t, p), end in ends.items()], asynchronous=True)  # noqa: SLF001 - a peer of ours
            self._count(intent, batch, table, self.clock() - began)

    def worker_position(topic: str, partition: int, offset: int) -> Any:
        from confluent_kafka import TopicPartition

        return TopicPartition(topic, partition, offset)

    worker.Lane = Plain  # type: ignore[misc]  # (own) the mode


def work(profile: str, *, exactly_once: bool) -> None:
    """Run one worker: say ready, wait for a line, tell rows and time until standard input ends."""
    from weir.contracts.endpoints import Endpoints
    from weir.ingest import decode, worker
    from weir.telemetry import setup

    if not exactly_once:
        _at_least_once()
    e, telemetry = Endpoints.from_environment(), setup("ingest", otlp_url=os.environ["WEIR_OTLP_URL"] if os.environ.get("BENCH_TELEMETRY") == "1" else "")
    decoder, topics = worker.routes()[TABLE]
    edges, first = _timed(worker.real(e.kafka_bootstrap, e.clickhouse_url))
    lane = worker.LaneThread(TABLE, decode.DECODERS[decoder], topics, edges, telemetry)
    decode.warm()
    worker.calm_collector()
    print("ready", flush=True)
    sys.stdin.readline()
    if profile:
        _profiled(lane, profile)
    lane.start()
    ended = threading.Thread(target=sys.stdin.read, daemon=True)
    ended.start()
    told: tuple[int, str] = (-1, "")
    while ended.is_alive():
        if (lane.stats.rows, lane.stats.state) != told:
            told = (lane.stats.rows, lane.stats.state)
            print(json.dumps({"rows": told[0], "at": lane.stats.last_batch_at_s, "first": first[0] if first else 0, "batches": lane.stats.batches,
                              "rejoins": lane.stats.rejoins, "state": lane.stats.state}), flush=True)
        time.sleep(0.02)
    lane.ended.set()
    lane.join(10)
    telemetry.shutdown()


def _profiled(lane: Any, path: str) -> None:
    import cProfile

    inner = lane.run

    def run() -> None:
        profile = cProfile.Profile()
        try:
            profile.runcall(inner)
        finally:
            profile.dump_stats(f"{path}.{os.getpid()}")

    lane.run = run

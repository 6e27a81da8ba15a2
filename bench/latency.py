"""From an event's scheduled time to its row being queryable, at a steady rate. Run it by `./weir bench latency`.

In: `--rate` events a second (default: 100 million an hour), `--seconds` of them, on Kafka, ClickHouse with the dbt views and ingest workers of its own. Out: one
JSON document with percentiles in ms. The load is an open loop: each record has its place in a schedule, carries that time as its Kafka timestamp, and is sent
when that time has come or, when the sender is late, at once: its wait counts (coordinated omission, Tene 2015). Queryable: the first answer of a poller that asks,
over HTTP like any client and again as soon as it was answered, for the highest offset of each partition; rows of a partition become visible in offset order, so the
figure is an upper bound. The first `--warm-up` seconds count in nothing. Active parts are counted once a second.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil
from startup import machine
from under_test.stack import Stack, cpu_s, report_on_own_stack

from weir.contracts import names
from weir.ingest.clickhouse import ClickHouse

PORT_SHIFT = 220  # from the stack that may be running
TABLE = names.LANDING_EVENTS
TOPIC = names.TOPIC_USER_EVENTS
TICK_S = 0.005
DRAIN_S = 30.0
PERCENTILES = (50, 90, 99, 99.9, 100)


@dataclass
class Seen:
    """What the poller saw: for each partition, times (ms since the epoch) and the highest offset queryable then; parts by second."""

    at_ms: dict[int, list[float]] = field(default_factory=dict)
    offsets: dict[int, list[int]] = field(default_factory=dict)
    parts: list[int] = field(default_factory=list)
    asked: int = 0
    failure: str = ""


class Poller(threading.Thread):
    """Asks for the highest offsets, one question after another, and once a second for the active parts."""

    def __init__(self, url: str, partitions: int) -> None:
        super().__init__(name="poller", daemon=True)
        self.client, self.seen, self.ended = ClickHouse(url), Seen(), threading.Event()
        self.last = dict.fromkeys(range(partitions), -1)

    def run(self) -> None:
        """Ask until the end."""
        try:
            counted = 0.0
            while not self.ended.is_set():
                self._ask()
                if time.monotonic() - counted > 1:
                    counted = time.monotonic()
                    self.seen.parts.append(int(self.client.execute("SELECT count() FROM system.parts WHERE active AND database IN ('landing', 'staging')")))
        except Exception as error:  # noqa: BLE001 - told by who waits for it
            self.seen.failure = repr(error)

    def _ask(self) -> None:
        newer = " OR ".join(f"(partition = {p} AND offset > {o})" for p, o in self.last.items())
        text = self.client.execute(f"SELECT partition, max(offset) FROM {TABLE} WHERE topic = '{TOPIC}' AND ({newer}) GROUP BY partition")
        at_ms = time.time() * 1000
        self.seen.asked += 1
        for line in text.splitlines():
            partition, offset = map(int, line.split("\t"))
            self.last[partition] = offset
            self.seen.at_ms.setdefault(partition, []).append(at_ms)
            self.seen.offsets.setdefault(partition, []).append(offset)


def send(bootstrap: str, rate: float, seconds: float, seed: int) -> dict[str, Any]:
    """Send on schedule; return how many records there were and how far behind the schedule the sender was, in ms."""
    from confluent_kafka import Producer

    from weir.simulation import load

    client = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "acks": "all", "linger.ms": 5, "compression.type": "lz4"})
    rng, total = np.random.default_rng(seed), int(rate * seconds)
    made: list[dict[str, Any]] = []
    sent, began, behind = 0, time.time() + 0.5, []
    while sent < total:
        if not made:
            made = load.chunk(rng, load.Shape(bad=0, late=0, dup=0), 20_000, sent, int(time.time() * 1000)).records[::-1]
        due = min(total, int((time.time() - began) * rate) + 1)
        if due <= sent:
            client.poll(0)
            time.sleep(TICK_S)
            continue
        behind.append(max(0.0, time.time() - (began + sent / rate)))
        for _ in range(min(due - sent, len(made))):
            record = made.pop()
            client.produce(TOPIC, record["value"], record["key"], timestamp=int((began + sent / rate) * 1000))
            sent += 1
        client.poll(0)
    left = client.flush(DRAIN_S)
    if left:
        raise SystemExit(f"{left} records were not acknowledged")
    return {"sent": sent, "began_ms": began * 1000, "sender_behind_ms": {"p99": round(float(np.percentile(behind, 99)) * 1000, 1), "most": round(max(behind) * 1000, 1)}}


def latencies(client: ClickHouse, seen: Seen, since_ms: float) -> Any:
    """Return, for each row scheduled after `since_ms`, when it was seen less when it was scheduled, in ms.

    Raises:
        SystemExit: a row was never seen by the poller.
    """
    found = []
    for batch in client.select(f"SELECT partition, offset, toUnixTimestamp64Milli(produced_at) AS at FROM {TABLE} WHERE topic = '{TOPIC}'"):
        partition, offset, at = (batch.column(n).to_numpy(zero_copy_only=False).astype(np.int64) for n in range(3))
        for p in np.unique(partition).tolist():
            mine = partition == p
            first = np.searchsorted(np.array(seen.offsets.get(p, [])), offset[mine])
            if first.size and first.max() >= len(seen.at_ms.get(p, [])):
                raise SystemExit(f"rows of partition {p} were never seen by the poller")
            found.append((np.array(seen.at_ms[p])[first] - at[mine])[at[mine] >= since_ms])
    return np.concatenate(found)


def _workers(stack: Stack, count: int) -> list[psutil.Popen]:
    base = int(stack.env["WEIR_PORT_BASE"])
    made = []
    for n in range(count):
        log = (stack.home / f"ingest-{n}.log").open("w")
        env = {**stack.env, "WEIR_INGEST_URL": f"http://127.0.0.1:{base + 15 + n}"}
        made.append(psutil.Popen([sys.executable, "-m", "weir.ingest"], env=env, stdout=log, stderr=log))
    return made


def _landed(client: ClickHouse) -> int:
    return int(client.execute(f"SELECT count() FROM {TABLE}"))


def _warm(stack: Stack, client: ClickHouse, partitions: int) -> None:
    """Wait until the workers land what is sent to each partition."""
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": stack.env["WEIR_KAFKA_BOOTSTRAP"]})
    for p in range(partitions):
        producer.produce(TOPIC, b"{", b"warm", p)
    producer.flush(DRAIN_S)
    deadline = time.monotonic() + 60
    while _landed(client) < partitions:
        if time.monotonic() > deadline:
            raise SystemExit(f"the workers landed nothing in 60 s: see {stack.home}/ingest-0.log")
        time.sleep(0.2)


def measure(stack: Stack, given: argparse.Namespace) -> dict[str, Any]:
    """Start, send on schedule, look, and say."""
    from confluent_kafka.admin import AdminClient

    from weir.transform import build

    stack.up()
    build.build(stack.env, ["--select", "int_user_events", "int_item_events"])
    client = ClickHouse(stack.env["WEIR_CLICKHOUSE_URL"])
    partitions = len(AdminClient({"bootstrap.servers": stack.env["WEIR_KAFKA_BOOTSTRAP"]}).list_topics(TOPIC, timeout=20).topics[TOPIC].partitions)
    workers = _workers(stack, given.workers)
    stack.children |= {f"ingest-{n}": w for n, w in enumerate(workers)}
    _warm(stack, client, partitions)
    poller = Poller(stack.env["WEIR_CLICKHOUSE_URL"], partitions)
    poller.start()
    load, used = os.getloadavg()[0], {name: cpu_s(child.pid) for name, child in stack.children.items()}
    sent = send(stack.env["WEIR_KAFKA_BOOTSTRAP"], given.rate, given.seconds, given.seed)
    used = {name: round((cpu_s(child.pid) - used[name]) / given.seconds, 3) for name, child in stack.children.items()}
    deadline = time.monotonic() + DRAIN_S
    while _landed(client) < sent["sent"] + partitions:
        if time.monotonic() > deadline:
            raise SystemExit(f"{_landed(client) - partitions} of {sent['sent']} rows had landed {DRAIN_S:.0f} s after the last was sent")
        time.sleep(0.2)
    time.sleep(0.5)
    poller.ended.set()
    poller.join(10)
    if poller.seen.failure:
        raise SystemExit(f"the poller ended: {poller.seen.failure}")
    waits = latencies(client, poller.seen, sent.pop("began_ms") + given.warm_up * 1000)
    parts = poller.seen.parts
    tenth = max(1, len(parts) // 10)
    return {
        "benchmark": "latency", "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "machine": machine(), "load_average_before": round(load, 2),
        "rate": given.rate, "seconds": given.seconds, "workers": given.workers, "partitions": partitions, **sent, "counted": len(waits),
        "scheduled_to_queryable_ms": {f"p{p:g}" if p < PERCENTILES[-1] else "most": round(float(np.percentile(waits, p)), 1) for p in PERCENTILES},
        "poll_every_ms": round(given.seconds * 1000 / poller.seen.asked, 1), "cores": used,
        "active_parts": {"after_warm_up": parts[min(len(parts) - 1, int(given.warm_up))], "most": max(parts), "mean_of_last_tenth": round(sum(parts[-tenth:]) / tenth, 1)},
    }


def main() -> None:
    """Parse the arguments, measure, print, and leave nothing behind."""
    parser = argparse.ArgumentParser(prog="./weir bench latency", description=__doc__)
    parser.add_argument("--rate", type=float, default=100_000_000 / 3600, help="events a second (default 27,778)")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (default 60)")
    parser.add_argument("--warm-up", type=float, default=10.0, help="of which the first are not counted (default 10)")
    parser.add_argument("--workers", type=int, default=1, help="ingest processes (default 1)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="kept for likeness: the document is always JSON, on standard output")
    given = parser.parse_args()
    report_on_own_stack("bench-latency", PORT_SHIFT, lambda stack: measure(stack, given))


if __name__ == "__main__":
    main()

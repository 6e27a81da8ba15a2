"""Rows a second of a snapshot, and from commit to queryable at several rates, beside Debezium to Kafka alone and a PostgreSQL logical replica. Run it by `./weir bench cdc`.

In: a stack that is started for it, in a state folder and on ports of its own; services that no change passes by are stopped. Out: one JSON document, exit code 1 past a
limit. The snapshot runs from `./weir table add` of a filled table until the view that readers are given counts every row, which is after the copy was compared with
the source; `landed` is when the copy had them. A change's delay runs from when its commit returned to the writer until the first answer that has it, of ClickHouse or of
the replica (asked in turn, each answer's end counts), and until a read-committed consumer had it from Kafka. Debezium alone and the replica are measured with ingest
stopped, one after the other. Sustained: updates as quick as the source takes them, to the last one queryable.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psycopg
from peers.replica import Replica
from startup import machine, own_stack, tell, weir

from weir.ingest.clickhouse import ClickHouse
from weir.stack.supervision import Control

PORT_SHIFT = 400  # from the stack that may be running
IDLE = ("dashboard", "api", "catalogue", "features", "redis", "cost", "reconcile")  # no change of an added table passes by them; the watcher would start them again
LIMIT_S = 300.0
SNAPSHOT_ROWS_S, P99_MS = 25_000, 1_000.0  # what is promised on two cores
SNAPSHOT, CHANGED = "bench_rows", "bench_changes"
COLUMNS = "customer bigint NOT NULL, amount numeric(12,2) NOT NULL, note text, placed_at timestamptz NOT NULL DEFAULT now()"


class Ends:
    """The stack's ends: PostgreSQL, ClickHouse, Kafka."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env, self.control = env, Control(Path(env["WEIR_HOME"]))
        found = json.loads(weir("status", "--json", env=env))["endpoints"]
        self.dsn, self.kafka = found["postgres_dsn"], found["kafka_bootstrap"]
        self.client = ClickHouse(found["clickhouse_url"])

    def source(self, *statements: str) -> None:
        """Run statements at the source."""
        with psycopg.connect(self.dsn, autocommit=True) as c:
            for statement in statements:
                c.execute(statement.encode())

    def landed(self, table: str) -> int:
        """Return how many rows an added table's first copy has; 0 before there is one. By the parts' metadata, so that asking costs the snapshot nothing."""
        return int(self.client.execute(f"SELECT sum(rows) FROM system.parts WHERE active AND database = 'captured' AND table = '{table}__1'"))

    def read(self, table: str) -> int:
        """Return how many rows the view that readers are given has."""
        return int(self.client.execute(f"SELECT count() FROM captured.{table}"))


def created(table: str) -> str:
    """Return the statement that makes a table, at the source and on the replica."""
    return f"CREATE TABLE {table} (id bigint PRIMARY KEY, {COLUMNS})"


def snapshot(path: Ends, rows: int) -> dict[str, Any]:
    """Add a filled table; count what has landed until the command returns, and then what readers see."""
    path.source(created(SNAPSHOT), f"ALTER TABLE {SNAPSHOT} REPLICA IDENTITY FULL",
                f"INSERT INTO {SNAPSHOT} SELECT i, i % 1000, i * 0.25, 'note ' || i, now() FROM generate_series(1, {rows}) i", f"VACUUM ANALYZE {SNAPSHOT}", "CHECKPOINT")
    load, began = os.getloadavg()[0], time.monotonic()
    adding = subprocess.Popen([sys.executable, "-m", "weir.cli", "table", "add", f"public.{SNAPSHOT}"], env=path.env, stdout=subprocess.DEVNULL)
    first = landed = 0.0
    while adding.poll() is None and time.monotonic() - began < LIMIT_S:
        seen = path.landed(SNAPSHOT)
        first = first or (time.monotonic() if seen else 0.0)
        landed = landed or (time.monotonic() if seen >= rows else 0.0)
        time.sleep(0.2)
    if adding.poll() != 0 or path.read(SNAPSHOT) != rows:
        adding.terminate()
        raise SystemExit(f"the table was not captured in {LIMIT_S:.0f} s: table add exited {adding.wait(30)}")
    done = time.monotonic()
    return {"rows": rows, "seconds_to_queryable": round(done - began, 2), "rows_per_s": round(rows / (done - began)), "seconds_to_first_row": round(first - began, 2),
            "seconds_to_landed": round(landed - began, 2), "rows_per_s_landed": round(rows / (landed - began)), "load_average_before": round(load, 2)}


class Seen(threading.Thread):
    """Notes when each id was first seen, asking `ask(low)` for ids past the last whole one."""

    def __init__(self, wanted: range) -> None:
        super().__init__(daemon=True)
        self.wanted, self.at, self.ended = wanted, dict[int, float](), threading.Event()

    def note(self, ids: list[int]) -> None:
        """Keep the first time of each."""
        now = time.monotonic()
        for i in ids:
            if i in self.wanted:
                self.at.setdefault(i, now)

    def whole(self) -> bool:
        """Say whether all were seen."""
        return len(self.at) == len(self.wanted)


class InClickHouse(Seen):
    """By the copy's readers."""

    def __init__(self, wanted: range, client: ClickHouse) -> None:
        super().__init__(wanted)
        self._client = client

    def run(self) -> None:
        """Ask until all were seen."""
        low = self.wanted.start
        while not self.ended.is_set() and not self.whole():
            text = self._client.execute(f"SELECT id FROM captured.{CHANGED} WHERE id >= {low} AND id < {self.wanted.stop} FORMAT TabSeparated")
            self.note([int(x) for x in text.split()])
            while low in self.at:
                low += 1
            time.sleep(0.005)


class InKafka(Seen):
    """By a consumer of committed records."""

    def __init__(self, wanted: range, bootstrap: str) -> None:
        from confluent_kafka import OFFSET_END, Consumer, TopicPartition

        super().__init__(wanted)
        topic = f"shop.public.{CHANGED}"
        self._consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "weir-bench-cdc", "isolation.level": "read_committed", "enable.auto.commit": False, "fetch.wait.max.ms": 5})
        self._consumer.assign([TopicPartition(topic, p, OFFSET_END) for p in range(3)])
        self._consumer.poll(2.0)  # the ends are asked for by now

    def run(self) -> None:
        """Consume until all were seen."""
        while not self.ended.is_set() and not self.whole():
            messages = self._consumer.consume(500, timeout=0.02)
            self.note([int(json.loads(m.key())["id"]) for m in messages if m.error() is None and m.key()])
        self._consumer.close()


class InReplica(Seen):
    """By a reader of the logical replica."""

    def __init__(self, wanted: range, dsn: str) -> None:
        super().__init__(wanted)
        self._dsn = dsn

    def run(self) -> None:
        """Ask until all were seen."""
        low = self.wanted.start
        with psycopg.connect(self._dsn, autocommit=True) as c:
            while not self.ended.is_set() and not self.whole():
                self.note([r[0] for r in c.execute(f"SELECT id FROM {CHANGED} WHERE id >= %s AND id < %s".encode(), (low, self.wanted.stop))])
                while low in self.at:
                    low += 1
                time.sleep(0.005)


def write(dsn: str, ids: range, rate: int) -> dict[int, float]:
    """Insert rows, evenly, `rate` a second, in transactions of `rate`/500 rows (at least one); return when each commit returned."""
    each, committed = max(1, rate // 500), dict[int, float]()
    with psycopg.connect(dsn) as c:
        began = time.monotonic()
        for start in range(ids.start, ids.stop, each):
            due = began + (start - ids.start) / rate
            time.sleep(max(0.0, due - time.monotonic()))
            part = range(start, min(start + each, ids.stop))
            c.execute(f"INSERT INTO {CHANGED} (id, customer, amount, note) SELECT i, 1, 2.5, 'changed' FROM generate_series(%s::bigint, %s) i".encode(), (part.start, part.stop - 1))
            c.commit()
            committed |= dict.fromkeys(part, time.monotonic())
    return committed


def delays(committed: dict[int, float], seen: Seen) -> dict[str, float]:
    """Return percentiles of the delays in milliseconds; those of the first second, when nothing is warm, are left out."""
    warm = min(committed.values()) + 1.0
    values = sorted(1000 * (seen.at[i] - at) for i, at in committed.items() if i in seen.at and at >= warm)
    cut = statistics.quantiles(values, n=100)
    return {"changes": len(values), "p50_ms": round(cut[49], 1), "p99_ms": round(cut[98], 1), "max_ms": round(values[-1], 1)}


def rated(path: Ends, ids: range, rate: int, watchers: dict[str, Seen], who: str) -> dict[str, Any]:
    """Write at one rate; return the delays to each watcher."""
    load, began = os.getloadavg()[0], time.monotonic()
    for watcher in watchers.values():
        watcher.start()
    committed = write(path.dsn, ids, rate)
    written = time.monotonic() - began
    deadline = time.monotonic() + LIMIT_S
    while not all(w.whole() for w in watchers.values()) and time.monotonic() < deadline:
        time.sleep(0.05)
    for watcher in watchers.values():
        watcher.ended.set()
        watcher.join(10)
    missing = {name: len(ids) - len(w.at) for name, w in watchers.items() if not w.whole()}
    if missing:
        raise SystemExit(f"changes that were never seen at {rate} a second: {missing}")
    result = {"measured": who, "asked_per_s": rate, "written_per_s": round(len(ids) / written), "load_average_before": round(load, 2),
              **{name: delays(committed, w) for name, w in watchers.items()}}
    print(f"{rate}/s: {result}", file=sys.stderr, flush=True)
    return result


def latencies(path: Ends, replica: Replica, rates: list[int], seconds: float) -> list[dict[str, Any]]:
    """Measure each rate three times: Debezium to Kafka alone, the replica, the whole path."""
    found, first = [], 1
    for rate in rates:
        count = int(rate * seconds)
        alone, beside, whole = (range(first + n * count, first + (n + 1) * count) for n in range(3))
        first += 3 * count
        path.control.stop("ingest")
        found.append(rated(path, alone, rate, {"to_kafka": InKafka(alone, path.kafka)}, "debezium to kafka alone"))
        with replica.following(CHANGED, created(CHANGED)) as dsn:
            found.append(rated(path, beside, rate, {"to_queryable": InReplica(beside, dsn)}, "logical replica"))
        path.control.start("ingest")
        caught_up(path, beside.stop - 1)
        found.append(rated(path, whole, rate, {"to_kafka": InKafka(whole, path.kafka), "to_queryable": InClickHouse(whole, path.client)}, "weir"))
    return found


def sustained(path: Ends, changes: int) -> dict[str, Any]:
    """Update rows in transactions of 100 as quick as the source takes them; return the rate up to the last one queryable."""
    load, began = os.getloadavg()[0], time.monotonic()
    with psycopg.connect(path.dsn) as c:
        for start in range(1, changes + 1, 100):
            c.execute(f"UPDATE {SNAPSHOT} SET note = 'sustained' WHERE id >= %s AND id < %s", (start, start + 100))
            c.commit()
    written = time.monotonic() - began
    for low in (max(0, changes - 100), 0):  # the last ones by the key's index, which costs little; then all of them
        while int(path.client.execute(f"SELECT count() FROM captured.{SNAPSHOT} WHERE id > {low} AND id <= {changes} AND note = 'sustained'")) < changes - low:
            if time.monotonic() - began > LIMIT_S:
                raise SystemExit(f"{changes} changes were not queryable in {LIMIT_S:.0f} s")
            time.sleep(0.2)
    seconds = time.monotonic() - began
    return {"changes": changes, "transactions_of": 100, "written_per_s": round(changes / written), "changes_per_s": round(changes / seconds), "load_average_before": round(load, 2)}


def caught_up(path: Ends, last: int) -> None:
    """Wait until what was written without ingest is there too."""
    deadline = time.monotonic() + LIMIT_S
    while not int(path.client.execute(f"SELECT count() FROM captured.{CHANGED} WHERE id = {last}")):
        if time.monotonic() > deadline:
            raise SystemExit("ingest did not come back")
        time.sleep(0.2)
    time.sleep(2)


def past_limits(document: dict[str, Any]) -> list[str]:
    """Return what a document falls short of, each as a sentence; empty: nothing. Pure."""
    rows = document["snapshot"]["rows_per_s"]
    told = [f"{rows} rows/s of a snapshot, and {SNAPSHOT_ROWS_S} is the limit"] if rows < SNAPSHOT_ROWS_S else []
    for part in document["latency"]:
        p99 = part.get("to_queryable", {}).get("p99_ms", 0.0)
        if part["measured"] == "weir" and p99 > P99_MS:
            told.append(f"{p99} ms to queryable for 99 of 100 at {part['asked_per_s']} changes/s, and {P99_MS:.0f} is the limit")
    return told


def measure(env: dict[str, str], given: argparse.Namespace) -> dict[str, Any]:
    """Start the stack, run every part."""
    document: dict[str, Any] = {"benchmark": "cdc", "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "machine": machine()}
    weir("up", env=env)
    path = Ends(env)
    for name in ("watch", *IDLE):
        path.control.stop(name)
    document["snapshot"] = snapshot(path, given.rows)
    print(f"snapshot: {document['snapshot']}", file=sys.stderr, flush=True)
    replica = Replica(Path(env["WEIR_HOME"], "replica"), path.dsn)
    try:
        document["snapshot_of_a_replica"] = replica.copy(SNAPSHOT, created(SNAPSHOT), given.rows, LIMIT_S)
        print(f"replica: {document['snapshot_of_a_replica']}", file=sys.stderr, flush=True)
        path.source(created(CHANGED), f"ALTER TABLE {CHANGED} REPLICA IDENTITY FULL", f"INSERT INTO {CHANGED} (id, customer, amount) VALUES (0, 1, 1)")
        weir("table", "add", f"public.{CHANGED}", env=env)
        document["latency"] = latencies(path, replica, [int(r) for r in given.rates.split(",")], given.seconds)
    finally:
        replica.close()
    document["sustained"] = sustained(path, given.changes)
    print(f"sustained: {document['sustained']}", file=sys.stderr, flush=True)
    return document


def main() -> None:
    """Parse the arguments, measure, print, and leave nothing behind."""
    parser = argparse.ArgumentParser(prog="./weir bench cdc", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the table that is added (default 1,000,000)")
    parser.add_argument("--rates", default="50,500,2000", help="changes a second, separated by commas (default 50,500,2000)")
    parser.add_argument("--seconds", type=float, default=20, help="how long each rate is written (default 20)")
    parser.add_argument("--changes", type=int, default=200_000, help="changes of the sustained run (default 200,000)")
    parser.add_argument("--json", action="store_true", help="kept for likeness: the document is always JSON, on standard output")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the stack is ended too
    with own_stack("bench-cdc", PORT_SHIFT) as env:
        document = measure(env, given)
    tell(document, past_limits(document))


if __name__ == "__main__":
    main()

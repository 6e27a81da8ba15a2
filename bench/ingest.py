"""Events a second from topic to views: Kafka, ClickHouse and the workers on this machine. Run it by `./weir bench ingest`.

In: a topic preloaded by the load generator, in a state folder and on ports of its own. Out: one JSON document; each mode runs over the same records, after
everything it fills was emptied. Measured from the call of the first fetch that brought a record to the acknowledgement of the last batch (an insert is
acknowledged when the table and every view have it). CPU: user and system time of /proc/PID/stat, from before the workers join to the last batch; the merges
that go on after it are counted apart. Counts are verified after each mode; a difference ends the run.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import psutil
from startup import machine
from under_test.stack import Stack, cpu_s, peak_mib, report_on_own_stack
from under_test.worker import work

from weir.contracts import names
from weir.ingest.clickhouse import ClickHouse
from weir.simulation.journal import ID_SUM_SQL

PORT_SHIFT = 200  # from the stack that may be running
LIMIT_S = 300.0
TABLE = names.LANDING_EVENTS
SETTLE_S = 60.0


# -- one mode


@dataclass(frozen=True)
class Mode:
    """`views`: names of the dbt views that are live, or None for all."""

    name: str
    exactly_once: bool = True
    telemetry: bool = True
    views: tuple[str, ...] | None = None


@dataclass(frozen=True)
class View:
    """A materialized view over the landing table and how it is made."""

    name: str
    target: str
    create: str


class Bench:
    """A preloaded stack, on which modes are run."""

    cpu_s, peak_mib = staticmethod(cpu_s), staticmethod(peak_mib)  # of a process; the race counts its children too

    def __init__(self, stack: Stack, journals: Sequence[Any], workers: int) -> None:
        self.stack, self.workers = stack, workers
        self.good, self.bad = sum(j.produced for j in journals), sum(j.bad for j in journals)
        self.repeated = sum(j.repeated for j in journals)
        self.id_sum = sum(j.id_sum for j in journals) % (1 << 64)
        self.records = self.good + self.bad + self.repeated
        self.client = ClickHouse(stack.env["WEIR_CLICKHOUSE_URL"])
        self.views = self._views()

    def ask(self, sql: str) -> list[list[str]]:
        """Return a result's rows."""
        return [line.split("\t") for line in self.client.execute(sql).splitlines()]

    def _views(self) -> list[View]:
        rows = self.ask(f"SELECT database || '.' || name, create_table_query FROM system.tables WHERE engine = 'MaterializedView' "
                        f"AND database != 'landing' AND position(create_table_query, '{TABLE}') + position(create_table_query, '`landing`.`user_events`') > 0 FORMAT TSVRaw")
        text = "\n".join("\t".join(r) for r in rows)
        found = []
        for name in re.findall(r"^(\w+\.\w+)\tCREATE", text, re.MULTILINE):
            create = self.client.execute(f"SHOW CREATE TABLE {name} FORMAT TabSeparatedRaw")
            target = re.search(r"\bTO\s+`?(\w+)`?\.`?(\w+)`?", create)
            if target:
                found.append(View(name, f"{target.group(1)}.{target.group(2)}", create))
        return found

    def _empty(self, live: Sequence[View]) -> None:
        for view in self.views:
            self.client.execute(f"DROP TABLE IF EXISTS {view.name} SYNC")
            self.client.execute(f"TRUNCATE TABLE {view.target} SYNC")
        for table in (TABLE, names.QUARANTINE, names.LEDGER):
            self.client.execute(f"TRUNCATE TABLE {table} SYNC")
        for view in live:
            self.client.execute(view.create)
        self._forget_offsets()

    def _forget_offsets(self) -> None:
        """Delete the consumer group, so that the next run begins at the first record."""
        import tenacity
        from confluent_kafka import KafkaError, KafkaException
        from confluent_kafka.admin import AdminClient


        admin = AdminClient({"bootstrap.servers": self.stack.env["WEIR_KAFKA_BOOTSTRAP"]})  # held: once it is collected its futures never end
        for attempt in tenacity.Retrying(retry=tenacity.retry_if_exception_type(KafkaException), wait=tenacity.wait_fixed(1), stop=tenacity.stop_after_delay(30),
                                         reraise=True):  # the group's coordinator is elected on its first use, and a member takes a moment to leave
            with attempt:
                try:
                    admin.delete_consumer_groups([names.ingest_group(TABLE)])[names.ingest_group(TABLE)].result(30)
                except KafkaException as error:
                    if error.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
                        raise

    def _start(self, mode: Mode, profile: str) -> list[psutil.Popen]:
        arguments = [sys.executable, __file__, "--as-worker", "--profile", profile, *([] if mode.exactly_once else ["--at-least-once"])]
        env = {**self.stack.env, "BENCH_TELEMETRY": str(int(mode.telemetry))}
        made = [psutil.Popen(arguments, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(self.workers)]
        for worker in made:
            if worker.stdout.readline().strip() != "ready":
                raise SystemExit("a worker did not start")
        return made

    def _drain(self, workers: Sequence[psutil.Popen]) -> dict[int, dict[str, Any]]:
        """Let the workers go, and return what each told last, once all records are landed."""
        lines: queue.Queue[tuple[int, dict[str, Any]]] = queue.Queue()

        def read(worker: psutil.Popen) -> None:
            for line in worker.stdout:
                lines.put((worker.pid, json.loads(line)))
            lines.put((worker.pid, {}))

        for worker in workers:
            threading.Thread(target=read, args=(worker,), daemon=True).start()
        for worker in workers:
            worker.stdin.write("go\n")
            worker.stdin.flush()
        told: dict[int, dict[str, Any]] = {}
        deadline = time.monotonic() + LIMIT_S
        while sum(t["rows"] for t in told.values()) < self.records:
            try:
                pid, document = lines.get(timeout=max(0.1, deadline - time.monotonic()))
            except queue.Empty:
                raise SystemExit(f"{LIMIT_S:.0f} s were not enough; the workers said {told}") from None
            if not document:
                raise SystemExit(f"process {pid} ended before all records had landed; they said {told}")
            if document["state"].startswith(("stopped", "rejoining")):
                print(f"worker {pid}: {document['state']}", file=sys.stderr)
            told[pid] = document
        return told

    def run(self, mode: Mode, profile: str = "") -> dict[str, Any]:
        """Run one mode and verify it."""
        live = [v for v in self.views if mode.views is None or v.name in mode.views]
        self._empty(live)
        workers = self._start(mode, profile)
        pids = {**{name: child.pid for name, child in self.stack.children.items()}, **{f"worker-{n}": w.pid for n, w in enumerate(workers)}}
        load, since = os.getloadavg()[0], self.ask("SELECT now64(6)")[0][0]
        before = {name: self.cpu_s(pid) for name, pid in pids.items()}
        try:
            told = self._drain(workers)
            used = {name: round(self.cpu_s(pid) - before[name], 2) for name, pid in pids.items()}
            memory = {name: self.peak_mib(pid) for name, pid in pids.items()}
        finally:
            for worker in workers:
                worker.stdin.close()
            for worker in workers:
                worker.wait(30)
        seconds = max(t["at"] for t in told.values()) - min(t["first"] for t in told.values() if t["first"])
        landed = {"bytes_on_disk": int(self.ask(f"SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND (database, table) IN ({self._tables(live)})")[0][0])}
        merging = self._settle(pids["clickhouse"])
        total = sum(used.values())
        return {
            "mode": mode.name, "views": [v.name for v in live], "workers": self.workers, "events": self.records, "seconds": round(seconds, 3),
            "events_per_s": round(self.records / seconds), "cpu_s": used, "cpu_s_merging_afterwards": merging, "events_per_cpu_s": round(self.records / total),
            "batches": sum(t["batches"] for t in told.values()), "rejoins": sum(t["rejoins"] for t in told.values()), "peak_mib": memory,
            "parts_created": self._parts(since), **landed, "load_average_before": round(load, 2), "verified": self._verify(live, exact=mode.exactly_once),
        }

    def _tables(self, live: Sequence[View]) -> str:
        return ", ".join("('{}', '{}')".format(*name.split(".")) for name in (TABLE, names.QUARANTINE, names.LEDGER, *(v.target for v in live)))

    def _settle(self, pid: int) -> float:
        before, deadline = cpu_s(pid), time.monotonic() + SETTLE_S
        while int(self.ask("SELECT count() FROM system.merges")[0][0]) and time.monotonic() < deadline:
            time.sleep(0.5)
        return round(cpu_s(pid) - before, 2)

    def _parts(self, since: str) -> dict[str, int]:
        self.client.execute("SYSTEM FLUSH LOGS")
        rows = self.ask("SELECT concat(database, '.', table), toString(count()) FROM system.part_log WHERE event_type = 'NewPart' AND rows > 0 "
                        f"AND event_time_microseconds >= '{since}' AND database IN ('landing', 'staging', 'marts') GROUP BY 1 ORDER BY 1")
        return {name: int(count) for name, count in rows}

    def _verify(self, live: Sequence[View], *, exact: bool) -> dict[str, Any]:
        """Compare counts, the ids' sum and each view with what was produced; end the run when they differ."""
        rows, rejected = (int(x) for x in self.ask(f"SELECT count(), countIf(reject_reason != '') FROM {TABLE}")[0])
        ids = int(self.ask(f"SELECT {ID_SUM_SQL} FROM (SELECT DISTINCT event_id FROM {TABLE} WHERE reject_reason = '')")[0][0])
        quarantined = int(self.ask(f"SELECT count() FROM {names.QUARANTINE}")[0][0])
        ledger = int(self.ask(f"SELECT sum(rows) FROM {names.LEDGER}")[0][0])
        wrong = []
        if (rows, rejected, quarantined, ids) != (self.records, self.bad, self.bad, self.id_sum):
            wrong.append(f"landed {rows} of {self.records}, rejected {rejected} and quarantined {quarantined} of {self.bad}, ids {ids} for {self.id_sum}")
        if exact and ledger != self.records:
            wrong.append(f"the ledger counts {ledger} of {self.records}")
        for view in live:
            columns = [r[0] for r in self.ask(f"SELECT name FROM system.columns WHERE concat(database, '.', table) = '{view.target}' ORDER BY position")]
            listed, select = ", ".join(columns), view.create[view.create.index("SELECT", view.create.index(" TO ")):]
            digest = f"count(), sum(cityHash64({', '.join(c for c in columns if c != 'produced_at')}))"  # of a repeat either record's time may stay
            there = self.ask(f"SELECT {digest} FROM {view.target} FINAL")[0]
            owed = self.ask(f"SELECT {digest} FROM (SELECT {listed} FROM ({select}) LIMIT 1 BY {', '.join(c for c in columns if c != 'produced_at')})")[0]
            if there != owed:
                wrong.append(f"{view.target} is {there}, a recompute {owed}")
        if wrong:
            raise SystemExit("not exact: " + "; ".join(wrong))
        return {"landed": rows, "quarantined": quarantined, "views_equal_a_recompute": [v.target for v in live]}


def modes(views: Sequence[View], repeats: int, only: str) -> list[Mode]:
    """Return the modes in order; the whole comes before and after each other one, so that a pair met the same machine."""
    others = [Mode("exactly-once off", exactly_once=False), Mode("telemetry off", telemetry=False), Mode("views off", views=()),
              *(Mode(f"only {v.name}", views=(v.name,)) for v in views)]
    order = [Mode("all"), *(m for other in others for m in (other, Mode("all")))] * repeats
    if not only:
        return order
    wanted = [name.strip() for name in only.split(",")]
    known = {m.name: m for m in order}
    return [m for _ in range(repeats) for m in (known[name] for name in wanted)]


def pairs(results: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, float]]]:
    """Return each mode's speed and CPU over the mean of the whole runs beside it."""
    found: dict[str, list[dict[str, float]]] = {}
    for before, this, after in zip(results, results[1:], results[2:], strict=False):
        if before["mode"] == after["mode"] == "all" != this["mode"]:
            ratio = {key: round(this[key] / ((before[key] + after[key]) / 2), 3) for key in ("events_per_s", "events_per_cpu_s")}
            found.setdefault(this["mode"], []).append(ratio)
    return found


def preload(stack: Stack, shape: Any, seed: int) -> tuple[list[Any], dict[str, Any]]:
    """Start the services, build the views, fill the topic; return the journals and what is to be told of it."""
    from weir.simulation.journal import Journal
    from weir.transform import build

    stack.up()
    build.build(stack.env, ["--select", "int_user_events", "int_item_events"])
    began = time.monotonic()
    asked = ("--events", str(shape.events), "--bad", str(shape.bad), "--seed", str(seed))
    done = json.loads(subprocess.run([sys.executable, "-m", "weir.cli", "load", "--json", *asked], env=stack.env, capture_output=True, text=True, check=True).stdout)
    log = sum(f.stat().st_size for f in (stack.home / "kafka" / "data").glob(f"{names.TOPIC_USER_EVENTS}-*/*.log"))
    return [Journal(**j) for j in done["journals"]], {"shape": asdict(shape), "records": done["records"], "records_per_s": done["records_per_s"],
                                                      "seconds": round(time.monotonic() - began, 1), "bytes_in_kafka": log}


def measure(stack: Stack, given: argparse.Namespace) -> dict[str, Any]:
    """Preload, build the views, run the modes."""
    from weir.simulation import load

    document: dict[str, Any] = {"benchmark": "ingest", "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "machine": machine()}
    journals, document["preload"] = preload(stack, load.Shape(events=given.events), given.seed)
    bench = Bench(stack, journals, given.workers)
    document["views"] = {v.name: v.target for v in bench.views}
    document["results"] = []
    for mode in modes(bench.views, given.repeats, given.only):
        result = bench.run(mode, given.profile)
        document["results"].append(result)
        print(f"{mode.name:<32} {result['events_per_s']:>9,} events/s {result['events_per_cpu_s']:>9,} a CPU-second  cpu {result['cpu_s']}", file=sys.stderr)
    document["pairs"] = pairs(document["results"])
    return document


def main() -> None:
    """Parse the arguments, measure, print, and leave nothing behind."""
    parser = argparse.ArgumentParser(prog="./weir bench ingest", description=__doc__)
    parser.add_argument("--events", type=int, default=3_000_000, help="records to preload (default 3,000,000)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes (default 2)")
    parser.add_argument("--repeats", type=int, default=1, help="how often the order of modes is run (default 1)")
    parser.add_argument("--only", default="", help="run these modes in this order, separated by commas: all,views off,all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--profile", default="", help="write each worker's cProfile data to this path and its pid")
    parser.add_argument("--json", action="store_true", help="kept for likeness: the document is always JSON, on standard output")
    parser.add_argument("--as-worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--at-least-once", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.as_worker:
        work(given.profile, exactly_once=not given.at_least_once)
        return
    report_on_own_stack("bench-ingest", PORT_SHIFT, lambda stack: measure(stack, given))


if __name__ == "__main__":
    main()

"""Weir's worker beside what one would write instead, on the same topic, tables and views, in one run. Run it by `./weir bench race`.

In: a preloaded topic, as in `bench/ingest.py`, but without bad records (the peers have no quarantine). Out: one JSON document. Each participant runs twice, with the
views and without, so that "of everything but the views" is measured: own processes, broker and engine of the run without views. Weir runs first and last. After each
run counts, ids, every column of the event and each view are compared; a peer that fails or differs is told as failed, and the command exits 1. Measuring is `ingest`'s, with a process's children counted too.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ingest
import psutil
from peers import environment, floor, plain, quix, spark
from startup import machine, own_home

from weir.connect import java
from weir.contracts import names
from weir.errors import UnknownName, WeirError

PORT_SHIFT = 400  # from the stack that may be running; 200 is `ingest`'s
BENCH = Path(__file__).resolve().parent
PEERS = ("plain", "floor", "quix", "spark")
PROCESSES = 2  # of each that is one process a core; Spark is one JVM with two cores
WEIR = "weir"
AT_LEAST_ONCE = "at least once; no validation, no quarantine: a bad record ends it"
GUARANTEES = {WEIR: "exactly once in table and views; each record validated, a bad one quarantined", "floor": "none: no Kafka, no offsets"}
EVENT = "event_id, user_id, item_id, event_type, ifNull(rating, -1), session_id, country, occurred_at, schema_version"


@dataclass(frozen=True)
class Entry(ingest.Mode):
    """One participant in one form. `command` returns a process's arguments, given which run and which process it is; None is Weir's worker."""

    peer: str = WEIR
    form: str = ""
    settings: Any = None
    processes: int = PROCESSES
    command: Callable[[str, int], list[str]] | None = None

    @property
    def guarantee(self) -> str:
        """Return what it promises."""
        return GUARANTEES.get(self.peer, AT_LEAST_ONCE)


# -- who takes part


def wanted(text: str) -> list[str]:
    """Return the peers named in `text`, separated by commas. Pure.

    Raises:
        UnknownName: one is none; the message names the nearest.
    """
    found = [name.strip() for name in text.split(",") if name.strip()]
    for name in found:
        if name not in PEERS:
            raise UnknownName.of("peer", name, PEERS)
    return [name for name in PEERS if name in found]


def _module(name: str) -> list[str]:
    return ["-m", f"peers.{name}"]


def entries(peers: Sequence[str], home: Path, python: Path | None, jars: Sequence[Path]) -> list[Entry]:
    """Return the participants, Weir's worker first and last. Pure.

    Args:
        peers: which.
        home: where the floor's files and Spark's checkpoints are.
        python: the peers' interpreter, for Quix Streams and Spark.
        jars: Spark's Kafka package.
    """
    found = [Entry(WEIR, settings="ingest's own, telemetry on")]
    if "plain" in peers:
        found += [Entry(f"plain-{form}", exactly_once=False, peer="plain", form=text, settings=plain.SETTINGS,
                        command=lambda run, n, form=form: [sys.executable, *_module("plain"), form, f"race-{run}", str(n), str(PROCESSES)]) for form, text in plain.FORMS.items()]
    if "floor" in peers:
        found.append(Entry("floor", exactly_once=False, peer="floor", form=floor.FORM, settings=floor.SETTINGS,
                           command=lambda _run, n: [sys.executable, *_module("floor"), str(home / "floor"), str(n), str(PROCESSES)]))
    if "quix" in peers:
        found += [Entry(f"quix-{form}", exactly_once=False, peer="quix", form=text, settings=quix.SETTINGS,
                        command=lambda run, _n, form=form: [str(python), *_module("quix"), form, f"race-{run}"]) for form, text in quix.FORMS.items()]
    if "spark" in peers:
        found += [Entry(f"spark-{form}", exactly_once=False, peer="spark", form=text, settings=spark.SETTINGS, processes=1,
                        command=lambda run, _n, form=form: [str(python), *_module("spark"), form, str(home / f"checkpoint-{run}"), ",".join(map(str, jars))])
                  for form, text in spark.FORMS.items()]
    return [*found, found[0]]


# -- one run


def _family(pid: int) -> list[int]:
    root = psutil.Process(pid)
    return [root.pid, *(child.pid for child in root.children(recursive=True))]


def family_cpu_s(pid: int) -> float:
    """Return user and system seconds of a process, its children and those of them that ended (/proc/PID/stat fields 14 to 17)."""
    total = 0
    for one in _family(pid):
        try:
            total += sum(int(x) for x in Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()[11:15])
        except (OSError, ValueError):
            continue
    return total / os.sysconf("SC_CLK_TCK")


def family_peak_mib(pid: int) -> int:
    """Return the sum of the highest resident memories of a process and its children, in MiB: an upper bound."""
    total = 0
    for one in _family(pid):
        try:
            total += ingest.peak_mib(one)
        except OSError:
            continue
    return total


class Race(ingest.Bench):
    """A preloaded stack, on which participants run."""

    cpu_s, peak_mib = staticmethod(family_cpu_s), staticmethod(family_peak_mib)

    def __init__(self, stack: ingest.Stack, journals: Sequence[Any]) -> None:
        super().__init__(stack, journals, PROCESSES)
        self.number = 0
        self.content: list[str] = []
        self.running: list[psutil.Popen] = []
        for statement in plain.BYTES_DDL:
            self.client.execute(statement)

    def _start(self, mode: ingest.Mode, profile: str) -> list[psutil.Popen]:
        if not isinstance(mode, Entry) or mode.command is None:
            return super()._start(mode, profile)
        self.number += 1
        java_home = environment.java_home(self.stack.home / "java", java.binary())
        env = {**self.stack.env, "PYTHONPATH": str(BENCH), "JAVA_HOME": str(java_home), "PYSPARK_PYTHON": mode.command("", 0)[0], "SPARK_LOCAL_IP": "127.0.0.1"}
        log = self.stack.home / f"{mode.name}-{self.number}.log"
        with log.open("w") as said:
            self.running = [psutil.Popen(mode.command(f"{mode.name}-{self.number}", n), env=env, stdin=-1, stdout=-1, stderr=said, text=True, cwd=self.stack.home)
                    for n in range(mode.processes)]
        for process in self.running:
            if process.stdout.readline().strip() != "ready":
                raise SystemExit(f"{mode.name} did not start: {last_line(log.read_text())}")
        return self.running

    def attempt(self, entry: Entry, *, with_views: bool) -> dict[str, Any]:
        """Run one participant once; return its result, or why a peer has none.

        Raises:
            SystemExit: Weir itself failed.
        """
        try:
            return self.run_entry(entry, with_views=with_views)
        except (SystemExit, psutil.TimeoutExpired, BrokenPipeError, ValueError) as error:
            if entry.peer == WEIR:
                raise
            log = self.stack.home / f"{entry.name}-{self.number}.log"
            if log.exists():
                print(log.read_text()[-4000:], file=sys.stderr)
            return {"mode": entry.name, "views": [v.name for v in self.views] if with_views else [], "failed": str(error)}
        finally:
            self._end()

    def _end(self) -> None:
        """Kill what a participant left running."""
        for process in self.running:
            if process.is_running():
                for one in [*process.children(recursive=True), process]:
                    one.kill()
                process.wait(10)
        self.running = []

    def run_entry(self, entry: Entry, *, with_views: bool) -> dict[str, Any]:
        """Run one participant once and verify it."""
        self.workers = entry.processes
        mode = Entry(entry.name, entry.exactly_once, entry.telemetry, None if with_views else (), entry.peer, entry.form, entry.settings, entry.processes, entry.command)
        result = self.run(mode)
        result["events_per_cpu_s_by_process"] = {name: round(self.records / used) for name, used in result["cpu_s"].items() if used > 0}
        result["verified"]["every_column_as_the_first"] = self._same()
        return result

    def _same(self) -> bool:
        """Compare the digest of the events' columns with the first participant's.

        Raises:
            SystemExit: they differ.
        """
        self.content.append(self.client.execute(f"SELECT count(), sum(cityHash64({EVENT})) FROM {ingest.TABLE}").strip())
        if self.content[-1] != self.content[0]:
            raise SystemExit(f"rows differ: {self.content[-1]} instead of {self.content[0]}")
        return True

    def dump(self, folder: Path) -> None:
        """Write the topic's values as the floor's files: BATCH_ROWS lines each."""
        from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

        folder.mkdir()
        consumer = Consumer({"bootstrap.servers": self.stack.env["WEIR_KAFKA_BOOTSTRAP"], "group.id": "race-dump", "enable.auto.commit": False})
        count = names.PARTITIONS[names.TOPIC_USER_EVENTS]
        consumer.assign([TopicPartition(names.TOPIC_USER_EVENTS, n, OFFSET_BEGINNING) for n in range(count)])
        lines: list[bytes] = []
        number = done = 0
        while done < self.records:
            found = [m.value() for m in consumer.consume(50_000, 1.0) if m.error() is None]
            lines, done = lines + found, done + len(found)
            while len(lines) >= plain.BATCH_ROWS or (lines and done == self.records):
                (folder / f"{number:04}.json").write_bytes(b"\n".join(lines[: plain.BATCH_ROWS]) + b"\n")
                lines, number = lines[plain.BATCH_ROWS :], number + 1
        consumer.close()


def last_line(text: str) -> str:
    """Return the last line that says something. Pure."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it said nothing")[:300]


# -- what came out


def told(result: dict[str, Any]) -> str:
    """Return a run's result as a line's rest. Pure."""
    if "failed" in result:
        return f"failed: {result['failed']}"
    return f"{result['events_per_s']:>9,} events/s {result['events_per_cpu_s']:>9,} a CPU-second  cpu {result['cpu_s']}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def row(events: int, whole: Sequence[dict[str, Any]], bare: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return one participant's line, the mean of its runs. CPU in microseconds an event. Pure.

    Args:
        events: records a run.
        whole: its runs with views.
        bare: its runs without.
    """

    def micros(runs: Sequence[dict[str, Any]], chosen: Callable[[str], bool]) -> float:
        return round(_mean([sum(used for name, used in r["cpu_s"].items() if chosen(name)) for r in runs]) / events * 1e6, 2)

    def is_own(name: str) -> bool:
        return name.startswith("worker")

    return {
        "events_per_s": round(_mean([r["events_per_s"] for r in whole])), "events_per_s_without_views": round(_mean([r["events_per_s"] for r in bare])),
        "events_per_cpu_s": round(_mean([r["events_per_cpu_s"] for r in whole])), "events_per_cpu_s_of_all_but_the_views": round(_mean([r["events_per_cpu_s"] for r in bare])),
        "cpu_us_an_event": {
            "own_processes": micros(bare, is_own), "engine_without_views": micros(bare, lambda n: n == "clickhouse"), "engine_with_views": micros(whole, lambda n: n == "clickhouse"),
            "broker_and_rest": micros(bare, lambda n: n != "clickhouse" and not is_own(n)),
        },
    }


def summary(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a line for each participant, and how many times Weir is ahead of it (below 1: behind). Pure.

    A participant that failed once has no line but its failure.
    """
    failed = {r["mode"]: r["failed"] for r in results if "failed" in r}
    lines = []
    for name in dict.fromkeys(r["mode"] for r in results if r["mode"] not in failed):
        whole, bare = ([r for r in results if r["mode"] == name and bool(r["views"]) is live] for live in (True, False))
        lines.append({"participant": name, **row(results[0]["events"], whole, bare)})
    ours = next(line for line in lines if line["participant"] == WEIR)
    for line in lines:
        line["weir_is_ahead"] = {key: round(ours[key] / line[key], 2) for key in ("events_per_s", "events_per_cpu_s", "events_per_cpu_s_of_all_but_the_views")}
    return [*lines, *({"participant": name, "failed": why} for name, why in failed.items())]


def measure(stack: ingest.Stack, given: argparse.Namespace, peers: Sequence[str], python: Path | None, jars: Sequence[Path]) -> dict[str, Any]:
    """Preload, then run everyone."""
    from weir.simulation import load

    document: dict[str, Any] = {"benchmark": "race", "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "machine": machine()}
    print(f"preloading {given.events:,} events …", file=sys.stderr, flush=True)
    journals, document["preload"] = ingest.preload(stack, load.Shape(events=given.events, bad=0.0), given.seed)
    race = Race(stack, journals)
    document["views"] = {v.name: v.target for v in race.views}
    if "floor" in peers:
        race.dump(stack.home / "floor")
    order = entries(peers, stack.home, python, jars)
    document["participants"] = {e.name: {"guarantee": e.guarantee, "form": e.form, "processes": e.processes, "settings": e.settings} for e in order}
    document["results"] = []
    for number, entry in enumerate(order, 1):
        for with_views in (True, False):
            result = race.attempt(entry, with_views=with_views)
            document["results"].append(result)
            print(f"{number}/{len(order)} {entry.name:<12} {'with' if with_views else 'without':<7} views {told(result)}", file=sys.stderr, flush=True)
    document["summary"] = summary(document["results"])
    return document


def prepare(peers: Sequence[str]) -> tuple[Path | None, list[Path]]:
    """Return the peers' interpreter and Spark's jars, installed now if need be."""
    home = Path(os.environ["WEIR_HOME"])
    python = environment.python(home) if {"quix", "spark"} & set(peers) else None
    return python, environment.jars(home) if "spark" in peers else []


def main() -> None:
    """Parse the arguments, race, print, and leave nothing behind."""
    parser = argparse.ArgumentParser(prog="./weir bench race", description=__doc__)
    parser.add_argument("--peers", default=",".join(PEERS), help=f"who races Weir, separated by commas (default {','.join(PEERS)})")
    parser.add_argument("--events", type=int, default=2_000_000, help="records to preload (default 2,000,000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="kept for likeness: the document is always JSON, on standard output")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the services are ended too; a SystemExit would be taken for a peer's failure
    try:
        peers = wanted(given.peers)
        python, jars = prepare(peers)
    except WeirError as error:
        raise SystemExit(str(error)) from error
    home, env = own_home("bench-race", PORT_SHIFT)
    stack = ingest.Stack(home, env)
    try:
        document = measure(stack, given, peers, python, jars)
    except WeirError as error:
        raise SystemExit(str(error)) from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    finally:
        stack.down()
        shutil.rmtree(home, ignore_errors=True)
    print(json.dumps(document, indent=2))
    if any("failed" in r for r in document["results"]):
        raise SystemExit(1)


if __name__ == "__main__":
    main()

"""The worker: one lane a landing table, each in its thread with its own group membership.

In: `ingest/routes.yaml`, endpoints. Out: running lanes. Keep: a fenced lane drops everything and comes back as a new member; a lane that met a
contract violation, or what nobody foresaw, stops loudly while the others go on: it tries again each `RETRY_S`, and says that it runs only when it does.
"""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import yaml

from weir.contracts import captured, names
from weir.contracts.captured import Captured
from weir.contracts.clickhouse import literal
from weir.errors import Fenced, Terminal, WeirError
from weir.ingest import guard, points, pressure
from weir.ingest import parts as told_parts
from weir.ingest.beside import Beside
from weir.ingest.clickhouse import ClickHouse
from weir.ingest.decode import Decoder
from weir.ingest.gate import Gate
from weir.ingest.intent import Intent
from weir.ingest.kafka_log import SESSION_MS, SESSION_VARIABLE, KafkaLog
from weir.ingest.lane import RUNNING, SLOWED, Entry, Lane, Limits, Partition, Sink, Stats
from weir.ingest.pressure import Pace, Parts
from weir.ingest.record import Record
from weir.ingest.rejoin import Bounded, Rejoin
from weir.ingest.traced import Traced
from weir.telemetry import Telemetry

ROUTES = Path(__file__).resolve().parents[3] / "ingest" / "routes.yaml"
FETCH_S = 0.05
REJOIN_S = 0.5
RETRY_S = 10.0
SERVED_S = 60.0  # a lane that reads nothing, since its batch has to wait, serves the group's callbacks as often: a fifth of max.poll.interval.ms
PROVEN_S = 30.0  # a lane that stopped and finds nothing to land runs again after this long without a fault

log = logging.getLogger("weir.ingest")


def routes() -> dict[str, tuple[str, list[str]]]:
    """Return landing table to (decoder, topics)."""
    found: dict[str, tuple[str, list[str]]] = {}
    for topic, route in yaml.safe_load(ROUTES.read_text()).items():
        decoder, topics = found.setdefault(route["table"], (route["decoder"], []))
        if decoder != route["decoder"]:
            raise Terminal(f"{route['table']} has two decoders in ingest/routes.yaml", hint="one table, one decoder")
        topics.append(topic)
    return found


def calm_collector() -> None:
    """Collect garbage seldom: a batch is many thousand small objects without cycles, and each pass over them finds nothing."""
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


def place(error: Exception) -> str:
    """Return an unforeseen error's type and the line of ours that it came from; not its text, which may quote a record."""
    ours = [f for f in traceback.extract_tb(error.__traceback__) if "/src/weir/" in f.filename]
    return f"{type(error).__name__}{f' at {Path(ours[-1].filename).name}:{ours[-1].lineno}' if ours else ''}"


class Member(Bounded, Protocol):
    """A lane's log, and its life in the group; `KafkaLog` says what each does. `trouble`: why nothing comes, empty while all is well."""

    trouble: str

    def join(self, on_assign: Callable[[Iterable[Partition]], dict[Partition, int]], on_revoke: Callable[[], None]) -> None:
        """Enter the group."""

    def fetch(self, limit: int, timeout_s: float) -> Sequence[Record]:
        """Read, and serve the callbacks."""

    def hold(self, partition: Partition) -> None:
        """Read nothing more of a partition."""

    def release(self, partition: Partition, offset: int) -> None:
        """Read it again."""

    def stay(self) -> None:
        """Serve the callbacks without reading."""

    def close(self) -> None:
        """Leave the group."""


class Store(Sink, Protocol):
    """A sink that can be closed."""

    def close(self) -> None:
        """Close the connection."""


class Ended(Protocol):
    """Whether to end, as `threading.Event` tells it."""

    def is_set(self) -> bool:
        """Return whether to end."""

    def wait(self, timeout: float) -> bool:
        """Wait for the end, at most so long."""

    def set(self) -> None:
        """Say that it is time."""


@dataclass(frozen=True, slots=True)
class Edges:
    """All that a worker touches outside itself, so that the simulation can give it another world."""

    log: Callable[[str, list[str]], Member]  # group, topics
    store: Callable[[], Store]
    check: Callable[[Store, str], None]  # landing table; raises when the server does not hold what the claim rests on
    register: Callable[[], dict[str, Captured]] | None = None  # the captured tables by topic; None: no gate
    rejoined: Callable[[str, Member, Store], Callable[[Mapping[Partition, Entry]], Mapping[Partition, Entry]]] = lambda _table, _log, _store: dict
    parts: Callable[[str], Sequence[Parts]] = lambda _table: ()  # of the tables behind a landing table, as ClickHouse said last; does not wait
    held: Callable[[Record, str], None] = lambda _record, _why: None  # a table's record was left in Kafka
    ended: Ended = field(default_factory=threading.Event)
    reach: Callable[[str], None] = lambda _point: None
    wait: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    limits: Limits = field(default_factory=Limits)


def real(bootstrap: str, clickhouse_url: str) -> Edges:
    """Return Kafka and ClickHouse by their addresses, and this machine's clock."""

    def store() -> ClickHouse:
        return ClickHouse(clickhouse_url)

    def check(_store: Store, table: str) -> None:
        client = ClickHouse(clickhouse_url)
        try:
            guard.check(client, [table, names.QUARANTINE, names.LEDGER])
        finally:
            client.close()

    def register() -> dict[str, Captured]:
        client = ClickHouse(clickhouse_url)
        try:
            return {e.topic: e for e in captured.standing(client.execute(captured.SELECT).split("\n")).values()}
        finally:
            client.close()

    def held(record: Record, why: str) -> None:
        client = ClickHouse(clickhouse_url)
        try:
            client.execute(f"INSERT INTO {captured.HOLDS} (topic, partition, offset, at, why)"
                           f" SELECT {literal(record.topic)}, {record.partition}, {record.offset}, now64(6, 'UTC'), {literal(why)}")
        finally:
            client.close()

    watches: dict[str, Beside[tuple[Parts, ...]]] = {}

    def parts(table: str) -> Sequence[Parts]:
        watch = watches.get(table) or watches.setdefault(table, told_parts.watch(clickhouse_url, [table, names.QUARANTINE, names.LEDGER]))
        return watch.latest()

    return Edges(lambda name, topics: KafkaLog(bootstrap, name, topics, int(os.environ.get(SESSION_VARIABLE) or SESSION_MS)), store, check, register, rejoined=Rejoin, parts=parts,
                 held=held, reach=points.reaching(os.environ))


class LaneThread(threading.Thread):
    """Runs one lane until `ended` is set."""

    def __init__(self, table: str, decoder: Decoder, topics: list[str], edges: Edges, telemetry: Telemetry) -> None:
        super().__init__(name=table, daemon=True)
        self.table, self._decoder, self._topics = table, decoder, topics
        self.topics = topics  # the captured tables' too, once it has joined
        self._edges, self._telemetry = edges, telemetry
        self.stats = Stats()
        self._gate: Gate | None = None
        self._traced = Traced(table, telemetry)
        self.ended = edges.ended
        self._unproven = False  # it stopped, and has not shown since that it runs
        self.turned_s = self._served_s = edges.clock()
        self._pace = pressure.UNHURRIED

    def run(self) -> None:
        """Join, work, and join again after being fenced."""
        while not self.ended.is_set():
            try:
                self._membership()
            except Terminal as error:
                if isinstance(error, Fenced):
                    self._rejoin(error)
                else:
                    self._halt(f"stopped: {error}")
            except WeirError as error:
                self._rejoin(error)
            except Exception as error:  # noqa: BLE001 - whatever it is: this lane stands still and says so, the others go on
                log.error("%s: unforeseen\n%s", self.table, "".join(traceback.format_tb(error.__traceback__)))  # noqa: TRY400 - without the text, see place()
                self._halt(f"failing: {place(error)}")

    def _halt(self, state: str) -> None:
        self._unproven = True
        self._turn(state)
        log.error("%s %s", self.table, state)
        self.ended.wait(RETRY_S)

    def _rejoin(self, error: Exception) -> None:
        self.stats.rejoins += 1
        if not self._unproven:
            self._turn(f"rejoining: {str(error)[:120]}")
        log.warning("%s rejoins: %s", self.table, error)
        self._telemetry.count("weir.ingest.rejoins", 1, {"table": self.table})
        self.ended.wait(REJOIN_S)

    def _turn(self, state: str) -> None:
        self.turned_s = self._edges.clock()
        self.stats.become(state, self.turned_s)

    def _look(self, trouble: str, lane: Lane, joined_s: float, done: int) -> None:
        """Say what the lane does after one turn. `done`: batches and replays when it joined, at `joined_s`."""
        stats, self.turned_s = self.stats, self._edges.clock()
        if trouble:
            stats.become(f"waiting: Kafka: {trouble[:120]}", self.turned_s)
        elif lane.member and (not self._unproven or stats.batches + stats.replays > done or self.turned_s - joined_s > PROVEN_S):
            self._unproven = False
            stats.become(f"{SLOWED}{lane.pace.why}" if lane.pace.why else RUNNING, self.turned_s)
        if lane.pace.apart_s != self._pace.apart_s:
            self._paced(lane.pace)

    def _paced(self, pace: Pace) -> None:
        before, self._pace = self._pace, pace
        self._telemetry.gauge("weir.ingest.apart_s", pace.apart_s, {"table": self.table})
        if bool(pace.why) != bool(before.why):
            log.warning("%s %s", self.table, f"slowed: {pace.why}" if pace.why else "is slowed no more")

    def _fetch(self, kafka: Member, lane: Lane) -> Sequence[Record]:
        """Read what has come; nothing while a whole batch waits for ClickHouse, so that no more is held than a batch and what one read brings."""
        edges = self._edges
        if not lane.waits:
            self._served_s = edges.clock()
            return kafka.fetch(lane.limits.rows, FETCH_S)
        if edges.clock() - self._served_s > SERVED_S:
            kafka.stay()
            self._served_s = edges.clock()
        else:
            edges.wait(FETCH_S)
        return []

    def _membership(self) -> None:
        edges = self._edges
        sink = edges.store()
        register = edges.register if self.table == names.LANDING_CDC else None
        topics = self.topics = sorted({*self._topics, *(register() if register else ())})
        kafka = edges.log(names.ingest_group(self.table), topics)
        gate = self._gate = Gate(kafka, register, self._holds, edges.clock) if register else None
        lane = Lane(self.table, self._decode, kafka, sink, limits=edges.limits, stats=self.stats, reach=edges.reach, wait=edges.wait,
                    clock=edges.clock, between_tries=kafka.stay, told=self._told, replayed=self._replayed, rejoined=edges.rejoined(self.table, kafka, sink),
                    parts=lambda: edges.parts(self.table))
        try:
            edges.check(sink, self.table)
            def assigned(partitions: Iterable[Partition]) -> dict[Partition, int]:
                if gate is not None:
                    gate.forget()
                return lane.assigned(partitions)

            kafka.join(assigned, lane.revoked)
            joined_s, done = edges.clock(), self.stats.batches + self.stats.replays
            while not self.ended.is_set() and (gate is None or gate.topics <= set(topics)):
                records = self._fetch(kafka, lane)
                lane.take(gate.admit(records) if gate else records)
                self._look(kafka.trouble, lane, joined_s, done)
            lane.finish()
        finally:
            kafka.close()
            sink.close()

    def _holds(self, record: Record, why: str) -> None:
        log.warning("%s/%d is held from %d on: %s", record.topic, record.partition, record.offset, why)
        self._edges.held(record, why)

    def _decode(self, records: Sequence[Record], batch: str) -> Any:
        self._traced.decoded(records)
        return self._decoder(records, batch)

    def _told(self, intent: Intent, rejected: int, seconds: float) -> None:
        rows = sum(r.count for r in intent.ranges)
        labels = {"table": self.table}
        self._traced.landed(intent, seconds)
        self._telemetry.count("weir.ingest.rows", rows, labels)
        if rejected:
            self._telemetry.count("weir.ingest.rejected", rejected, labels)
            log.warning("%s: %d of %d records of batch %s are in the quarantine", self.table, rejected, rows, intent.token)
        self._telemetry.record("weir.ingest.insert_s", seconds, labels)
        self._telemetry.gauge("weir.ingest.age_ms", self.stats.last_age_ms, labels)

    def _replayed(self, intent: Intent, seconds: float) -> None:
        """Tell of a batch that was landed for an earlier membership, which may have counted it: its rows are not counted again."""
        self._traced.landed(intent, seconds, replay=True)

    def document(self) -> dict[str, Any]:
        """Return the lane's state for /health."""
        s, gate = self.stats, self._gate
        held = {f"{topic}/{p}": h.why for (topic, p), h in dict(gate.held).items()} if gate else {}
        return {"held": held, "table": self.table, "state": s.state, "batches": s.batches, "rows": s.rows, "rejected": s.rejected, "replays": s.replays,
                "rejoins": s.rejoins, "last_batch_at_ms": int(s.last_batch_at_s * 1000), "last_age_ms": round(s.last_age_ms)}

"""One seed: workers, a topic, faults; then the faults end, everything comes back, and every table is held to the producer's journal.

In: a seed, or a script of faults. Out: `Outcome`, with every difference by name. Keep: the journal is what the producer wrote, never what a table holds.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, cast

import pyarrow as pa

from weir.contracts import names
from weir.ingest.batch import DAY_MS, Batch
from weir.ingest.decode import Decoder
from weir.ingest.lane import Entry, Limits, Partition
from weir.ingest.record import Record
from weir.ingest.simulation.clickhouse import Engine, Store
from weir.ingest.simulation.kafka import Broker, Group, Member
from weir.ingest.simulation.world import RESTART_S, Faults, Killed, Process, Script, World
from weir.ingest.worker import Edges, LaneThread

TOPIC: Final = names.TOPIC_USER_EVENTS
FAULTS_END_S: Final = 40.0
LIMIT_S: Final = 3600.0  # of virtual time: what is not done by then is stuck
LIMITS: Final = Limits(rows=6, age_s=0.3, insert_s=20.0)  # an insert is given up well before a rebalance's time is over, as the real limits have it
BAD_SHARE: Final = 0.15
BEFORE_MIDNIGHT: Final = 8  # records of each partition
_TEXT, _PARTITION, _OFFSET = pa.string(), pa.uint16(), pa.uint64()
THIN: Final = pa.schema([("topic", _TEXT), ("partition", _PARTITION), ("offset", _OFFSET), ("batch", _TEXT), ("reject_reason", _TEXT)])
GOOD, BAD = (b"a", b"b"), b"bad"  # few values, so that batches with equal content but other offsets do occur


@dataclass(frozen=True, slots=True)
class Wrong:
    """What a mutant does otherwise than the protocol."""

    engine: Mapping[str, Any] = field(default_factory=dict)
    ignores_refusals: bool = False
    rewrites: Callable[[Mapping[Partition, Entry]], dict[Partition, Entry]] = dict
    token_of: Callable[[str, str], str] = lambda token, _query_id: token


RIGHT: Final = Wrong()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run found. No faults: the claim held."""

    seed: int
    faults: tuple[str, ...]
    passed: Counter[str]


class Quiet:
    """Telemetry that tells nobody."""

    def count(self, *_: object) -> None:
        """Tell nobody."""

    gauge = record = count

    @contextmanager
    def span(self, *_: object, **__: object) -> Iterator[None]:
        """Open nothing."""
        yield


class _Ended:
    """The end of one process, in virtual time."""

    def __init__(self, process: Process) -> None:
        self._process, self._set = process, False

    def is_set(self) -> bool:
        """Return whether to end."""
        return self._set

    def wait(self, timeout: float) -> bool:
        """Wait."""
        self._process.step("rejoin")
        self._process.sleep(timeout)
        return self._set

    def set(self) -> None:
        """Say that it is time."""
        self._set = True


def thin(records: Sequence[Record], batch: str) -> pa.Table:
    """Decode to the columns that the protocol is about: a record's place, its batch, and whether it was refused. Few, since a batch of six costs by the column."""
    of = Batch.of(records)
    return pa.Table.from_arrays([
        pa.array(of.topics, _TEXT), pa.array(of.partition, _PARTITION), pa.array(of.offset, _OFFSET), pa.array([batch] * len(of), _TEXT),
        pa.array(["malformed" if value == BAD else "" for value in of.values], _TEXT),
    ], schema=THIN)


def journal(rng: random.Random) -> dict[Partition, list[Record]]:
    """Return records of one to three partitions, with gaps in the offsets, over midnight, some bad."""
    made: dict[Partition, list[Record]] = {}
    for partition in range(rng.randint(1, 3)):
        offset, records = 0, []
        for number in range(rng.randint(5, 20)):
            offset += rng.choice((1, 1, 1, 3)) if number else 0
            value = BAD if rng.random() < BAD_SHARE else rng.choice(GOOD)
            records.append(Record(TOPIC, partition, offset, DAY_MS * 20_000 - (number < BEFORE_MIDNIGHT), None, value, ""))
        made[TOPIC, partition] = records
    return made


@dataclass
class Run:
    """One run under construction. `go` gives the outcome."""

    seed: int
    world: World
    stored: dict[Partition, list[Record]]
    wrong: Wrong = RIGHT
    decoder: Decoder = thin
    workers: int = 2
    second_after_s: float | None = None
    lanes: list[LaneThread] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make broker and engine. What is produced while workers run appears bit by bit."""
        hidden, self.stored_now = self.stored, {p: list[Record]() for p in self.stored}
        for partition, records in hidden.items():
            for _ in records:
                at_s = self.world.rng.choice((0.0, self.world.rng.uniform(0, FAULTS_END_S / 2)))
                self.world.later(at_s, lambda p=partition: self._produce(p))  # type: ignore[misc]  # (dyn) a default argument binds now
        self.group = Group(self.world, sorted(self.stored))
        self.broker = Broker(self.world, self.stored_now, self.group)
        self.engine = Engine(self.world, **self.wrong.engine)

    def _produce(self, partition: Partition) -> None:
        now = self.stored_now[partition]
        now.append(self.stored[partition][len(now)])

    def _start(self, name: str, after_s: float) -> None:
        process = Process(self.world, name)

        def member(_group: str, _topics: list[str]) -> Member:
            return Member(self.broker, process, ignores_refusals=self.wrong.ignores_refusals, rewrites=self.wrong.rewrites)

        edges = Edges(member, lambda: Store(self.engine, process, self.wrong.token_of), lambda _store, _table: None, ended=_Ended(process),
                      reach=process.step, wait=process.sleep, clock=lambda: self.world.now_s, limits=LIMITS, parts=lambda _table: self.engine.parts())
        lane = LaneThread(names.LANDING_EVENTS, self.decoder, [TOPIC], edges, cast("Any", Quiet()))

        def live() -> None:
            self.lanes.append(lane)
            try:
                lane.run()
            except Killed:
                self.lanes.remove(lane)
                self._start(name, self.world.rng.uniform(*RESTART_S))

        self.world.spawn(live, after_s)

    def _begins(self, number: int) -> float:
        if number == 1 and self.second_after_s is not None:
            return self.second_after_s
        return self.world.rng.uniform(0, 15) if number else 0.0

    def _heal(self) -> None:
        self.world.healing = True

    def _done(self) -> bool:
        if not self.world.healing:
            return False
        return all(self.group.offsets.get(p, (-1, "")) == (records[-1].offset + 1, "") for p, records in self.stored.items())

    def go(self) -> Outcome:
        """Run to the end."""
        for number in range(self.workers):
            self._start(f"worker {number}", self._begins(number))
        self.world.later(FAULTS_END_S, self._heal)
        arrived = self.world.run(self._done, LIMIT_S)
        faults = [] if arrived else [f"stuck: committed {self.group.offsets}, states {[lane.stats.state for lane in self.lanes]}"]
        for lane in self.lanes:
            lane.ended.set()
        self.world.run(lambda: False, max(LIMIT_S, self.world.now_s) + 600)  # late requests arrive now, at the latest
        return Outcome(self.seed, (*faults, *self._differences()), self.world.passed)

    def _differences(self) -> Iterator[str]:
        rows = [(r.partition, r.offset, "malformed" if r.value == BAD else "") for records in self.stored.values() for r in records]
        for target in self.engine.targets:
            wanted = Counter((p, o) for p, o, reason in rows if target.takes((p, o, reason)))
            doubled, missing = sorted(target.rows - wanted), sorted(wanted - target.rows)
            if doubled:
                yield f"{target.name}: doubled (partition, offset) {doubled}"
            if missing:
                yield f"{target.name}: missing (partition, offset) {missing}"


def simulate(seed: int, wrong: Wrong = RIGHT) -> Outcome:
    """Run one seed: number of workers, records and faults are the seed's. Every third has a time of too many parts, in which lanes are slowed."""
    rng = random.Random(seed)  # noqa: S311 - repeatable on purpose
    world = World(rng, Faults(rng, rng.choice((0.0, 0.02, 0.05, 0.1, 0.2))))
    run = Run(seed, world, journal(rng), wrong, workers=rng.randint(1, 3))
    if seed % 3 == 1:
        begins_s = rng.uniform(0, FAULTS_END_S / 2)
        run.engine.crowded_s = (begins_s, begins_s + rng.uniform(1, FAULTS_END_S))
    return run.go()


def scripted(written: Mapping[str, Mapping[int, str]], stored: dict[Partition, list[Record]], *, decoder: Decoder = thin, workers: int = 2,
             second_after_s: float | None = None) -> tuple[Outcome, Run]:
    """Run with exactly these faults: step to (which pass, fault)."""
    run = Run(0, World(random.Random(0), Script(written)), stored, decoder=decoder, workers=workers, second_after_s=second_after_s)  # noqa: S311 - repeatable on purpose
    return run.go(), run


def silence() -> None:
    """Keep the worker's warnings out: they are what a simulation makes all the time."""
    logging.getLogger("weir.ingest").setLevel(logging.CRITICAL + 1)

"""One landing table's loop: form a batch, declare it, insert it, go on. The protocol of docs/decisions/0001, without network in it.

In: a `Log` (Kafka) and a `Sink` (ClickHouse). Out: inserted batches, commits. Keep, for every partition: offsets below the committed one are applied
once; offsets in the declared intent zero or one time, all or nothing; offsets after it, never.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow.compute as pc

from weir.errors import ContractViolation, Fenced, Transient
from weir.ingest import pressure
from weir.ingest.batch import Batch
from weir.ingest.decode import Decoder, arrow_stream
from weir.ingest.intent import Intent, Range, decode, of
from weir.ingest.pressure import Pace, Parts
from weir.ingest.record import Record

Partition = tuple[str, int]
Entry = tuple[int, str]  # committed offset, metadata
RUNNING = "running"
SLOWED = "slowed: "  # it lands what comes, less often than it could: see weir.ingest.pressure


class Log(Protocol):
    """The topics of one lane, as one member of its group."""

    def commit(self, entries: Mapping[Partition, Entry]) -> None:
        """Commit offsets and metadata in one request; raises Fenced when it was refused or its answer did not come."""

    def committed(self, partitions: Iterable[Partition]) -> dict[Partition, Entry]:
        """Return what stands committed; a partition without a commit has its lowest offset and no metadata."""

    def read(self, ranges: Sequence[Range]) -> list[Record]:
        """Read exactly these ranges, whoever owns them; raises ContractViolation when they are gone."""


class Sink(Protocol):
    """The landing table."""

    def insert(self, table: str, columns: list[str], arrow_stream: bytes, token: str, query_id: str) -> None:
        """Insert one block under a token; raises Transient or Terminal."""

    def execute(self, sql: str, **parameters: str | int) -> str:
        """Run a statement."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When a batch is due. Rows keep it one block (limit 1,048,449) and the replay short; age is the freshness that the worker costs.

    200,000 rows at once cost the engine a fifth to a half less CPU an event than 50,000 (fewer parts to merge); only a backlog makes batches so large.
    """

    rows: int = 200_000
    size_bytes: int = 64 << 20
    age_s: float = 0.12
    insert_s: float = 240.0  # below max.poll.interval.ms (300 s): then somebody else has the partitions


@dataclass
class Stats:
    """What the lane did, for health and telemetry."""

    batches: int = 0
    rows: int = 0
    rejected: int = 0
    replays: int = 0
    rejoins: int = 0
    last_batch_at_s: float = 0.0
    last_age_ms: float = 0.0  # of the oldest record of the last batch, when it was landed
    state: str = "starting"  # running; slowed, with why, which is well; waiting, rejoining, failing or stopped, with why; see weir.ingest.health
    left_running_s: float = -math.inf  # by the lane's clock

    def become(self, state: str, now_s: float) -> None:
        """Take on a state."""
        if lands(self.state) and not lands(state):
            self.left_running_s = now_s
        self.state = state


def lands(state: str) -> bool:
    """Return whether a lane in this state lands what comes. Pure."""
    return state == RUNNING or state.startswith(SLOWED)


def cut(buffer: Sequence[Record], rows: int) -> Batch:
    """Return the first records that make a batch: at most `rows`, all of one day of Kafka's timestamp (one ClickHouse partition)."""
    found = Batch.of(buffer).first(rows)
    return found.first(found.day())


def landed_rows(table: str, intent: Intent) -> tuple[str, dict[str, str]]:
    """Return the statement that counts a batch's rows, and its parameters but `batch`. By its ranges, so that the primary key finds them."""
    topics = {topic: f"t{n}" for n, topic in enumerate(dict.fromkeys(r.topic for r in intent.ranges))}
    ranges = " OR ".join(
        f"(topic = {{{topics[r.topic]}:String}} AND partition = {r.partition:d} AND offset BETWEEN {r.first:d} AND {r.last:d})" for r in intent.ranges
    )
    sql = f"SELECT count() FROM {table} WHERE ({ranges}) AND batch = {{batch:String}}"
    return sql, {name: topic for topic, name in topics.items()}


@dataclass
class Lane:
    """The loop's state. `reach(point)` is called at every named point, so that a test or an experiment can end the process there."""

    table: str
    decoder: Decoder
    log: Log
    sink: Sink
    limits: Limits = field(default_factory=Limits)
    stats: Stats = field(default_factory=Stats)
    reach: Callable[[str], None] = lambda _point: None
    wait: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    between_tries: Callable[[], None] = lambda: None  # keeps the group membership alive; raises Fenced when it is over
    told: Callable[[Intent, int, float], None] = lambda _intent, _rejected, _seconds: None
    replayed: Callable[[Intent, float], None] = lambda _intent, _seconds: None
    rejoined: Callable[[Mapping[Partition, Entry]], Mapping[Partition, Entry]] = dict  # after a restore: see weir.ingest.rejoin
    parts: Callable[[], Sequence[Parts]] = tuple  # what ClickHouse said last of the tables behind the inserts; does not wait
    pace: Pace = pressure.UNHURRIED
    _position: dict[Partition, int] = field(default_factory=dict)
    _applied: Intent | None = None
    _buffer: Batch = field(default_factory=lambda: Batch([]))
    _since: float = -math.inf  # the oldest record of the buffer came after this
    _looked: float = -math.inf  # when the last look at Kafka ended
    _inserted_s: float = -math.inf  # when the last insert ended, and how long it took
    _insert_s: float = 0.0
    _epoch: int = 0  # how often partitions came or went: a batch that began in one is not finished in another

    # -- assignment

    def assigned(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Take over partitions: replay what their commits declare, and return where to read on."""
        self._epoch += 1
        found = self.rejoined(self.log.committed(partitions))
        self._forget()
        by_token: dict[str, tuple[Intent, list[Partition]]] = {}
        for partition, (offset, metadata) in found.items():
            self._position[partition] = offset
            intent = decode(metadata)
            if intent is not None:
                by_token.setdefault(intent.token, (intent, []))[1].append(partition)
        for intent, mine in by_token.values():
            self._replay(intent, mine)
        return dict(self._position)

    @property
    def member(self) -> bool:
        """Whether the group has given this lane its share, which may be nothing."""
        return self._epoch > 0

    def revoked(self) -> None:
        """Give partitions back: finish the last batch while the generation still holds, drop what was only read."""
        self._epoch += 1
        try:
            self.finish()
        finally:
            self._forget()

    def _forget(self) -> None:
        self._position, self._applied, self._buffer = {}, None, Batch([])

    def _replay(self, intent: Intent, mine: Sequence[Partition]) -> None:
        self.reach("before_replay")
        records = Batch.of(self.log.read(intent.ranges)).ordered()
        if of(records) != intent:
            raise ContractViolation(
                f"the records of the open batch {intent.token} in {self.table} have changed since it was declared",
                hint="was the topic made anew? ./weir verify events and docs/decisions/0001, 'records that are gone', say how to go on", token=intent.token,
            )
        table = self.decoder(records, intent.token)
        began = self.clock()
        self._insert(intent, table, "replay")
        insert_s = self.clock() - began
        sql, topics = landed_rows(self.table, intent)
        landed = int(self.sink.execute(sql, batch=intent.token, **topics))
        if landed != len(records):
            raise ContractViolation(
                f"{self.table} holds {landed} of the {len(records)} rows of batch {intent.token} after its replay: its token outlived its part",
                hint="ClickHouse lost an acknowledged part; docs/decisions/0001, 'after an unclean stop', says how to go on", token=intent.token,
            )
        self.reach("after_replay")
        ends = {(r.topic, r.partition): r.last + 1 for r in intent.ranges}
        for partition in mine:
            self._position[partition] = ends[partition]
        self.log.commit({p: (self._position[p], "") for p in mine})
        self.stats.replays += 1
        self.replayed(intent, insert_s)

    # -- the loop

    def take(self, records: Sequence[Record]) -> None:
        """Add what was read, and process a batch when one is due."""
        looked, self._looked = self._looked, self.clock()
        if records and not self._buffer:
            self._since = looked  # the oldest may have waited since then, for as long as the last batch took
        self._buffer += records
        since_s = self._looked - self._inserted_s
        self.pace = pressure.judge(self.parts(), self._insert_s if since_s < pressure.RECENT_S else 0.0, self.pace)
        due = self._full or self.clock() - self._since >= self.limits.age_s
        if self._buffer and due and since_s >= self.pace.apart_s:
            self._process()
        elif not self._buffer:
            self.finish()

    @property
    def _full(self) -> bool:
        return len(self._buffer) >= self.limits.rows or self._buffer.size >= self.limits.size_bytes

    @property
    def waits(self) -> bool:
        """Whether it holds a whole batch back, for ClickHouse's sake: nothing more is to be read."""
        return self._full and self._looked - self._inserted_s < self.pace.apart_s

    def _process(self) -> None:
        batch = cut(self._buffer, self.limits.rows)
        self._buffer = self._buffer[len(batch):]
        batch = batch.ordered()
        intent = of(batch)
        table = self.decoder(batch, intent.token)
        self.reach("before_declare")
        entries = self._ends()
        text = intent.encode()
        for r in intent.ranges:
            entries[r.topic, r.partition] = (self._position[r.topic, r.partition], text)
        self.log.commit(entries)  # finishes the last batch and declares this one
        self.reach("after_declare")
        began = self.clock()
        self._insert(intent, table, "insert")
        self._inserted_s = self.clock()
        self._insert_s = self._inserted_s - began
        self.reach("after_insert")
        for r in intent.ranges:
            self._position[r.topic, r.partition] = r.last + 1
        self._applied = intent
        self._count(intent, batch, table, self._insert_s)

    def _count(self, intent: Intent, batch: Batch, table: object, seconds: float) -> None:
        column = table.column("reject_reason")  # type: ignore[attr-defined]  # (dyn) pyarrow has no types
        rejected = int(pc.sum(pc.not_equal(column, "")).as_py() or 0)
        self.stats.batches += 1
        self.stats.rows += len(batch)
        self.stats.rejected += rejected
        self.stats.last_batch_at_s = time.time()
        self.stats.last_age_ms = max(0.0, time.time() * 1000 - float(batch.timestamp_ms.min()))
        self.told(intent, rejected, seconds)

    def _insert(self, intent: Intent, table: object, why: str) -> None:
        body = arrow_stream(table)
        columns = list(table.column_names)  # type: ignore[attr-defined]  # (dyn) pyarrow has no types
        deadline, pause, attempt, epoch = self.clock() + self.limits.insert_s, 0.05, 0, self._epoch
        while True:
            attempt += 1
            try:
                self.sink.insert(self.table, columns, body, intent.token, f"ingest-{intent.token}-{why}-{attempt}")
            except Transient as error:
                if self.clock() > deadline:
                    raise Fenced(f"batch {intent.token} was not acknowledged in {self.limits.insert_s:.0f} s", hint="the group gives it to a new member") from error
                self.stats.become(f"waiting: {error.message[:120]}", self.clock())
                self.wait(pause)
                pause = min(2.0, pause * 2)
                self.between_tries()
                if self._epoch != epoch:  # whoever has the partitions now replays the intent; going on would commit over its progress
                    raise Fenced(f"partitions changed hands while batch {intent.token} was being repeated") from error
            else:
                return

    def finish(self) -> None:
        """Commit the end of the last batch, with nothing declared."""
        entries = self._ends()
        if entries:
            self.log.commit(entries)
            self.reach("after_finish")

    def _ends(self) -> dict[Partition, Entry]:
        """Return the entries that end the last batch, once: a commit without an answer is never followed by another of this membership.

        It may have been kept; a second one would then take the intent from some partitions of its batch and leave it on the others.
        """
        applied, self._applied = self._applied, None
        return {(r.topic, r.partition): (self._position[r.topic, r.partition], "") for r in applied.ranges} if applied else {}

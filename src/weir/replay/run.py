"""A replay: the range decoded again beside, verified against Kafka, the rest of its days copied, the tables behind built of what changed, and all of it put in the live ones' place at once.

In: Kafka, ClickHouse, what is asked for. Out: a `Replayed`. Keep: the landing table is exchanged last, so a replay that was killed in the exchange is found undone and is done by the next one,
from the beginning; what fails before leaves the live tables serving; nothing stays beside. One replay or deploy of a home at a time: the caller holds its lock.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from weir.contracts import names
from weir.errors import ContractViolation, NotBegun, Terminal, Transient, WeirError
from weir.ingest.clickhouse import ClickHouse
from weir.ingest.verify.views import DAY_MS
from weir.replay import behind, beside, owed
from weir.replay.behind import Behind
from weir.replay.beside import SETTINGS, Beside, create, shadow_of
from weir.replay.books import Books, Held
from weir.replay.changed import Changed
from weir.replay.decoded import Decoded, Partition
from weir.replay.plan import LIVE, Plan, Planner
from weir.replay.ranges import Pair, from_on, within
from weir.transform import proof, shadow
from weir.transform.warehouse import Warehouse

SHORT_S: Final = 1.0  # a catch-up that takes no longer leaves little for the hold
ROUNDS: Final = 20
EXCHANGES: Final = 5  # tries, each of which waits 45 s for writes to end: an hour's work is not given up for one slow insert
PAUSE_S: Final = 1.0  # in which other writes go on
MOST_STATEMENTS: Final = 100  # that the gateway runs together
THROWN: Final = "395"  # FUNCTION_THROW_IF_VALUE_IS_NON_ZERO
AGAIN: Final = "run it again; the live tables serve on"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a step is: records or rows done, of about how many; `eta_s`: of the step, 0 while unknown."""

    step: str
    done: int
    total: int
    rate: float
    eta_s: float


@dataclass(frozen=True, slots=True)
class Replayed:
    """How it went. `changed`: by partition and how; `tables`: what was exchanged, with how many ClickHouse partitions; `recomputed`: rows verified outside ClickHouse by table, -1: no recompute is known."""

    partitions: Mapping[int, Partition]
    changed: Mapping[int, Mapping[str, int]]
    tables: Mapping[str, int]
    recomputed: Mapping[str, int]
    copied: int
    held_ms: float
    seconds: float

    @property
    def changes(self) -> int:
        """Return how many records landed otherwise than they did."""
        return sum(n for kinds in self.changed.values() for n in kinds.values())

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        parts = {str(p): {**at.document(), "changed": dict(self.changed.get(p, {}))} for p, at in self.partitions.items()}
        return {"topic": names.TOPIC_USER_EVENTS, "records": sum(p.records for p in self.partitions.values()), "changed": self.changes, "partitions": parts, "exchanged": dict(self.tables),
                "recomputed": {t: n if n >= 0 else None for t, n in self.recomputed.items()}, "copied": self.copied, "held_ms": self.held_ms, "seconds": round(self.seconds, 2)}


@dataclass
class Replay:
    """One replay. `scratch`: a folder for digests, emptied at the end; `handled`: take in what an operator has replayed or discarded from the quarantine."""

    planner: Planner
    client: ClickHouse
    scratch: Path
    report: Callable[[Progress], None] = lambda _progress: None
    handled: bool = False
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    _step: tuple[str, int, float] = ("", 0, 0.0)
    _done: int = 0

    @property
    def warehouse(self) -> Warehouse:
        """Return the server."""
        return self.planner.warehouse

    @property
    def topic(self) -> str:
        """Return the topic."""
        return self.planner.topic

    def run(self) -> Replayed:
        """Replay.

        Raises:
            WeirError: it was not, or not wholly: the live tables serve, and the same command does it again.
        """
        began, plan = time.monotonic(), self.planner.plan()
        beside.sweep(self.warehouse)
        self.scratch.mkdir(parents=True, exist_ok=True)
        try:
            with tempfile.TemporaryDirectory(prefix="replay-", dir=self.scratch) as folder:
                return self._replayed(plan, Path(folder), began)
        finally:
            with contextlib.suppress(WeirError):  # what is left then goes at the next replay or deploy
                beside.sweep(self.warehouse)

    def _replayed(self, plan: Plan, folder: Path, began: float) -> Replayed:
        records = sum(s.after - s.first for s in plan.spans.values())
        decoded = Decoded(self.planner.reader, self.client, create(self.warehouse, LIVE), plan.spans, self.planner.horizon_ms, self.run_id, self._tell, self.topic)
        self._begin("decoding", records)
        decoded.write()
        self._begin("verifying against Kafka", records)
        decoded.verify()
        fed = behind.fed(self.warehouse)
        mine = within(self.topic, plan.spans, self.planner.horizon_ms)
        changed = Changed.note(self.warehouse, self.topic, plan.spans, self.planner.horizon_ms)
        if not changed.count:
            return Replayed(decoded.partitions, {}, {}, {}, 0, 0.0, time.monotonic() - began)
        changed.refuse_others()
        if not self.handled:
            changed.refuse_handled()
        landing, copied = self._landing(mine, changed)
        recomputed: dict[str, int] = {}

        def held(table: str, source: tuple[str, str], theirs: tuple[str, int]) -> None:
            recomputed[table] = owed.held(self.client, self.topic, table, shadow_of(table), source, theirs, folder, self.planner.span_ms)

        books = Books(self.warehouse, self.topic, landing, mine).build(held)
        tables = [b for t in fed.values() if (b := self._behind(t, mine, changed, held))]
        if behind.feeds(behind.fed(self.warehouse).values()) != behind.feeds(fed.values()):
            raise ContractViolation("a table behind the landing table, or a view of one, has changed meanwhile", hint=AGAIN)
        held_ms = self._exchange([*books, landing], tables)
        told = {t.table.table: len(t.ids) for t in tables} | {t.table: len(t.ids) for t in (*books, landing)}
        return Replayed(decoded.partitions, changed.by_partition(), told, recomputed, copied, held_ms, time.monotonic() - began)

    # -- how far it is

    def _begin(self, step: str, total: int) -> None:
        self._step, self._done = (step, total, time.monotonic()), 0
        self._tell(0)

    def _tell(self, done: int) -> None:
        step, total, began = self._step
        self._done += done
        rate = self._done / max(1e-3, time.monotonic() - began)
        self.report(Progress(step, self._done, total, rate, max(0, total - self._done) / rate if rate else 0.0))

    # -- what is built beside

    def _committed(self) -> dict[Pair, int]:
        return {(self.topic, p): b.committed for p, b in self.planner.bounds().items()}

    def _landed(self, floor: Mapping[Pair, int]) -> dict[Pair, int]:
        return beside.landed(self.warehouse, self.topic, {p: at for (_, p), at in floor.items()})

    def _landing(self, mine: str, changed: Changed) -> tuple[Beside, int]:
        """Copy the rows of the touched days that are not in the range beside it."""
        found = Beside(LIVE, "offset", f"NOT {mine}", changed.ids())
        found.gone, found.made = beside.count(self.warehouse, LIVE, f"{found.here} AND {mine}"), beside.count(self.warehouse, found.beside, found.here)
        found.marks = self._landed(self._committed())
        below = f"NOT {from_on(found.marks)}"
        rows = {int(p): int(n) for p, n in self.warehouse.query(f"SELECT partition, count() FROM {LIVE} WHERE {found.here} AND {found.outside} AND {below} GROUP BY partition")}
        self._begin("copying the rest of its days", sum(rows.values()))
        for partition, count in sorted(rows.items()):
            self.warehouse.run(f"{found.copying(f'{below} AND partition = {partition}')} {SETTINGS}")
            self._tell(count)
        return found, found.prove(self.warehouse)

    def _behind(self, table: shadow.Keyed, mine: str, changed: Changed, held: Held) -> Behind | None:
        """Build a table behind beside, up to now; None: the changed records owe it what they did."""
        found = Behind(self.warehouse, table, self.planner.horizon_ms + DAY_MS)
        if not found.reach(changed.old, changed.new):
            return None
        self._begin(f"building {table.table}", changed.count)
        committed = self._committed()
        found.clone()
        found.build(f"(SELECT * FROM {LIVE} WHERE NOT {from_on(committed)} AND (NOT {mine} OR (partition, offset) NOT IN (SELECT partition, offset FROM {changed.table})))")
        found.prove()
        held(table.table, (changed.new, "1"), (f"{found.key} IN (SELECT {found.key} FROM {found.new})", beside.count(self.warehouse, found.new)))
        proof.settle(self.warehouse)
        found.join(committed, self._landed(committed))
        self._tell(changed.count)
        return found

    # -- in the live ones' place

    def _exchange(self, rows: Sequence[Beside], tables: Sequence[Behind]) -> float:
        """Catch up and exchange, again where writes that ran left no moment for it. Return for how long others were held (ms)."""
        tries = 0
        while True:
            self._catch_up(rows, tables)
            try:
                return self._exchanged(rows, tables)
            except NotBegun as error:
                tries += 1
                if tries == EXCHANGES:
                    raise Transient(f"nothing was exchanged, {EXCHANGES} times: {error.message}", hint=AGAIN) from error
            time.sleep(PAUSE_S)

    def _catch_up(self, rows: Sequence[Beside], tables: Sequence[Behind]) -> None:
        """Bring what landed meanwhile until little is left."""
        landing = rows[-1]
        for _ in range(ROUNDS):
            began = time.monotonic()
            landed = self._landed(landing.marks)
            for book in rows:
                self.warehouse.run(book.caught_up(landed if book is landing else beside.ends(self.warehouse, book.table, book.column, book.ids)))
            for table in tables:
                self.warehouse.run(table.caught_up(landed))
            if time.monotonic() - began < SHORT_S:
                break

    def _exchanged(self, rows: Sequence[Beside], tables: Sequence[Behind]) -> float:
        """Bring the last rows and exchange, the landing table at the end, while nothing else writes. Return for how long that was (ms)."""
        statements = [s for book in rows for s in book.last()] + [s for t in tables for s in t.last()]
        statements += [s for t in tables for s in t.exchange()] + [s for book in rows for s in beside.replace(book.table, book.beside, book.ids)]
        if len(statements) > MOST_STATEMENTS:
            raise ContractViolation(f"the range touches too many days and months: {len(statements)} statements for one exchange", hint="replay a part of it at a time")
        try:
            return float(self.warehouse.together(statements) or 0.0)
        except NotBegun:
            raise
        except Terminal as error:
            if error.facts.get("code") == THROWN:
                raise ContractViolation("rows came where none were expected, so nothing was exchanged", hint=AGAIN) from error
            raise Terminal(f"the exchange was not done, or not wholly: {error.message}", hint="run it again: it begins anew and does what is left") from error
        except Transient as error:
            raise Transient(f"the exchange was not done, or not wholly: {error.message}", hint="run it again: it begins anew and does what is left") from error

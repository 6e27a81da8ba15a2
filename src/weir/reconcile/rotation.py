"""Continuous reconciliation: slice after slice of each table, then of each mart and feature view on it, and round again, at a bounded cost.

In: endpoints, the tables, a budget. Out: evidence like that of a cycle, a row a table, mart and view for each time round. Keep: after each step it rests until all that
was spent on it is within the budget; what could not be checked is written as unknown, but for the time in which a stack that starts is still being loaded.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from weir.contracts import cdc
from weir.contracts.endpoints import Endpoints
from weir.errors import NotYet, WeirError
from weir.reconcile import online
from weir.reconcile.cycle import MartWork, On, ViewWork, Work, checked, keep_cycle, unlooked, whole
from weir.reconcile.history import HistoryCycle
from weir.reconcile.meter import Meter
from weir.reconcile.outcome import Answer, Outcome
from weir.reconcile.plan import Between
from weir.reconcile.progress import Progress
from weir.reconcile.repair import Repairer
from weir.reconcile.sink import Sink
from weir.reconcile.source import Source
from weir.reconcile.table import TableCycle

ROWS_A_SLICE: Final = 50_000  # about 0.3 s of PostgreSQL and 0.1 s of ClickHouse
SHARE: Final = 0.015  # of one core; two percent is what it may take, and Kafka's and Connect's part of a step is not measured here
LEAST_S: Final = 2.0  # between steps
REBUILD_S: Final = 600.0  # a mart that differs once it is built anew differs from its recompute by its model
GRACE_S: Final = 300.0  # what could not be checked is not yet told: tables are made and filled

log = logging.getLogger("weir.reconcile")


def rest_s(spent_s: float, took_s: float, share: float) -> float:
    """Return how long to rest after a step that cost `spent_s` of a core in `took_s`, so that it is at most `share` of both. Pure."""
    return max(LEAST_S, spent_s / share - took_s)


@dataclass
class Parts:
    """What is open between steps."""

    endpoints: Endpoints
    meter: Meter = field(default_factory=Meter)

    def __post_init__(self) -> None:
        self.sink = Sink(self.endpoints.clickhouse_url, self.meter, threads=1)
        try:
            self.source, self.progress = Source(self.endpoints.postgres_dsn, self.meter), Progress(self.endpoints.kafka_bootstrap)
        except BaseException:
            self.sink.close()
            raise

    def close(self) -> None:
        """Close it."""
        self.progress.close()
        self.sink.close()


class Rotation:
    """Goes round. `tables(sink)`: what to look at; `rebuild`: has dbt make a mart anew. Clock is an argument."""

    def __init__(
        self, endpoints: Endpoints, tables: Callable[[Sink], Sequence[cdc.CdcTable]], rebuild: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._endpoints, self._tables, self._rebuild, self._clock = endpoints, tables, rebuild, clock
        self._began_s = clock()
        self._prepared = False
        self._told: set[str] = set()
        self._rebuilt_s: dict[str, float] = {}

    def turn(self) -> Generator[float, None, None]:
        """Go round once; yields after each step what it has cost, in seconds of one core.

        Raises:
            WeirError: ClickHouse or Kafka could not be reached at all.
        """
        parts = Parts(self._endpoints)
        try:
            before = 0.0
            if not self._prepared:
                parts.sink.prepare()
                self._prepared, before = True, parts.meter.total_s  # what a start costs, above all imports, is paid once and not rested for
            for table in self._tables(parts.sink):
                for _ in self._table(parts, table):
                    yield parts.meter.total_s - before
                    before = parts.meter.total_s
        finally:
            parts.close()

    def _table(self, parts: Parts, table: cdc.CdcTable) -> Iterator[None]:
        cycle, made, views = uuid.uuid4().hex, Outcome("table", table.name), online.views_of(table.name)
        spent = parts.meter.total_s
        try:
            run = whole(table, self._endpoints, parts.source, parts.sink, parts.progress)
            for one in self._slices(parts, run):
                made.add(self._slice(parts, one, cycle))
                yield
            made.cost_s = parts.meter.total_s - spent
            self._tell(parts, cycle, made)
            if isinstance(run, HistoryCycle):  # nothing stands on a history
                return
            run.lsn = made.verified_lsn
            on = On(self._endpoints, parts.sink, run, made, cycle, self._anew)
        except WeirError as error:
            self._unknown(parts, cycle, [made, *unlooked(table, views)], error)
            yield
            return
        for view in views:
            yield from self._work(parts, MartWork(on, view), cycle)
            yield from self._work(parts, ViewWork(on, view), cycle)

    def _slices(self, parts: Parts, run: TableCycle | HistoryCycle) -> Iterator[TableCycle | HistoryCycle]:
        if isinstance(run, HistoryCycle):  # its rows have no order that both sides know
            yield run
            return
        low: int | None = None
        while True:
            high = run.comparer.bound(low, ROWS_A_SLICE)
            between: Between = (low, high)
            yield TableCycle(run.comparer.within(between), parts.sink, Repairer(self._endpoints.kafka_bootstrap, parts.source))
            if high is None:
                return
            low = high

    @staticmethod
    def _slice(parts: Parts, run: TableCycle | HistoryCycle, cycle: str) -> Outcome:
        began = time.monotonic()
        made = checked(run, parts.sink, cycle, repair=True, landing=run.plan.between[1] is None)
        made.seconds = round(time.monotonic() - began, 3)
        return made

    def _work(self, parts: Parts, work: Work, cycle: str) -> Iterator[None]:
        spent, began = parts.meter.total_s, time.monotonic()
        try:
            for _ in work.slices():
                seconds = work.made.seconds + time.monotonic() - began
                yield
                work.made.seconds, began = seconds, time.monotonic()
            work.made.seconds = round(work.made.seconds, 3)
            work.made.cost_s = parts.meter.total_s - spent
            self._tell(parts, cycle, work.made)
        except WeirError as error:
            self._unknown(parts, cycle, [work.made], error)
            yield
        finally:
            work.close()

    def _anew(self, mart: str) -> None:
        """Have a mart made anew, unless that was done a short time ago and did not help."""
        if self._clock() - self._rebuilt_s.get(mart, -REBUILD_S) >= REBUILD_S:
            self._rebuilt_s[mart] = self._clock()
            self._rebuild(mart)

    def _tell(self, parts: Parts, cycle: str, made: Outcome) -> None:
        self._told.add(made.name)
        if made.found:
            log.warning("%s: %d keys differed, %d of them repaired: %s", made.name, made.found, made.repaired, made.reason or made.outcome)
        keep_cycle(parts.sink, cycle, [made])

    def _unknown(self, parts: Parts, cycle: str, made: Sequence[Outcome], error: WeirError) -> None:
        log.info("%s: not this time: %s", made[0].name, error)
        if isinstance(error, NotYet) or (made[0].name not in self._told and self._clock() - self._began_s < GRACE_S):
            return
        for outcome in made:
            outcome.outcome, outcome.verified_lsn, outcome.reason = Answer.UNKNOWN, 0, outcome.reason or str(error)
        keep_cycle(parts.sink, cycle, made)

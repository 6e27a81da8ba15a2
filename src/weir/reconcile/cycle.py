"""A cycle over tables and the views on them: compare, repair, keep the evidence.

In: endpoints. Out: outcomes, rows of ops.reconcile_cycles and ops.reconcile_findings. Keep: what fails on one table is that table's *unknown*,
and the others go on; evidence of a finding is kept before its repair's.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from weir.contracts import cdc, names
from weir.contracts.captured import HistoryTable
from weir.contracts.endpoints import Endpoints
from weir.contracts.features import FeatureViewContract
from weir.errors import SettingsError, WeirError
from weir.reconcile import marts, online, sink
from weir.reconcile.history import HistoryCycle
from weir.reconcile.outcome import Answer, Outcome
from weir.reconcile.plan import Difference
from weir.reconcile.progress import Progress
from weir.reconcile.repair import Repairer
from weir.reconcile.source import Source
from weir.reconcile.table import Comparer, TableCycle

EVERY_S: Final = 30.0  # between cycles; a cycle waits for one heartbeat (2 s) and reads each table once
FINDINGS_KEPT: Final = 1_000  # a cycle and table

log = logging.getLogger("weir.reconcile")


def chosen(table: str, added: Iterable[cdc.CdcTable] = ()) -> list[cdc.CdcTable]:
    """Return the tables to look at: one by its name or its source's (public.users), or all for the empty name. `added`: those of the register besides the contract's.

    Raises:
        SettingsError: there is no such table.
    """
    known = dict(cdc.CDC_TABLES) | {t.name: t for t in added}
    table = next((t.name for t in known.values() if t.source == table), table)
    if table and table not in known:
        raise SettingsError(f"no captured table {table!r}", hint=f"there are {', '.join(known)}")
    return [known[table]] if table else list(known.values())


class Reconciler:
    """Runs cycles. Not shared between threads. `rebuild`: has dbt make a mart anew, by its name; `report`: is given a line about each check as it ends."""

    def __init__(self, endpoints: Endpoints, rebuild: Callable[[str], None], report: Callable[[str], None] = lambda _line: None) -> None:
        self._endpoints, self._rebuild, self._report, self._prepared = endpoints, rebuild, report, False
        self._source = Source(endpoints.postgres_dsn)

    def run(self, tables: Sequence[cdc.CdcTable], *, repair: bool = False) -> list[Outcome]:
        """Run one cycle; never raises for a part that is away."""
        told = Told(self._report, sum(1 + 2 * len(online.views_of(table.name)) for table in tables))
        return [outcome for table in tables for outcome in self._one(table, told, repair=repair)]

    def _one(self, table: cdc.CdcTable, told: Told, *, repair: bool) -> list[Outcome]:
        cycle, began = uuid.uuid4().hex, time.monotonic()
        made = Outcome("table", table.name)
        views = online.views_of(table.name)
        to, progress = None, None
        try:
            to = sink.Sink(self._endpoints.clickhouse_url)
            if not self._prepared:
                to.prepare()
                self._prepared = True
            progress = Progress(self._endpoints.kafka_bootstrap)
            run = whole(table, self._endpoints, self._source, to, progress)
            made = checked(run, to, cycle, repair=repair)
            made.seconds = round(time.monotonic() - began, 3)
            told.of(made)
            found = []
            if isinstance(run, TableCycle):  # nothing stands on a history
                on = On(self._endpoints, to, run, made, cycle, self._rebuild if repair else None)
                found = [*(told.of(self._whole(MartWork(on, v))) for v in views), *(told.of(self._whole(ViewWork(on, v))) for v in views)]
        except WeirError as error:
            made.outcome, made.reason, made.verified_lsn, made.seconds = Answer.UNKNOWN, str(error), 0, round(time.monotonic() - began, 3)
            found = unlooked(table, views)
            for left in (made, *found):
                told.of(left)
        if progress is not None:
            progress.close()
        if to is not None:
            keep_cycle(to, cycle, [made, *found])
            to.close()
        return [made, *found]

    @staticmethod
    def _whole(work: Work) -> Outcome:
        """Check every slice of a mart or view."""
        began, made = time.monotonic(), work.made
        try:
            for _ in work.slices():
                pass
        except WeirError as error:
            made.outcome, made.reason, made.verified_lsn = Answer.UNKNOWN, str(error), 0
        finally:
            work.close()
        made.seconds = round(time.monotonic() - began, 3)
        return made


class Told:
    """Tells of a cycle's checks: how many of `total` are done, how fast the last one went, and about how long the others will take if they take as long."""

    def __init__(self, report: Callable[[str], None], total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._report, self._total, self._clock = report, total, clock
        self._began_s, self._done = clock(), set[tuple[str, str]]()

    def of(self, made: Outcome) -> Outcome:
        """Tell of one that ended, and return it; one that was told of and could not be ended after all counts once."""
        self._done.add((made.kind, made.name))
        done = len(self._done)
        to_go = (self._clock() - self._began_s) / done * (self._total - done)
        self._report(f"{done} of {self._total} checks: {made.kind} {made.name}, {made.rows_checked:,} rows, {made.rows_checked / max(0.001, made.seconds):,.0f} rows/s, "
                     f"about {to_go:.0f} s to go")
        return made


def unlooked(table: cdc.CdcTable, views: Sequence[FeatureViewContract]) -> list[Outcome]:
    """Return what is said of the marts and views of a table that could not be checked."""
    reason = f"table {table.name} could not be checked"
    return [*(Outcome("mart", f"{names.DB_MARTS}.{v.mart}", reason=reason) for v in views), *(Outcome("view", v.name, reason=reason) for v in views)]


def whole(table: cdc.CdcTable, endpoints: Endpoints, source: Source, to: sink.Sink, progress: Progress) -> TableCycle | HistoryCycle:
    """Return the cycle of a whole table, of its kind; raises as they do when they are made."""
    if isinstance(table, HistoryTable):
        return HistoryCycle(table, source, to, progress)
    return TableCycle(Comparer(table, source, to, progress), to, Repairer(endpoints.kafka_bootstrap, source))


def checked(run: TableCycle | HistoryCycle, to: sink.Sink, cycle: str, *, repair: bool, landing: bool = True) -> Outcome:
    """Compare a table or its slice, keep what was found, and repair it when asked to; raises as the check does."""
    made = run.check(landing=landing)
    _keep_findings(to, cycle, run, "found")
    if repair and run.found:
        run.mend(made)
        _keep_findings(to, cycle, run, "repaired")
    return made


@dataclass(frozen=True, slots=True)
class On:
    """What the marts and views of a table are checked on. `table`: what was said of it; `rebuild`: makes a mart anew by its name; None: nothing is repaired."""

    endpoints: Endpoints
    sink: sink.Sink
    run: TableCycle
    table: Outcome
    cycle: str
    rebuild: Callable[[str], None] | None


class Work(Protocol):
    """The check of one mart or view, slice by slice; `made` gathers what was found."""

    made: Outcome

    def slices(self) -> Iterator[None]:
        """Check a slice at each step."""

    def close(self) -> None:
        """Let go what was opened."""


class MartWork:
    """Checks one mart against its keyed table; a mart that differs is built anew by dbt, once for all its slices."""

    def __init__(self, on: On, view: FeatureViewContract) -> None:
        self._on, self._view, self._rebuilt = on, view, False
        self._cycle = marts.MartCycle(on.run.plan.table, view, on.sink)
        self.made = Outcome("mart", self._cycle.name)

    def slices(self) -> Iterator[None]:
        """Check a slice at each step."""
        parts = online.parts(self._on.sink, self._on.run.plan.table.staging, self._on.run.plan.table.key)
        for between in parts:
            count, found = self._cycle.compare(between)
            self._keep(found, "found")
            left = found
            if found and self._on.rebuild and not self._rebuilt:
                self._rebuilt = True
                self._on.rebuild(self._view.mart)
                _, left = self._cycle.compare(between)
                standing = {d.key for d in left}
                self._keep([d for d in found if d.key not in standing], "repaired")
                self._keep(left, "not repaired")
            self.made.add(self._cycle.outcome(self._on.table, count, found, left, repair=self._on.rebuild is not None))
            yield

    def _keep(self, found: Sequence[Difference], state: str) -> None:
        rows = [(" ".join(d.key), d.kind, None, None) for d in found]
        _keep(self._on.sink, self._on.cycle, self._cycle.name, self._on.run.lsn, rows, lambda _: state)

    def close(self) -> None:
        """Nothing is open."""


class ViewWork:
    """Checks the online store against a mart; what is stale is read again from the source, so that it passes by the materializer."""

    def __init__(self, on: On, view: FeatureViewContract) -> None:
        self._on, self._view = on, view
        self._cycle = online.OnlineCycle(view, on.sink, on.endpoints.redis_url)
        self.made = Outcome("view", view.name)

    def slices(self) -> Iterator[None]:
        """Check a slice at each step, and what the store has besides at the last."""
        for between in self._cycle.parts():
            count, stale = self._cycle.compare(between)
            if between[1] is None:
                stale += self._cycle.orphans()
            self._judge(count, stale)
            yield

    def _judge(self, count: int, stale: list[int | str]) -> None:
        on, repair = self._on, self._on.rebuild is not None
        rows = [(str(k), "stale", None, None) for k in stale]
        _keep(on.sink, on.cycle, self._view.name, on.run.lsn, rows, lambda _: "found")
        left = stale
        if repair and stale:
            left = on.run.refresh(stale, self._cycle.still)
            standing = {str(k) for k in left}
            _keep(on.sink, on.cycle, self._view.name, on.run.lsn, rows, lambda key: "not repaired" if key in standing else "repaired")
        self.made.add(self._cycle.outcome(on.table, count, len(stale), len(stale) - len(left), repair=repair))

    def close(self) -> None:
        """Close the connection."""
        self._cycle.close()


def _keep_findings(to: sink.Sink, cycle: str, run: TableCycle | HistoryCycle, state: str) -> None:
    name = run.plan.table.name
    rows = [(" ".join(d.key), d.kind, d.source_hash, d.sink_hash) for d in run.found.values()]
    repaired = {" ".join(k) for k in run.repaired}
    _keep(to, cycle, name, run.lsn, rows, lambda key: state if state == "found" or key in repaired else "not repaired")


def _keep(to: sink.Sink, cycle: str, name: str, lsn: int, rows: Sequence[tuple[str, str, int | None, int | None]], state: Callable[[str], str]) -> None:
    now = datetime.now(UTC)
    to.keep(cdc.RECONCILE_FINDINGS, sink.FINDINGS, [(cycle, now, name, key, kind, left, right, lsn, state(key)) for key, kind, left, right in rows[:FINDINGS_KEPT]])


def keep_cycle(to: sink.Sink, cycle: str, outcomes: Sequence[Outcome]) -> None:
    """Append what was said; a log line tells when that could not be."""
    now = datetime.now(UTC)
    try:
        to.keep(cdc.RECONCILE_CYCLES, sink.CYCLES, [
            (cycle, now, o.kind, o.name, str(o.outcome), o.reason, o.verified_lsn, datetime.fromtimestamp(o.verified_at_ms / 1000, UTC), o.rows_checked,
             o.missing, o.extra, o.doubled, o.different, o.stale, o.repaired, o.left, o.seconds, o.cost_s) for o in outcomes
        ])
    except WeirError as error:
        log.warning("%s", error)

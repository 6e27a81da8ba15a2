"""A cycle over tables and the views on them: compare, repair, keep the evidence.

In: endpoints. Out: outcomes, rows of ops.reconcile_cycles and ops.reconcile_findings. Keep: what fails on one table is that table's *unknown*,
and the others go on; evidence of a finding is kept before its repair's.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from weir.contracts import cdc
from weir.contracts.endpoints import Endpoints
from weir.contracts.features import FeatureViewContract
from weir.errors import SettingsError, WeirError
from weir.reconcile import online, sink
from weir.reconcile.outcome import Answer, Outcome
from weir.reconcile.plan import Key
from weir.reconcile.progress import Progress
from weir.reconcile.repair import Repairer
from weir.reconcile.source import Source
from weir.reconcile.table import REPAIR_S, Comparer, TableCycle

EVERY_S: Final = 30.0  # between cycles; a cycle waits for one heartbeat (2 s) and reads each table once
FINDINGS_KEPT: Final = 1_000  # a cycle and table

log = logging.getLogger("weir.reconcile")


def chosen(table: str, added: Iterable[cdc.CdcTable] = ()) -> list[cdc.CdcTable]:
    """Return the tables to look at: one by name, or all for the empty name. `added`: those of the register besides the contract's.

    Raises:
        SettingsError: there is no such table.
    """
    known = dict(cdc.CDC_TABLES) | {t.name: t for t in added}
    if table and table not in known:
        raise SettingsError(f"no captured table {table!r}", hint=f"there are {', '.join(known)}")
    return [known[table]] if table else list(known.values())


class Reconciler:
    """Runs cycles. Not shared between threads."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints, self._turn, self._prepared = endpoints, 0, False
        self._source = Source(endpoints.postgres_dsn)

    def run(self, tables: Sequence[cdc.CdcTable], *, repair: bool = False) -> list[Outcome]:
        """Run one cycle; never raises for a part that is away."""
        outcomes: list[Outcome] = []
        for table in tables:
            outcomes += self._one(table, repair=repair)
        self._turn += 1
        return outcomes

    def _one(self, table: cdc.CdcTable, *, repair: bool) -> list[Outcome]:
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
            run = TableCycle(Comparer(table, self._source, to, progress), to, Repairer(self._endpoints.kafka_bootstrap, self._source))
            made = run.check()
            _keep_findings(to, cycle, table.name, run, "found")
            if repair and run.found:
                run.mend(made)
                _keep_findings(to, cycle, table.name, run, "repaired")
            made.seconds = round(time.monotonic() - began, 3)
            found = [self._view(run, to, v, made, cycle, repair=repair) for v in views]
        except WeirError as error:
            made.outcome, made.reason, made.verified_lsn, made.seconds = Answer.UNKNOWN, str(error), 0, round(time.monotonic() - began, 3)
            found = [Outcome("view", v.name, reason=f"table {table.name} could not be checked") for v in views]
        if progress is not None:
            progress.close()
        if to is not None:
            _keep_cycle(to, cycle, [made, *found])
            to.close()
        return [made, *found]

    def _view(self, run: TableCycle, to: sink.Sink, view: FeatureViewContract, table: Outcome, cycle: str, *, repair: bool) -> Outcome:
        began, work = time.monotonic(), online.OnlineCycle(view, to, self._endpoints.redis_url)
        try:
            checked, stale = work.compare(self._turn)
            rows = [(str(k), "stale", None, None) for k in stale]
            _keep(to, cycle, view.name, run.lsn, rows, lambda _: "found")
            left = stale
            if repair and stale:
                left = self._refresh(run, work, stale)
                standing = {str(k) for k in left}
                _keep(to, cycle, view.name, run.lsn, rows, lambda key: "not repaired" if key in standing else "repaired")
            made = work.outcome(table, checked, len(stale), len(stale) - len(left), repair=repair)
        except WeirError as error:
            made = Outcome("view", view.name, reason=str(error))
        finally:
            work.close()
        made.seconds = round(time.monotonic() - began, 3)
        return made

    def _refresh(self, run: TableCycle, work: online.OnlineCycle, stale: Sequence[int | str]) -> list[int | str]:
        """Have the stale keys' rows read again, so that they pass by the materializer; those without a row are deleted first. Returns what stays stale."""
        keys: list[Key] = [(str(k),) for k in stale]
        repairer = Repairer(self._endpoints.kafka_bootstrap, self._source)
        at_source = run.comparer.present(keys)
        repairer.delete(run.plan, [k for k in keys if k not in at_source])
        repairer.read_again(run.plan, keys)
        deadline, left = time.monotonic() + REPAIR_S, list(stale)
        while left and time.monotonic() < deadline:
            left = work.still(left)
        repairer.forget()
        return left


def _keep_findings(to: sink.Sink, cycle: str, name: str, run: TableCycle, state: str) -> None:
    rows = [(" ".join(d.key), d.kind, d.source_hash, d.sink_hash) for d in run.found.values()]
    repaired = {" ".join(k) for k in run.repaired}
    _keep(to, cycle, name, run.lsn, rows, lambda key: state if state == "found" or key in repaired else "not repaired")


def _keep(to: sink.Sink, cycle: str, name: str, lsn: int, rows: Sequence[tuple[str, str, int | None, int | None]], state: Callable[[str], str]) -> None:
    now = datetime.now(UTC)
    to.keep(cdc.RECONCILE_FINDINGS, sink.FINDINGS, [(cycle, now, name, key, kind, left, right, lsn, state(key)) for key, kind, left, right in rows[:FINDINGS_KEPT]])


def _keep_cycle(to: sink.Sink, cycle: str, outcomes: Sequence[Outcome]) -> None:
    now = datetime.now(UTC)
    try:
        to.keep(cdc.RECONCILE_CYCLES, sink.CYCLES, [
            (cycle, now, o.kind, o.name, str(o.outcome), o.reason, o.verified_lsn, datetime.fromtimestamp(o.verified_at_ms / 1000, UTC), o.rows_checked,
             o.missing, o.extra, o.doubled, o.different, o.stale, o.repaired, o.left, o.seconds) for o in outcomes
        ])
    except WeirError as error:
        log.warning("%s", error)

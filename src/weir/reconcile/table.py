"""One table's cycle: compare whole by buckets, bisect what differs to its keys, look at those again, repair them, look once more.

In: both databases and Kafka's offsets. Out: an `Outcome`, its differences. Keep: a difference counts only when it is seen in two comparisons,
each of a snapshot against a sink that has landed all of it, without the keys that a later transaction has changed.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

from weir.contracts import cdc
from weir.contracts.cdc import CdcTable
from weir.errors import NotYet, Undecided
from weir.reconcile.outcome import Answer, Outcome
from weir.reconcile.plan import (
    FIRST_BITS,
    KEY_BITS,
    STEP_BITS,
    Between,
    Difference,
    Key,
    Rows,
    TablePlan,
    differences,
    make,
    unequal,
)
from weir.reconcile.progress import Progress
from weir.reconcile.repair import KEYS_MAX, Repairer
from weir.reconcile.sink import Sink
from weir.reconcile.source import Snapshot, Source, keys_of

WAIT_S: Final = 45.0  # the heartbeat moves the slot every 2 s; a killed Connect worker is back after 12 s
ROWS_AT_ONCE: Final = 5_000  # rows of both sides fetched one by one in a step
TRIES: Final = 3  # for keys that change all the while
REPAIR_S: Final = 40.0
TOO_LARGE: Final = f"larger than {cdc.CHANGE_BYTES >> 20} MiB and is parked (docs/reference/large-rows.md)"
MERGE_ROWS_MAX: Final = 5_000_000  # above it a whole merge is no repair but a load


@dataclass(frozen=True, slots=True)
class Comparison:
    """What one comparison saw. `left`: keys that a later transaction changed meanwhile."""

    snapshot: Snapshot
    rows: int
    found: tuple[Difference, ...]
    left: frozenset[Key]
    more: bool = False  # there are more differences than were looked at


class Comparer:
    """Compares one table."""

    def __init__(self, table: CdcTable, source: Source, sink: Sink, progress: Progress) -> None:
        self._source, self._sink, self._progress = source, sink, progress
        columns, key = source.columns(table.source)
        in_sink = sink.columns(table.staging)
        if not in_sink:
            raise NotYet(f"{table.staging} is not there", hint="./weir run dbt build makes it")
        self.plan: TablePlan = make(table, columns, key, in_sink)

    def within(self, between: Between) -> Comparer:
        """Return a comparer of a slice."""
        made = copy.copy(self)
        made.plan = self.plan.within(between)
        return made

    def bound(self, low: int | None, rows: int) -> int | None:
        """Return where a slice that begins past `low` ends; None: it is the last one, or the table cannot be sliced."""
        return self._source.bound(self.plan, low, rows) if self.plan.sliceable else None

    def ends(self) -> dict[int, int]:
        """Return the topic's ends now."""
        return self._progress.ends(self.plan.table.topic)

    def _land(self, snapshot: Snapshot) -> None:
        """Wait until all that the snapshot sees is in the keyed table."""
        deadline = time.monotonic() + WAIT_S
        self._source.wait_published(snapshot.lsn, deadline)
        self._progress.wait_landed(self.plan.table.topic, self.ends(), deadline)

    def _changed(self, since: dict[int, int], snapshot: Snapshot) -> frozenset[Key]:
        found = self._sink.changed(self.plan, since, snapshot.visible)
        if found is None:
            raise Undecided(f"too many keys of {self.plan.table.name} change for a comparison, or it is being truncated", hint="run it at a quieter time")
        return frozenset(found)

    def whole(self) -> Comparison:
        """Compare every row.

        Raises:
            Undecided or Transient: it could not be carried out.
        """
        since = self.ends()  # before the snapshot: all that it does not see comes later
        with self._source.snapshot() as snapshot:
            self._land(snapshot)
            changed = self._changed(since, snapshot)
            without = keys_of(self.plan, list(changed))
            bits, sql = FIRST_BITS, self.plan.buckets(FIRST_BITS)
            left, right = snapshot.buckets(sql[0], without), self._sink.buckets(sql[1], without)
            rows, bad = sum(n for n, _ in left.values()), unequal(left, right)
            while sum(bad.values()) > ROWS_AT_ONCE and bits + STEP_BITS <= KEY_BITS and len(bad) * 2 < ROWS_AT_ONCE:
                bits += STEP_BITS
                sql = self.plan.buckets(bits, list(bad))
                bad = unequal(snapshot.buckets(sql[0], without), self._sink.buckets(sql[1], without))
            looked, more = self._first(bad)
            found: Sequence[Difference] = ()
            if looked:
                sql = self.plan.rows(bits=bits, inside=looked)
                found = differences(snapshot.rows(sql[0], without), self._sink.rows(sql[1], without))
            changed |= self._changed(since, snapshot)
        return Comparison(snapshot, rows, tuple(d for d in found if d.key not in changed), changed, more)

    @staticmethod
    def _first(bad: dict[int, int]) -> tuple[list[int], bool]:
        """Return the buckets whose rows are looked at one by one, and whether others are left for a later cycle."""
        taken: list[int] = []
        rows = 0
        for bucket, size in bad.items():
            if taken and rows + size > ROWS_AT_ONCE:
                return taken, True
            taken.append(bucket)
            rows += size
        return taken, False

    def keys(self, keys: Collection[Key]) -> Comparison:
        """Compare just these keys; raises as `whole`."""
        since, framed = self.ends(), keys_of(self.plan, sorted(keys))
        with self._source.snapshot() as snapshot:
            self._land(snapshot)
            sql = self.plan.rows()
            left, right = snapshot.rows(sql[0], framed), self._sink.rows(sql[1], framed)
            changed = self._changed(since, snapshot)
        return Comparison(snapshot, len(left), tuple(d for d in differences(left, right) if d.key not in changed), changed & frozenset(keys))

    def came_through(self, keys: Collection[Key], feeds: Sequence[str]) -> bool:
        """Say whether the row that the source has of each of these keys is one that the stream brought. Raises as `whole`.

        Of a key that changes all the while there is no moment at which both sides are the same. `feeds`: the SELECTs that read the landing table for the keyed one.
        """
        framed = keys_of(self.plan, sorted(keys))
        with self._source.snapshot() as snapshot:
            self._land(snapshot)
            there = snapshot.rows(self.plan.rows()[0], framed)
        brought: Rows = {}
        for feed in feeds:
            read = replace(self.plan, table=replace(self.plan.table, standing=f"(SELECT * FROM ({feed}) WHERE is_deleted = 0)"))
            for key, hashes in self._sink.rows(read.rows()[1], framed).items():
                brought.setdefault(key, []).extend(hashes)
        return all(set(hashes) <= set(brought.get(key, ())) for key, hashes in there.items())

    def present(self, keys: Collection[Key]) -> set[Key]:
        """Return which of these keys the source has now."""
        with self._source.snapshot() as snapshot:
            return set(snapshot.rows(self.plan.rows()[0], keys_of(self.plan, sorted(keys))))


class TableCycle:
    """Runs one cycle of one table."""

    def __init__(self, comparer: Comparer, sink: Sink, repairer: Repairer) -> None:
        self.comparer, self.plan, self._sink, self._repairer = comparer, comparer.plan, sink, repairer
        self.found: dict[Key, Difference] = {}
        self.repaired: set[Key] = set()
        self.parked: dict[Key, str] = {}
        self.lsn = 0
        self._whole: Comparison
        self._landed_twice = 0

    def check(self, *, landing: bool = True) -> Outcome:
        """Compare; what differs is in `found`. `landing`: see too that no offset of the topic landed twice, which reads all of it.

        Raises:
            Undecided or Transient: it could not be carried out.
        """
        outcome = Outcome("table", self.plan.table.name, unchecked=self.plan.unchecked)
        whole = self.comparer.whole()
        self.lsn, outcome.rows_checked = whole.snapshot.lsn, whole.rows
        found, left = self._settle({d.key for d in whole.found} | whole.left)
        self.found = {d.key: d for d in found}
        self.parked = self._sink.parked(self.plan) if found else {}
        twice = [k for k in self._sink.stored_twice(self.plan) if k not in self.found]
        self.found |= {k: Difference(k, "doubled", None, None) for k in twice}
        for kind in ("missing", "extra", "doubled", "different"):
            setattr(outcome, kind, sum(d.kind == kind for d in self.found.values()))
        outcome.left = len(left)
        self._whole, self._landed_twice = whole, self._sink.landed_twice(self.plan.table.topic) if landing else 0
        outcome.doubled += self._landed_twice
        self._judge(outcome)
        outcome.repairable = None if not outcome.found else not (self._landed_twice or whole.more)
        return outcome

    def mend(self, outcome: Outcome) -> None:
        """Repair what `check` found, and judge anew; raises as it does."""
        self.repaired = self._repair()
        outcome.repaired = len(self.repaired)
        outcome.repairable = bool(outcome.repairable) and outcome.repaired == len(self.found)
        self._judge(outcome)

    def refresh(self, keys: Sequence[int | str], still: Callable[[Sequence[int | str]], list[int | str]]) -> list[int | str]:
        """Have these keys' rows read again, those without a row being deleted first, until `still` names none of them; return what it names at last."""
        wanted: list[Key] = [(str(k),) for k in keys]
        at_source = self.comparer.present(wanted)
        self._repairer.delete(self.plan, [k for k in wanted if k not in at_source])
        self._repairer.read_again(self.plan, wanted)
        deadline, left = time.monotonic() + REPAIR_S, list(keys)
        while left and time.monotonic() < deadline:
            left = still(left)
        self._repairer.forget()
        return left

    def _judge(self, outcome: Outcome) -> None:
        standing, reasons = self.found.keys() - self.repaired, []
        outcome.oversized = len(standing & self.parked.keys())
        if standing:
            reasons.append(f"{len(standing)} keys differ" + (f", {outcome.oversized} of them since a change of theirs is {TOO_LARGE}" if outcome.oversized else ""))
        if self._whole.more:
            reasons.append("more buckets differ than one cycle looks at: many cycles, or a resync")
        if self._landed_twice:
            reasons.append(f"{self._landed_twice} offsets landed more than once, which cannot be repaired: the landing table is append-only")
        outcome.outcome, outcome.reason = (Answer.NO if reasons else Answer.YES), "; ".join(reasons)
        outcome.verified_lsn, outcome.verified_at_ms = (0, 0) if reasons else (self._whole.snapshot.lsn, self._whole.snapshot.at_ms)

    def _settle(self, keys: Collection[Key]) -> tuple[list[Difference], set[Key]]:
        """Compare these keys again, and those that change all the while a few times more; return differences and keys left."""
        found: dict[Key, Difference] = {}
        left = set(keys)
        for _ in range(TRIES):
            if not left:
                break
            again = self.comparer.keys(left)
            found |= {d.key: d for d in again.found}
            left = set(again.left)
        return list(found.values()), left

    def _repair(self) -> set[Key]:
        """Repair what was found, KEYS_MAX keys at most; return the keys that are the same on both sides afterwards."""
        chosen = dict(list(self.found.items())[:KEYS_MAX])
        by = {kind: [k for k, d in chosen.items() if d.kind == kind] for kind in ("missing", "extra", "doubled", "different")}
        for kind in ("missing", "different"):
            by[kind] = [k for k in by[kind] if self.parked.get(k) != "r"]  # read again already, and parked
        since = self.comparer.ends()
        if by["doubled"]:
            self._merge()
        self._repairer.delete(self.plan, by["extra"])
        self._repairer.read_again(self.plan, [*by["missing"], *by["different"], *by["extra"]])
        self._await(set(by["missing"]) | set(by["different"]), since)
        differ, left = self._settle(chosen)
        self._repairer.forget()
        twice = set(self._sink.stored_twice(self.plan)) if by["doubled"] else set()
        return set(chosen) - {d.key for d in differ} - left - twice

    def _merge(self) -> None:
        rows = int(self._sink.query(f"SELECT count() FROM {self.plan.table.staging}")[0][0])
        if rows <= MERGE_ROWS_MAX:
            self._sink.command(f"OPTIMIZE TABLE {self.plan.table.staging} FINAL")  # the engine's own merge: one row a key and version

    def _await(self, keys: set[Key], since: dict[int, int]) -> None:
        deadline = time.monotonic() + REPAIR_S
        while keys - self._sink.reread(self.plan, since) and time.monotonic() < deadline:
            time.sleep(0.2)

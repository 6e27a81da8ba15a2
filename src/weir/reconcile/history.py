"""A history against its table: the rows that its changes make up to a snapshot of the source, and the rows that this snapshot has.

In: both databases and Kafka's offsets. Out: an `Outcome`. Keep: a row counts as often as it is there, so that rows without a key compare, by counts and sums of hashes; both
sides are of the very same transactions; what differs is told and never repaired, since a history is only appended to.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from weir.contracts.captured import HistoryTable
from weir.contracts.history import Cut, Rows
from weir.errors import ContractViolation, Undecided
from weir.reconcile import canonical
from weir.reconcile.outcome import Answer, Outcome
from weir.reconcile.plan import FIRST_BITS, KEY_BITS, Bucket, Difference, Key, TablePlan, comparable, unequal
from weir.reconcile.progress import Progress
from weir.reconcile.sink import Sink
from weir.reconcile.source import MASK64, Snapshot, Source, text_of
from weir.reconcile.table import ROWS_AT_ONCE, WAIT_S

SHIFT: Final = KEY_BITS - FIRST_BITS


@dataclass(frozen=True, slots=True)
class _Seen:
    """One comparison. `more`: too many rows differ to be told apart; `source`, `sink`: how many rows each side has."""

    snapshot: Snapshot
    source: int
    sink: int
    found: tuple[Difference, ...]
    more: bool

    @property
    def same(self) -> bool:
        return not self.found and not self.more


def differences(source: Mapping[int, int], sink: Mapping[int, int]) -> tuple[Difference, ...]:
    """Return, a row each, what one side has more often than the other; of each row's hash how often it is there. Pure."""
    found: list[Difference] = []
    for one in sorted(source.keys() | sink.keys()):
        more = source.get(one, 0) - sink.get(one, 0)
        found += [Difference((f"{one:016x}",), "missing" if more > 0 else "extra", one if more > 0 else None, one if more < 0 else None)] * abs(more)
    return tuple(found)


class HistoryCycle:
    """Runs one cycle of one history; what `TableCycle` is for keyed tables."""

    def __init__(self, table: HistoryTable, source: Source, sink: Sink, progress: Progress) -> None:
        if table.rows is None:
            raise ContractViolation(f"{table.name} is no history", hint=f"./weir table resync {table.name}")
        self._rows: Rows = table.rows
        self._source, self._sink, self._progress = source, sink, progress
        columns, unchecked = comparable(source.columns(table.source)[0], self._rows.kinds(), table.staging)
        self.plan = TablePlan(table, (), columns, unchecked)
        self.found: Mapping[Key, Difference] = {}
        self.repaired: set[Key] = set()
        self.lsn = 0
        text = canonical.row_text([canonical.expressions(c) for c in columns])
        self._bucket, self._hash = canonical.hash32(text), canonical.hash64(text)

    def check(self, *, landing: bool = True) -> Outcome:
        """Compare; only what differs twice is a finding. `landing`: see too that no offset of the topic landed twice, which reads all of it.

        Raises:
            Undecided or Transient: it could not be carried out.
        """
        seen = self._compare()
        seen = seen if seen.same else self._compare()
        outcome = Outcome("table", self.plan.table.name, rows_checked=seen.source, unchecked=self.plan.unchecked)
        self.lsn, self.found = seen.snapshot.lsn, {(*d.key, str(n)): d for n, d in enumerate(seen.found)}
        outcome.missing, outcome.extra = (sum(d.kind == kind for d in seen.found) for kind in ("missing", "extra"))
        outcome.doubled = self._sink.landed_twice(self.plan.table.topic) if landing else 0
        reasons = [] if seen.same else [f"the history makes {seen.sink:,} rows where the source has {seen.source:,}, or others; a resync puts a new snapshot into it"]
        reasons += [f"{outcome.doubled} offsets landed more than once, which cannot be repaired: the landing table is append-only"] * bool(outcome.doubled)
        outcome.outcome, outcome.reason = (Answer.NO if reasons else Answer.YES), "; ".join(reasons)
        outcome.repairable = False if reasons else None
        outcome.verified_lsn, outcome.verified_at_ms = (0, 0) if reasons else (seen.snapshot.lsn, seen.snapshot.at_ms)
        return outcome

    def mend(self, outcome: Outcome) -> None:
        """Leave it: what a history has is never replaced."""
        outcome.repairable = False

    def _compare(self) -> _Seen:
        since = tuple(sorted(self._progress.ends(self.plan.table.topic).items()))
        with self._source.snapshot() as snapshot:
            left = snapshot.buckets(f"SELECT ({self._bucket[0]} >> {SHIFT}), count(*), coalesce(sum({self._hash[0]}), 0)::text FROM {self.plan.table.source} GROUP BY 1", ())
            self._land(snapshot.lsn_now())
            until = Cut(snapshot.lsn, snapshot.visible, since)
            if self._sink.query(f"SELECT 1 FROM {self._rows.table} WHERE op = 't' AND {until.past()} LIMIT 1"):
                raise Undecided(f"{self.plan.table.name} was truncated while it was compared, which no snapshot keeps apart", hint="run it at a quieter time")
            right = self._buckets(until)
            bad = unequal(left, right)
            few = sum(bad.values()) <= ROWS_AT_ONCE
            found = self._told(snapshot, until, list(bad)) if bad and few else ()
        return _Seen(snapshot, sum(n for n, _ in left.values()), sum(n for n, _ in right.values()), found, bool(bad) and not found)

    def _land(self, lsn: int) -> None:
        """Wait until all that was written up to an LSN is in the history; a TRUNCATE that the source's rows were read after too."""
        deadline = time.monotonic() + WAIT_S
        self._source.wait_published(lsn, deadline)
        try:
            self._progress.wait_landed(self.plan.table.topic, self._progress.ends(self.plan.table.topic), deadline)
        except Undecided as error:
            raise Undecided(f"{error.message}; wanted up to {text_of(lsn)}", hint=error.hint) from error

    def _hashed(self, until: Cut) -> str:
        """Return the SELECT of each image's bucket, hash and count."""
        return f"(SELECT bitShiftRight({self._bucket[1]}, {SHIFT}) AS weir_bucket, {self._hash[1]} AS weir_hash, weir_n FROM {self._rows.images(until)})"

    def _buckets(self, until: Cut) -> dict[int, Bucket]:
        """Return rows and sum of hashes by bucket: those of the images that came less those of the images that went."""
        rows = self._sink.query("SELECT weir_bucket, sum(weir_n), toString(sumIf(weir_hash, weir_n > 0)), toString(sumIf(weir_hash, weir_n < 0))"
                                f" FROM {self._hashed(until)} GROUP BY weir_bucket")
        found = {int(b): (int(n), (int(came) - int(went)) & MASK64) for b, n, came, went in rows}
        return {b: bucket for b, bucket in found.items() if bucket != (0, 0)}

    def _told(self, snapshot: Snapshot, until: Cut, buckets: list[int]) -> tuple[Difference, ...]:
        """Return the rows of these buckets that differ; none where too many would have to be looked at."""
        inside = ", ".join(map(str, buckets))
        here = f"({self._hash[0]})::text"
        left = snapshot.rows(f"SELECT '', ARRAY[{here}], {here} FROM {self.plan.table.source} WHERE ({self._bucket[0]} >> {SHIFT}) IN ({inside})", ())
        right = self._sink.query(f"SELECT toString(weir_hash), sum(weir_n) AS n FROM {self._hashed(until)} WHERE weir_bucket IN ({inside}) GROUP BY weir_hash HAVING n != 0 LIMIT {2 * ROWS_AT_ONCE}")
        if len(right) == 2 * ROWS_AT_ONCE:
            return ()
        return differences({int(k[0]) & MASK64: len(hashes) for k, hashes in left.items()}, {int(h): int(n) for h, n in right})

"""Comparing a history with a source and a sink that are made up."""
from collections import Counter
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from weir.contracts.captured import HistoryTable
from weir.contracts.history import Cut, Rows
from weir.contracts.schema import SourceColumn
from weir.errors import Undecided
from weir.reconcile.history import HistoryCycle, differences
from weir.reconcile.outcome import Answer
from weir.reconcile.source import MASK64

COLUMNS = (SourceColumn("who", "bigint"), SourceColumn("note", "text"))
TABLE = HistoryTable("log", "public.log", "shop.public.log", "captured.log__0", "captured.log__rows", rows=Rows("captured.log__0", COLUMNS, 1, Cut(5, "3:3:", ((0, 0),))))


class Source:
    """Rows by their hashes, another list each time it is asked, the last for ever."""

    def __init__(self, *rows):
        self.rows, self.waited = list(rows), []

    def columns(self, _table):
        return [("who", "bigint", True), ("note", "text", True), ("new", "integer", True)], []

    @contextmanager
    def snapshot(self):
        rows = self.rows.pop(0) if len(self.rows) > 1 else self.rows[0]
        yield SimpleNamespace(lsn=70, at_ms=9, visible="8:8:", lsn_now=lambda: 75, buckets=lambda _sql, _keys: {0: (len(rows), sum(rows) & MASK64)} if rows else {},
                              rows=lambda _sql, _keys: {(str(h - (1 << 64) if h >> 63 else h),): [h] * rows.count(h) for h in rows})

    def wait_published(self, lsn, _deadline):
        self.waited.append(lsn)


class Sink:
    """Images by their hashes: what came and what went."""

    def __init__(self, came, went=(), *, truncated=False, twice=0):
        self.came, self.went, self.truncated, self.twice, self.asked = came, went, truncated, twice, []

    def query(self, sql):
        self.asked.append(sql)
        if sql.startswith("SELECT 1"):
            return [(1,)] * self.truncated
        if "GROUP BY weir_hash" in sql:
            counts = Counter(self.came)
            counts.subtract(self.went)
            return [(str(h), n) for h, n in counts.items() if n]
        return [(0, len(self.came) - len(self.went), str(sum(self.came) & MASK64), str(sum(self.went) & MASK64))] if self.came or self.went else []

    def landed_twice(self, _topic):
        return self.twice


def cycle(source, sink):
    return HistoryCycle(TABLE, source, sink, SimpleNamespace(ends=lambda _topic: {0: 7}, wait_landed=lambda *_: None))


BIG = (1 << 64) - 3


def test_rows_that_are_alike_are_the_same_when_they_are_as_many():
    source = Source([5, 5, BIG])
    run = cycle(source, Sink([5, 5, 5, 9, BIG], [5, 9]))
    outcome = run.check()
    assert (outcome.outcome, outcome.rows_checked, outcome.verified_lsn, outcome.repairable, source.waited) == (Answer.YES, 3, 70, None, [75])
    assert outcome.unchecked == ("new: not in captured.log__0",)


@pytest.mark.parametrize(("there", "came", "went", "missing", "extra"), [
    ([5, 5], [5], [], 1, 0), ([5], [5, 5], [], 0, 1), ([5, 9], [5, 8], [], 1, 1), ([], [5], [], 0, 1), ([5], [], [], 1, 0), ([BIG], [BIG, BIG], [], 0, 1), ([5], [5, 9], [], 0, 1)])
def test_one_row_more_or_less_is_told_and_never_repaired(there, came, went, missing, extra):
    run = cycle(Source(there), Sink(came, went))
    outcome = run.check()
    assert (outcome.outcome, outcome.missing, outcome.extra, outcome.repairable, outcome.verified_lsn, len(run.found)) == (Answer.NO, missing, extra, False, 0, missing + extra)
    run.mend(outcome)
    assert (outcome.repaired, run.repaired, outcome.outcome) == (0, set(), Answer.NO)


def test_what_differs_once_is_no_finding():
    assert cycle(Source([5], [5, 9]), Sink([5, 9])).check().outcome is Answer.YES


def test_sides_of_other_transactions_are_not_compared():
    sink = Sink([5])
    cycle(Source([5]), sink).check()
    assert "lsn >= 70" in sink.asked[-1]
    with pytest.raises(Undecided):
        cycle(Source([5]), Sink([5], truncated=True)).check()


@pytest.mark.parametrize(("there", "came", "went", "missing", "extra"), [([], [5], [9], 1, 1), ([], [], [9], 1, 0), ([9], [9, 9], [9, 9], 1, 0)])
def test_a_delete_of_a_row_that_never_was_is_seen_though_no_row_is_there(there, came, went, missing, extra):
    outcome = cycle(Source(there), Sink(came, went)).check()
    assert (outcome.outcome, outcome.missing, outcome.extra) == (Answer.NO, missing, extra)


def test_offsets_that_landed_twice_are_told():
    assert cycle(Source([5]), Sink([5], twice=2)).check().outcome is Answer.NO
    assert cycle(Source([5]), Sink([5], twice=2)).check(landing=False).outcome is Answer.YES


def test_differences_are_told_a_row_each():
    assert [(d.kind, d.source_hash, d.sink_hash) for d in differences({BIG: 2, 1: 1, 4: 1}, {BIG: 1, 2: 2, 4: 1})] == [
        ("missing", 1, None), ("extra", None, 2), ("extra", None, 2), ("missing", BIG, None)]

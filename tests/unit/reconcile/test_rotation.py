"""A table is looked at slice by slice, each key in one of them, within a budget; a mart's row follows from the newest version of its key."""
import pytest

from weir.contracts import cdc
from weir.reconcile import online
from weir.reconcile.marts import RECOMPUTES, Truncates, catalogue, compared, profile
from weir.reconcile.outcome import Answer, Outcome
from weir.reconcile.plan import Difference, make
from weir.reconcile.rotation import LEAST_S, rest_s

USERS = cdc.CDC_TABLES["users"]


def test_a_slice_asks_both_sides_for_the_same_keys_everywhere():
    plan = make(USERS, [("user_id", "bigint", False)], ["user_id"], {"user_id": "Int64"}).within((5, 9))
    for source, sink in (plan.buckets(6), plan.buckets(10, [3]), plan.rows(), plan.rows(bits=6, inside=[1])):
        assert ' AND "user_id" > 5 AND "user_id" <= 9' in source
        assert " AND `user_id` > 5 AND `user_id` <= 9" in sink
    assert plan.within((None, None)).inside == ("", "")
    assert plan.within((None, 3)).inside == (' AND "user_id" <= 3', " AND `user_id` <= 3")


def test_keys_that_the_two_sides_may_order_differently_are_not_sliced():
    assert make(USERS, [("user_id", "bigint", False)], ["user_id"], {"user_id": "Int64"}).sliceable
    assert not make(USERS, [("name", "text", False)], ["name"], {"name": "String"}).sliceable


def test_rest_keeps_a_step_and_what_follows_within_the_budget():
    assert rest_s(0.3, 2.0, 0.015) == pytest.approx(18)
    assert 0.3 / (2.0 + rest_s(0.3, 2.0, 0.015)) == pytest.approx(0.015)
    assert rest_s(0.001, 2.0, 0.015) == LEAST_S


def test_slices_add_up_to_the_worst_answer_and_the_earliest_lsn():
    made = Outcome("table", "users")
    made.add(Outcome("table", "users", Answer.YES, verified_lsn=9, verified_at_ms=9, rows_checked=3, seconds=1.0))
    assert (made.outcome, made.verified_lsn, made.rows_checked) == (Answer.YES, 9, 3)
    made.add(Outcome("table", "users", Answer.YES, verified_lsn=7, verified_at_ms=7, rows_checked=2, different=1, repaired=1, seconds=1.0))
    assert (made.outcome, made.verified_lsn, made.rows_checked, made.found, made.repaired) == (Answer.YES, 7, 5, 1, 1)
    made.add(Outcome("table", "users", Answer.NO, "1 keys differ", rows_checked=1, missing=1, seconds=1.0))
    assert (made.outcome, made.verified_lsn, made.reason) == (Answer.NO, 0, "1 keys differ")


def test_every_view_that_one_captured_table_feeds_has_a_recompute():
    assert {v.mart for t in cdc.CDC_TABLES for v in online.views_of(t)} == set(RECOMPUTES)


def test_a_row_of_before_a_truncate_does_not_stand_whatever_brought_it():
    epoch, last = 1 << 48, Truncates(changed_ms=100, place=(1, 50), produced_ms=110)
    assert [last.stands(epoch | 7, lsn, 0, 0) for lsn in (49, 50, 51)] == [False, False, True]
    assert [last.stands(epoch | 7, None, 0, at) for at in (110, 111)] == [False, True]
    assert [last.stands(7, None, at, 0) for at in (100, 101)] == [False, True]
    assert Truncates().stands(epoch, 1, 1, 1)


def test_marts_are_recomputed_and_every_kind_of_difference_is_told():
    assert profile((30, "F"), 5, None) == (5, 30, "F")
    assert catalogue(("Heat", 1995, ["Action"], True), 5, None) == (5, "Heat", ("Action",), 1995, True)
    assert catalogue(("Heat", 1995, ["Action"], True), 5, (["Crime"], 1996, 9)) == (9, "Heat", ("Crime",), 1996, True)
    assert compared({1: (1,), 2: (2,), 4: (4,)}, {2: (9,), 3: (3,), 4: (4,)}) == [
        Difference(("1",), "missing", None, None), Difference(("2",), "different", None, None), Difference(("3",), "extra", None, None)]

"""Verdicts: unknown never passes, a loss is a no, changes under way are neither."""
from dataclasses import replace

import pytest

from weir.contracts import names
from weir.quality.ask import Offsets
from weir.quality.gaps import LIMIT, SINGLY, Gaps
from weir.quality.judge import PartitionCount, TableCount, Verdict, judge
from weir.quality.landing import above_sql
from weir.quality.marks import Mark

GOOD = PartitionCount("user-events", 0, begin=0, end=10, committed=10, ledger_rows=10, landed_rows=10, landed_distinct=10, landed_owed=10, landed_max=9)
CDC = replace(GOOD, topic=names.TOPIC_CDC_USERS)
USERS = TableCount("users", 5, 5)


def verdict(tables=(USERS,), partitions=(GOOD, CDC), quarantine=None, *, asked=True):
    return judge(tables, partitions, (), ({} if asked else None) if quarantine is None else quarantine,
                 cdc_topics={"users": names.TOPIC_CDC_USERS}, now_ms=1000, first_unlanded_ms=400)


def test_all_that_was_sent_and_landed_once_is_correct_through_now():
    assert (verdict().verdict, verdict().correct_through_ms) == (Verdict.YES, 1000)


@pytest.mark.parametrize("change", [{"landed_rows": 11, "ledger_rows": 11}, {"ledger_rows": 9}, {"landed_owed": 9, "lost": 1}, {"landed_max": 10}])
def test_a_doubled_lost_unbooked_or_foreign_row_is_a_no(change):
    report = verdict(partitions=(replace(GOOD, **change), CDC))
    assert (report.verdict, report.correct_through_ms) == (Verdict.NO, None)
    assert report.reasons


@pytest.mark.parametrize("field", ["begin", "end", "ledger_rows", "landed_rows"])
def test_a_part_that_could_not_be_asked_is_unknown(field):
    assert verdict(partitions=(replace(GOOD, **{field: None}), CDC)).verdict is Verdict.UNKNOWN


def test_nothing_asked_is_unknown():
    assert verdict(partitions=()).verdict is Verdict.UNKNOWN
    assert verdict(asked=False).verdict is Verdict.UNKNOWN
    assert verdict(tables=(TableCount("users", None, 5),)).verdict is Verdict.UNKNOWN


def test_a_difference_is_a_no_only_when_no_change_is_under_way():
    short = (TableCount("users", 5, 4),)
    assert verdict(tables=short).verdict is Verdict.NO
    assert verdict(tables=short, partitions=(GOOD, replace(CDC, end=13))).verdict is Verdict.UNKNOWN


def test_lag_leaves_the_data_correct_through_what_is_landed():
    assert verdict(partitions=(replace(GOOD, end=12), CDC)).correct_through_ms == 400


def test_a_trailing_transaction_marker_is_no_lag():
    assert (replace(CDC, end=11).lag, replace(GOOD, end=11).lag) == (0, 1)


def test_a_gap_is_a_marker_a_loss_or_unknown_as_kafka_tells():
    gap = replace(GOOD, landed_owed=9, landed_rows=9, landed_distinct=9, ledger_rows=9)
    found = [verdict(partitions=(replace(gap, lost=lost), CDC)).verdict for lost in (0, 2, None)]
    assert found == [Verdict.YES, Verdict.NO, Verdict.UNKNOWN]


def test_markers_past_the_commit_are_no_lag_and_records_are():
    assert (replace(GOOD, end=12, trailing=True).lag, replace(GOOD, end=12).lag) == (0, 2)


class _Told:
    """Stands for Kafka: gaps that hold a record, and how often it was asked."""

    def __init__(self, holds):
        self.holds, self.asked = holds, []

    def __call__(self, _bootstrap):
        return self

    def records(self, key, gaps):
        self.asked.append((key, gaps))
        return {g: n for g in gaps if (n := self.holds.get(g, 0)) is not None}

    def close(self):
        pass


def test_an_empty_gap_is_asked_once_and_a_lost_record_again_and_again():
    kafka = _Told({(7, 9): 2, (20, 21): None})
    gaps = Gaps(kafka)
    wanted = {("user-events", 0): [(1, 2), (7, 9)], ("user-events", 1): [(3, 4)], ("user-events", 2): [(20, 21)]}
    for _ in range(2):
        assert gaps.lost("b", wanted) == {("user-events", 0): 2, ("user-events", 1): 0, ("user-events", 2): None}
    assert len(kafka.asked) == 4 + 2


def test_gaps_below_the_mark_are_forgotten():
    kafka = _Told({})
    gaps, wanted = Gaps(kafka), {("user-events", 0): [(1, 2), (7, 9)]}
    gaps.lost("b", wanted)
    gaps.forget({("user-events", 0): 2})
    gaps.lost("b", wanted)
    assert [g for _, g in kafka.asked] == [[(1, 2)], [(7, 9)], [(1, 2)]]


def test_many_gaps_of_a_partition_are_read_in_one_go():
    kafka = _Told({(10, 11): 3})
    wanted = {("shop.public.users", 0): [(n, n + 1) for n in range(0, 2 * SINGLY + 4, 2)]}
    assert Gaps(kafka).lost("b", wanted) == {("shop.public.users", 0): 3}
    assert len(kafka.asked) == 1


def test_more_gaps_than_can_be_looked_at_are_unknown_until_later_askings_have_seen_them():
    gaps = Gaps(_Told({}))
    wanted = {("user-events", 0): [(n, n + 1) for n in range(0, 2 * LIMIT + 20, 2)]}
    assert gaps.lost("b", wanted) == {("user-events", 0): None}
    for _ in range(2):
        last = gaps.lost("b", wanted)
    assert last == {("user-events", 0): 0}


@pytest.mark.parametrize("topic", sorted(names.PARTITIONS))
def test_gaps_are_legal_where_kafka_holds_no_record_in_them_and_a_loss_where_it_does_in_every_topic(topic):
    gap = replace(GOOD, topic=topic, landed_owed=6, landed_rows=6, landed_distinct=6, ledger_rows=6)
    assert [verdict(partitions=(replace(gap, lost=lost),)).verdict for lost in (0, 4, None)] == [Verdict.YES, Verdict.NO, Verdict.UNKNOWN]


def test_rows_are_counted_below_the_commit_and_read_above_the_mark():
    sql = above_sql(names.LANDING_EVENTS, {("user-events", 3): Mark(0, 5)}, {("user-events", 3): Offsets(2, 9, 7)}, 1000, "2026-11-09")
    assert "WHERE 1 AND NOT ((topic = 'user-events' AND partition = 3 AND offset < 5))" in sql
    assert "countIf(offset < transform(concat(toString(topic), '/', toString(partition)), ['user-events/3'], [toUInt64(7)], toUInt64(0)))" in sql
    assert "['user-events/3'], [toUInt64(2)]" in sql
    assert "countIf(offset < toUInt64(0))" in above_sql(names.LANDING_EVENTS, {}, {}, 1000, "2026-11-09")
    assert "countIf(1)" in above_sql(names.LANDING_EVENTS, {}, None, 1000, "2026-11-09")


def test_a_fault_below_the_mark_is_a_no_whatever_else_is_not_known():
    wrong = replace(GOOD, faults=("offsets 3 to 4: 1 rows are doubled",), landed_rows=None, waiting=5)
    assert (verdict(partitions=(wrong, CDC)).verdict, "doubled" in verdict(partitions=(wrong, CDC)).reasons[0]) == (Verdict.NO, True)


@pytest.mark.parametrize("change", [{"waiting": 5_000_000, "landed_rows": None}, {"whole": False}])
def test_more_than_one_look_counts_and_a_check_that_is_gone_are_unknown(change):
    assert verdict(partitions=(replace(GOOD, **change), CDC)).verdict is Verdict.UNKNOWN

"""Windows of checked offsets: how they grow, what is wrong with them, when a wrong one is right again; totals by day."""
from dataclasses import replace

import pytest

from weir.quality.ask import Offsets
from weir.quality.judge import Verdict
from weir.quality.landing import Landed
from weir.quality.marks import (
    RECHECK_S,
    STALE_S,
    Mark,
    checked_since_ms,
    held,
    held_from,
    judge_age,
    judge_totals,
    parse,
)
from weir.quality.windows import STEP, WINDOW_ROWS, Window, again, document, joined, judged, mended, span
from weir.quality.windows import parse as parse_window

KEY = ("user-events", 0)
DAYS = {"2026-11-20": 6, "2026-11-21": 4}
SINCE, NOW = "2026-11-20", 9_000
GOOD = Landed(rows=10, held=10, distinct=10, owed=10, max=29, newest_at_ms=7, days=DAYS)
MADE = Window(KEY, 20, 30, DAYS, 7, 0, 1_000)
AT = Offsets(0, 40, 35)


def judge_one(landed=GOOD, booked=10, at=AT, lost=None):
    return judged(KEY, (20, 30), landed, booked, at, lost, NOW)


def test_a_range_that_is_whole_once_and_booked_is_a_window_without_a_fault():
    assert judge_one() == replace(MADE, checked_at_ms=NOW)


@pytest.mark.parametrize(("landed", "booked", "lost", "word"), [
    (replace(GOOD, distinct=9, owed=9), 10, 0, "doubled"), (GOOD, 9, None, "ledger"),
    (replace(GOOD, rows=9, held=9, distinct=9, owed=9), 9, 1, "lost"), (replace(GOOD, max=40), 10, None, "created anew"),
])
def test_a_range_that_is_wrong_is_a_window_that_says_so(landed, booked, lost, word):
    assert word in judge_one(landed, booked, lost=lost).fault


def test_a_range_with_a_gap_is_a_window_only_when_kafka_tells_of_it():
    gap = replace(GOOD, rows=9, held=9, distinct=9, owed=9)
    assert judge_one(gap, 9, lost=None) is None
    assert judge_one(gap, 9, lost=0).fault == ""


def test_a_range_that_kafka_has_dropped_is_judged_by_the_ledger():
    gap = replace(GOOD, rows=9, held=9, distinct=9, owed=0)
    assert judge_one(gap, 9, Offsets(33, 40, 35)).fault == ""
    assert "ledger" in judge_one(gap, 10, Offsets(33, 40, 35)).fault


def test_a_range_without_rows_is_a_window_checked_now():
    assert judge_one(Landed(), 0, lost=0) == Window(KEY, 20, 30, {}, NOW, 0, NOW)


def test_a_small_last_window_grows_and_a_large_or_wrong_or_distant_one_does_not():
    new = Window(KEY, 30, 35, {"2026-11-21": 5}, 9, 0, 3_000)
    assert joined(MADE, new) == Window(KEY, 20, 35, {"2026-11-20": 6, "2026-11-21": 9}, 9, 0, 1_000)
    for last in (None, replace(MADE, days={"2026-11-20": WINDOW_ROWS}), replace(MADE, fault="x"), replace(MADE, next=29)):
        assert joined(last, new) == new
    assert joined(MADE, replace(new, fault="x")).first == 30


def test_a_window_without_rows_says_nothing_of_the_newest():
    assert joined(MADE, Window(KEY, 30, 31, {}, 99_000, 0, 99_000)).newest_at_ms == MADE.newest_at_ms


def test_a_window_checked_again_is_held_to_its_rows_of_each_day_still_compared():
    assert again(MADE, GOOD, 10, SINCE, NOW) == replace(MADE, checked_at_ms=NOW)
    moved = replace(GOOD, days={"2026-11-20": 5, "2026-11-21": 5})
    assert [bool(again(MADE, landed, booked, SINCE, NOW).fault) for landed, booked in
            ((moved, 10), (replace(GOOD, distinct=9), 10), (GOOD, 9), (replace(GOOD, rows=9, distinct=9, held=9, days={"2026-11-20": 5, "2026-11-21": 4}), 9))] == [True] * 4
    gone = replace(GOOD, rows=4, held=4, distinct=4, days={"2026-11-21": 4})
    assert again(MADE, gone, 4, "2026-11-21", NOW).fault == ""  # retention took a day


def test_a_wrong_window_is_right_again_only_where_kafka_vouches_or_nothing_is_missing():
    wrong, right = replace(MADE, fault="x"), replace(MADE, checked_at_ms=NOW)
    fewer = replace(right, days={"2026-11-20": 5})
    assert mended(wrong, right, SINCE, 0) == right
    assert mended(wrong, fewer, SINCE, 20) == fewer
    assert mended(wrong, fewer, SINCE, 21).fault == "x"
    assert mended(wrong, None, SINCE, 0) == wrong
    assert mended(wrong, replace(fewer, fault="y"), SINCE, 0) == replace(wrong, fault="y", checked_at_ms=NOW)


def test_a_window_ends_at_the_commit_or_at_the_end_of_a_batch():
    assert span(5, 5 + STEP, STEP, None) == 5 + STEP
    assert span(5, 9 * STEP, STEP, (STEP - 7, 100)) == STEP - 7
    assert span(5, 9 * STEP, STEP, (0, 2 * STEP)) == 2 * STEP
    assert span(5, 9 * STEP, STEP, None) == 5 + STEP


def test_a_window_is_read_as_it_was_written():
    row = document(replace(MADE, fault="x"))
    read = {**row, "newest": 7, "occurred": 0, "checked": 1000}
    assert (row["newest_at"], row["checked_at"]) == ("1970-01-01 00:00:00.007", "1970-01-01 00:00:01.000")
    assert parse_window(read) == replace(MADE, fault="x")


def test_rows_of_a_day_that_differ_from_what_was_checked_are_a_no_and_expired_days_are_left_out():
    table = "landing.user_events"
    assert judge_totals(table, {"2026-11-21": 9, "2026-11-01": 3}, [{"2026-11-21": 4}, {"2026-11-21": 5}], SINCE).verdict is Verdict.YES
    fewer, more = judge_totals(table, {"2026-11-21": 8}, [{"2026-11-21": 9}], SINCE), judge_totals(table, {"2026-11-21": 8, "2026-11-22": 1}, [{"2026-11-21": 8}], SINCE)
    assert (fewer.verdict, "2026-11-21 1 rows fewer" in fewer.reason) == (Verdict.NO, True)
    assert (more.verdict, "2026-11-22 1 rows more" in more.reason) == (Verdict.NO, True)
    swapped = judge_totals(table, {"2026-11-21": 8, "2026-11-22": 2}, [{"2026-11-21": 9, "2026-11-22": 1}], SINCE)
    assert swapped.verdict is Verdict.NO
    assert judge_totals(table, None, [], SINCE).verdict is judge_totals(table, {}, None, SINCE).verdict is Verdict.UNKNOWN


def test_a_check_that_is_too_old_is_unknown():
    hour = 3_600_000
    fresh, old = Mark(0, 9, checked_at_ms=100 * hour), Mark(0, 9, checked_at_ms=99 * hour)
    now = 99 * hour + STALE_S * 1000
    assert checked_since_ms({KEY: fresh, ("user-events", 1): old}) == 99 * hour
    assert [judge_age(m, n).verdict for m, n in (({KEY: old}, now), ({KEY: old}, now + 1), ({}, now), (None, now))] == [
        Verdict.YES, Verdict.UNKNOWN, Verdict.YES, Verdict.UNKNOWN]
    assert STALE_S > RECHECK_S


def test_a_mark_whose_windows_have_a_hole_is_not_whole():
    row = {"low": 0, "high": 9, "covered": 9, "by_day": {"2026-11-21": 9}, "newest": 5, "occurred": 0, "checked": 7, "compared": 1, "faults": []}
    assert parse(row) == Mark(0, 9, {"2026-11-21": 9}, 5, None, 7)
    assert parse({**row, "covered": 8}).whole is parse({**row, "covered": 10}).whole is False
    assert parse({**row, "compared": 0}).checked_at_ms is None


def test_what_is_compared_begins_with_a_day():
    assert held_from(1_764_000_000_000) == "2025-11-09"
    assert held({"2025-11-08": 3, "2025-11-09": 4}, "2025-11-09") == 4

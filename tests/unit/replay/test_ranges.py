"""Which offsets a replay is of: what is asked for, what Kafka holds, what has landed."""
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.errors import ContractViolation, SettingsError
from weir.ingest.verify.outcome import Bounds
from weir.replay.ranges import EVERY, Span, asked, between, from_on, offsets, spans, time_ms, within

BOUNDS = {0: Bounds(100, 900, 1000), 1: Bounds(0, 500, 500), 2: Bounds(0, 0, 0)}


def found(first=(), after=(), bounds=BOUNDS):
    return spans(asked(first, after, "", ""), bounds, {}, {}, "user-events")


def test_one_offset_is_of_all_partitions_and_a_named_one_is_of_its_own():
    assert found(["100"], ["600"]) == {0: Span(100, 600), 1: Span(100, 500)}
    assert found(["100", "1:20"], ["600", "1:30"]) == {0: Span(100, 600), 1: Span(20, 30)}
    assert found(["1:20"]) == {1: Span(20, 500)}
    assert found(["1:20"], ["0:300"]) == {0: Span(100, 300), 1: Span(20, 500)}


def test_what_has_not_landed_is_left_out():
    assert found(["200"], ["5000"]) == {0: Span(200, 900), 1: Span(200, 500)}
    assert found([], ["0:950"]) == {0: Span(100, 900)}


def test_what_kafka_no_longer_holds_is_refused_with_what_it_has():
    with pytest.raises(ContractViolation, match=r"no longer holds user-events/0, offsets 30 to 99\. --from-offset 0:100"):
        found(["0:30"])
    with pytest.raises(ContractViolation, match="no longer holds user-events/0"):
        found(["0"])


@pytest.mark.parametrize(("first", "after"), [((), ("0:300",)), (("0:10",), ("0:50",)), (("0",), ())])
def test_a_topic_that_ends_below_the_commit_is_refused_since_its_offsets_may_be_of_other_records(first, after):
    with pytest.raises(ContractViolation, match=r"user-events/0 ends at offset 100, and 900 were committed: it was made anew or lost its end"):
        found(first, after, bounds={0: Bounds(0, 900, 100), 1: Bounds(0, 5, 5)})
    assert found(["1:0"], bounds={0: Bounds(0, 900, 100), 1: Bounds(0, 5, 5)}) == {1: Span(0, 5)}


def test_a_range_with_nothing_in_it_and_a_partition_that_is_not_there_are_refused():
    with pytest.raises(ContractViolation, match="no record that has landed"):
        found(["900"])
    with pytest.raises(SettingsError, match="no partition 7"):
        found(["7:0"])
    with pytest.raises(SettingsError, match="no partition 7"):
        found(["100", "7:0"])


def test_times_are_the_offsets_that_kafka_says_and_to_the_commit_where_it_says_none():
    by_time = asked([], [], "2026-11-30T08:00", "2026-11-30T09:00+01:00")
    assert by_time.since_ms == by_time.until_ms == 1_796_025_600_000
    assert spans(by_time, BOUNDS, {0: 300, 1: 40}, {0: 400}, "t") == {0: Span(300, 400), 1: Span(40, 500)}
    with pytest.raises(ContractViolation, match="no record"):
        spans(by_time, BOUNDS, {}, {}, "t")


@pytest.mark.parametrize("given", [([], [], "", ""), (["1"], [], "2026-11-30", ""), ([], ["1"], "", "2026-11-30")])
def test_a_range_is_of_offsets_or_of_times(given):
    with pytest.raises(SettingsError, match="a range of offsets, or of a range of times"):
        asked(*given)


@pytest.mark.parametrize("text", ["x", "1:", ":1", "-1", "1:-1", "1:2:3", "1.5", ""])
def test_what_is_no_offset_is_told_by_its_option(text):
    with pytest.raises(SettingsError, match=r"--from-offset .* is no OFFSET"):
        offsets("--from-offset", [text])


def test_a_partition_is_named_once():
    with pytest.raises(SettingsError, match="given once"):
        offsets("--to-offset", ["1:2", "1:3"])
    assert offsets("--to-offset", ["9", "1:3"]) == {EVERY: 9, 1: 3}


@pytest.mark.parametrize("text", ["yesterday", "8", "2026-13-01"])
def test_what_is_no_time_is_told(text):
    with pytest.raises(SettingsError, match=f"--since {text} is no time"):
        time_ms("--since", text)


def _holds(condition, *row):
    """Ask SQLite, which reads these conditions as ClickHouse does."""
    with sqlite3.connect(":memory:") as base:
        return bool(base.execute(f"WITH r (topic, partition, offset) AS (SELECT ?, ?, ?) SELECT {condition} FROM r", row).fetchone()[0])


MARKS = st.dictionaries(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 2)), st.integers(0, 9), max_size=6)


@given(MARKS, MARKS, st.sampled_from(["a", "b"]), st.integers(0, 2), st.integers(0, 12))
def test_each_row_is_below_the_marks_between_them_or_past_them_and_in_one_of_these_alone(first, steps, topic, partition, offset):
    later = {k: m + steps.get(k, 0) for k, m in first.items()}
    below, middle, past = (_holds(c, topic, partition, offset) for c in (f"NOT {from_on(first)}", between(first, later), from_on(later)))
    assert [below, middle, past].count(True) == 1
    if (topic, partition) in first:
        assert (below, past) == (offset < first[topic, partition], offset >= later[topic, partition])
    else:
        assert below


def test_a_row_from_before_the_horizon_is_in_no_range():
    assert within("t", {1: Span(2, 5)}, 77) == "(topic = 't' AND produced_at >= fromUnixTimestamp64Milli(77) AND (partition = 1 AND offset >= 2 AND offset < 5))"

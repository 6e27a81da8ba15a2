"""Hours to the slot's limit, from samples of it."""
import json
from dataclasses import replace

from weir.contracts.captured import Captured, State
from weir.quality import growth
from weir.quality.growth import Sample, judge
from weir.quality.judge import Verdict
from weir.quality.pipeline import judge_captured

FIRST = Sample(1000.0, 5_000_000, 1_000_000, 400_000_000)


def test_hours_are_what_is_left_at_the_rate_of_the_samples():
    found = judge([FIRST, Sample(1000.0 + 360, 5_000_000 + 20_000_000, 1_000_000 + 10_000_000, 390_000_000)])
    assert (found.seconds, found.growth_bytes_per_hour, found.wal_bytes_per_hour) == (360.0, 100_000_000, 200_000_000)
    assert (found.hours_to_limit, found.hours_if_stopped) == (3.9, 1.95)


def test_a_slot_that_is_read_as_fast_as_it_is_written_has_no_hour_of_its_end_and_still_a_budget():
    found = judge([FIRST, replace(FIRST, at_s=4600.0, written=FIRST.written + 200_000_000, retained=900_000)])
    assert (found.hours_to_limit, found.hours_if_stopped) == (None, 2.0)
    assert judge([FIRST, replace(FIRST, at_s=4600.0)]).hours_if_stopped is None


def test_without_a_limit_or_a_second_sample_there_are_no_hours():
    assert judge([FIRST]) is None
    assert judge([FIRST, FIRST]) is None
    found = judge([FIRST, Sample(4600.0, 9_000_000, 2_000_000, None)])
    assert (found.hours_to_limit, found.hours_if_stopped) == (None, None)


def test_the_watchers_samples_are_kept_for_minutes_and_a_broken_file_is_none(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(growth.time, "time", lambda: 2000.0)
    for at in (1000.0, 1500.0, 1900.0):
        growth.keep(tmp_path, replace(FIRST, at_s=at))
    assert [s.at_s for s in growth.kept(tmp_path)] == [1500.0, 1900.0]
    (tmp_path / "run" / growth.FILE).write_text(json.dumps([{"x": 1}]))
    assert growth.kept(tmp_path) == []


def test_a_table_that_a_change_stopped_is_wrong_and_one_that_a_command_stopped_is_not_known():
    flows = Captured("users", "public.users", State.CAPTURING, (), frozenset())
    by_schema = flows.to(State.PAUSED, why="age dropped", by="schema")
    by_hand, building = flows.to(State.PAUSED, why="x", by="operator"), flows.to(State.RESYNCING, why="y")
    assert [(c.verdict, c.reason) for c in judge_captured([flows, by_schema, by_hand, building])] == [
        (Verdict.NO, "paused: age dropped"), (Verdict.UNKNOWN, "paused: x"), (Verdict.UNKNOWN, "resyncing: y")]
    assert [c.verdict for c in judge_captured(None)] == [Verdict.UNKNOWN]

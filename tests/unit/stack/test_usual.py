"""A phase tells its time to go by the last time that it ended well; what is kept of that is never in the way."""
import threading

import pytest

from weir.stack import usual


def test_the_time_to_go_is_by_the_last_time_and_a_first_one_tells_its_seconds():
    assert usual.so_far(12.3, None) == "12 s so far"
    assert usual.so_far(12.3, 30.0) == "12 s so far, about 18 s to go (as the last time)"
    assert usual.so_far(31, 30.0) == "31 s so far (30 s the last time)"


def test_a_rate_is_told_once_there_is_one():
    assert usual.counted(3, 12, 12.0) == "15 a minute, about 36 s to go"
    assert usual.counted(1500, 4500, 1.0) == "1,500.0/s, about 2 s to go"
    assert [usual.counted(0, 12, 12.0), usual.counted(3, 12, 0.0)] == ["", ""]


def test_what_is_left_is_told_with_the_rate_at_which_it_grows_less_and_the_time_to_go():
    times = iter([0.0, 4.0, 8.0, 9.0])
    rows = usual.Lessening(lambda: next(times))
    assert [rows.to_go(left) for left in (100, 80, 100, 0)] == ["", "5.0/s, about 16 s to go", "", ""]


def test_a_line_is_handed_on_now_and_then_and_not_at_once():
    times, said = iter([0.0, 1.0, 6.0, 10.0, 12.0]), []
    tell = usual.sparing(said.append, 5.0, lambda: next(times))
    for line in "abcd":
        tell(line)
    assert said == ["b", "d"]


def test_what_a_phase_took_is_kept_when_it_ended_well(tmp_path):
    with usual.phase(tmp_path, "a", lambda _: None) as now:
        assert now.last_s is None
    assert usual.last(tmp_path, "a") < 60
    usual.keep(tmp_path, "a", 7.04)
    with pytest.raises(KeyboardInterrupt), usual.phase(tmp_path, "a", lambda _: None):
        raise KeyboardInterrupt
    with usual.phase(tmp_path, "a", lambda _: None) as now:
        now.well = False
    usual.keep(tmp_path, "b", 3)
    assert (usual.last(tmp_path, "a"), usual.last(tmp_path, "b")) == (7.0, 3.0)
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["usual.json"]


def test_a_phase_is_told_while_it_runs(tmp_path):
    usual.keep(tmp_path, "a", 90)
    told, said = threading.Event(), []
    with usual.phase(tmp_path, "a", lambda line: said.append(line) or told.set(), 0.01):
        assert told.wait(10)
    assert said[0] == "0 s so far, about 90 s to go (as the last time)"


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"a": "x"}', '{"a": NaN}', '{"a": -1}', '{"a": [1]}', "\udcff"])
def test_a_record_that_is_none_is_ignored_and_made_anew(tmp_path, text):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / usual.FILE).write_bytes(text.encode(errors="surrogateescape"))
    assert usual.last(tmp_path, "a") is None
    usual.keep(tmp_path, "a", 2)
    assert usual.last(tmp_path, "a") == 2.0


def test_a_home_that_takes_no_record_is_no_trouble(tmp_path):
    (tmp_path / "run").write_text("a file")
    with usual.phase(tmp_path, "a", lambda _: None):
        pass
    assert usual.last(tmp_path, "a") is None

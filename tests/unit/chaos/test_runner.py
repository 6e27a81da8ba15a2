"""The verdict over journals that Chaos Toolkit itself wrote: the experiments are run, only the stack under them is played."""
from pathlib import Path

import pytest

from weir.chaos import actions, runner
from weir.chaos.load import Journal
from weir.chaos.progress import Progress
from weir.errors import Undecided
from weir.quality import recovery

ROOT = Path(__file__).resolve().parents[3]
EXPERIMENT = "kill-kafka-broker"


class Played:
    """Stands where the load, the services and ClickHouse would: `rows` of each event, `ready` at each asking."""

    def __init__(self):
        self.journal = Journal("r", {"r-1", "r-2"})
        self.rows = {"r-1": 1, "r-2": 1}
        self.steady = {"s-1": 1}  # what is found of the short load before the fault
        self.ready = lambda: True
        self.broken = self.ended = False
        self.counted = 0

    def answer(self):
        return {"kafka": self.ready()}

    over = True

    def end(self):
        self.ended = True

    def start(self):
        assert not self.broken

    def finish(self, _wait_s):
        return self.journal if self.ended else Journal("s", {"s-1"})

    def count(self, _url, _table, run):
        if run == "s":
            return self.steady
        self.counted += 1
        if isinstance(self.rows, Exception):
            raise self.rows
        return self.rows

    def signal(self, service, signal_name):
        self.broken = True
        actions.broken.append(service)


@pytest.fixture
def played(monkeypatch):
    made = Played()
    monkeypatch.setattr(actions, "SETTLE_S", 0)
    monkeypatch.setattr(actions, "NOW_S", 0)
    monkeypatch.setattr(actions, "AGAIN_S", 0)
    monkeypatch.setattr(actions, "Load", lambda *_, **__: made)
    monkeypatch.setattr(actions, "start_load", lambda rate: actions._loads.append(made))
    monkeypatch.setattr(actions, "pause", lambda seconds: None)
    monkeypatch.setattr(actions, "signal_service", made.signal)
    monkeypatch.setattr(actions, "count", made.count)
    monkeypatch.setattr(actions, "ready", made.answer)
    monkeypatch.setattr(actions.Endpoints, "from_environment", classmethod(lambda cls: cls.local()))
    return made


def _run(tmp_path, say=lambda _line: None):
    evidence = runner.run(ROOT, tmp_path, EXPERIMENT, say)
    return evidence["verdict"], evidence["reason"]


def test_every_event_counted_once_after_the_fault_is_a_yes(played, tmp_path):
    assert _run(tmp_path) == ("yes", "")
    assert played.broken


def test_a_stack_that_is_down_before_the_fault_is_unknown_and_nothing_is_broken(played, tmp_path):
    played.ready = lambda: False
    verdict, reason = _run(tmp_path)
    assert verdict == "unknown"
    assert "before the fault" in reason
    assert not played.broken


@pytest.mark.parametrize("steady", [{}, {"s-1": 2}])
def test_what_counts_wrong_before_the_fault_is_unknown_and_nothing_is_broken(played, tmp_path, steady):
    played.steady = steady
    verdict, reason = _run(tmp_path)
    assert verdict == "unknown"
    assert "before the fault" in reason
    assert not played.broken


def test_the_evidence_tells_whether_anything_was_broken(played, tmp_path):
    played.ready = lambda: False
    assert runner.run(ROOT, tmp_path, EXPERIMENT)["broken"] == 0
    played.ready = lambda: not played.broken
    assert runner.run(ROOT, tmp_path, EXPERIMENT)["broken"] == 1
    assert runner.run(ROOT, tmp_path, EXPERIMENT)["broken"] == 0


def test_a_service_that_does_not_come_back_is_never_a_yes(played, tmp_path):
    played.ready = lambda: not played.broken
    verdict, reason = _run(tmp_path)
    assert verdict == "unknown"
    assert "back: " in reason


def test_a_service_that_goes_away_again_after_the_method_is_a_no(played, tmp_path):
    answers = iter([True, True, False])
    played.ready = lambda: next(answers)
    assert _run(tmp_path) == ("no", "the steady state did not come back after the fault: services-ready")


def test_a_count_that_could_not_be_made_is_unknown_although_the_journal_says_deviated(played, tmp_path):
    played.rows = OSError("ClickHouse is away")
    verdict, reason = _run(tmp_path)
    assert verdict == "unknown"
    assert "ClickHouse is away" in reason


def test_an_undecided_fault_is_unknown(played, tmp_path, monkeypatch):
    def refuses(service, signal_name):
        raise Undecided(f"{service} has no process to signal")

    monkeypatch.setattr(actions, "signal_service", refuses)
    verdict, reason = _run(tmp_path)
    assert verdict == "unknown"
    assert "kafka has no process" in reason


@pytest.mark.parametrize("rows", [{"r-1": 1}, {"r-1": 1, "r-2": 2}])
def test_a_lost_and_a_doubled_event_are_a_no(played, tmp_path, rows):
    played.rows = rows
    verdict, reason = _run(tmp_path)
    assert verdict == "no"
    assert "landing.user_events" in reason


def test_a_run_that_counted_nothing_is_unknown(played, tmp_path, monkeypatch):
    monkeypatch.setattr(actions, "journal_matches_tables", lambda: True)
    assert _run(tmp_path) == ("unknown", "no table was counted against the journal")


def test_a_run_that_produced_nothing_is_unknown(played, tmp_path):
    played.journal = Journal("r")
    assert _run(tmp_path)[0] == "unknown"


def test_a_double_that_comes_after_the_tables_were_complete_is_a_no(played, tmp_path, monkeypatch):
    monkeypatch.setattr(actions, "count", lambda *_: played.count(*_) | ({"r-1": 2} if played.counted > 2 else {}))
    assert _run(tmp_path)[0] == "no"


def test_an_experiment_whose_load_was_not_acknowledged_after_the_fault_is_unknown(played, tmp_path, monkeypatch):
    monkeypatch.setattr(actions, "signal_service", lambda service, signal_name: actions.results.append({"fault": signal_name, "acknowledged": 2}))
    verdict, reason = _run(tmp_path)
    assert (verdict, "no event was acknowledged after the fault" in reason) == ("unknown", True)


def test_every_step_is_told_and_what_failed_with_its_reason(played, tmp_path):
    lines = []
    played.rows = OSError("ClickHouse is away")
    _run(tmp_path, lines.append)
    said = "\n".join(lines)
    for word in ("before the fault", "services-ready", "kill (service kafka, signal_name SIGKILL)", "after the fault", "could not be done", "ClickHouse is away"):
        assert word in said


def test_the_evidence_says_which_code_it_speaks_of(played, tmp_path):
    evidence = runner.run(ROOT, tmp_path, EXPERIMENT)
    assert evidence["commit"] == runner.commit(ROOT)
    assert runner.commit(tmp_path) == ""


def test_each_step_tells_which_it_is_of_how_many_and_after_a_whole_run_the_time_to_go(played, tmp_path):
    first, second = [], []
    _run(tmp_path, first.append)
    assert "no whole run of it is on record" in first[0]
    said = [line.split("step ")[1].split(":")[0] for line in first if "step " in line]
    assert said == [f"{n} of 9" for n in range(1, 10)]  # two probes, five actions, two probes
    assert not any("to go)" in line for line in first)
    kept = next((tmp_path / "evidence").glob("*.json"))
    kept.write_text(kept.read_text().replace('"seconds": ', '"seconds": 6'))  # 60 s and more
    _run(tmp_path, second.append)
    assert "the last whole run took 6" in second[0]
    assert all("(about 5" in line or "(about 6" in line for line in second if "step " in line)


def test_a_run_that_shows_nothing_tells_no_time(played, tmp_path):
    played.ready = lambda: False
    _run(tmp_path)
    assert recovery.usual_s(tmp_path, EXPERIMENT) is None
    played.ready = lambda: True
    _run(tmp_path)
    assert recovery.usual_s(tmp_path, EXPERIMENT) is not None


def test_a_step_past_the_usual_time_promises_none():
    lines, now = [], iter([0.0, 70.0])
    Progress(lines.append, 9, 60.0, lambda: next(now)).tell("counting")
    assert lines == ["  70.0 s  counting (longer than the 60 s of the last whole run)"]


def test_a_wait_tells_how_much_is_there_how_fast_and_the_time_to_go(monkeypatch):
    lines, met = [], iter([False, True])
    monkeypatch.setattr(actions, "TELL_S", 0.0)
    monkeypatch.setattr(actions, "say", [lines.append])
    assert actions._until("the events in t", lambda: next(met), 60, 0.01, lambda seconds: actions._far(0, 400, seconds))
    assert lines[0].startswith("    waiting for the events in t: 0 of 400, at most ")
    assert actions._far(100, 400, 5.0) == ": 100 of 400, 20.0/s, about 15 s to go"


def test_a_wait_for_the_services_names_those_that_do_not_answer_yet(monkeypatch):
    lines, answers = [], iter([{"kafka": False, "redis": True}, {"kafka": True, "redis": True}])
    monkeypatch.setattr(actions, "TELL_S", 0.0)
    monkeypatch.setattr(actions, "say", [lines.append])
    monkeypatch.setattr(actions, "ready", lambda: next(answers))
    actions.wait_until_ready()
    assert "waiting for every service to answer: 1 of 2 do, not yet kafka, at most " in lines[0]

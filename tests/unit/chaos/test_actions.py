"""A fault strikes only where it shows something: under load, and an ingest worker only in the middle of a batch. Processes are real."""
import subprocess
import sys

import psutil
import pytest

from weir.chaos import actions
from weir.chaos.batch import Open
from weir.chaos.load import Load
from weir.errors import Undecided

DECLARED, LANDED = Open("t1", 60, 0), Open("t1", 60, 60)


class _Load:
    idle = ""

    def __init__(self):
        self.journal = type("J", (), {"acknowledged": {"a"}})


@pytest.fixture
def worker(monkeypatch):
    """Processes that stand where the supervisor's worker would: a killed one is followed by another."""
    started = []

    def current(_service):
        if not started or started[-1].poll() is not None:
            started.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]))
        return psutil.Process(started[-1].pid)

    monkeypatch.setattr(actions, "_process", current)
    monkeypatch.setattr(actions, "SETTLE_S", 20)
    monkeypatch.setattr(actions, "_loads", [_Load()])
    monkeypatch.setattr(actions, "results", [])
    monkeypatch.setattr(actions, "broken", [])
    monkeypatch.setattr(actions.Endpoints, "from_environment", classmethod(lambda cls: cls.local()))
    monkeypatch.setattr(actions.batch, "lane", lambda *_: {"batches": 1})
    yield started
    for process in started:
        process.kill()
        process.wait()


def _answers(monkeypatch, looks, after):
    looks, after = iter(looks), iter(after)
    monkeypatch.setattr(actions.batch, "look", lambda *_: next(looks))
    monkeypatch.setattr(actions.batch, "declared", lambda *_: next(after))


def test_a_worker_is_killed_only_where_a_batch_is_open_in_the_wanted_phase(worker, monkeypatch):
    _answers(monkeypatch, [None, LANDED, DECLARED], [DECLARED])
    assert actions.kill_mid_batch("declared") == worker[0].pid
    assert not psutil.pid_exists(worker[0].pid)
    noted = actions.results[-1]
    assert actions.broken == [str(noted["pid"])]
    assert (noted["phase"], noted["rows"], noted["landed"], noted["attempts"]) == ("declared", 60, 0, 3)


def test_a_kill_that_a_commit_on_its_way_overtook_is_done_again(worker, monkeypatch):
    _answers(monkeypatch, [LANDED, LANDED], [None, LANDED])
    assert actions.kill_mid_batch("landed") == worker[1].pid
    assert len(actions.results) == 1
    assert len(actions.broken) == 2


def test_a_worker_that_is_never_met_in_the_phase_goes_on_and_the_fault_is_undecided(worker, monkeypatch):
    monkeypatch.setattr(actions, "SETTLE_S", 0)
    _answers(monkeypatch, [LANDED], [])
    with pytest.raises(Undecided, match="not met with a batch declared"):
        actions.kill_mid_batch("declared")
    assert psutil.Process(worker[0].pid).status() != psutil.STATUS_STOPPED


def test_a_batch_that_only_the_worker_before_declared_is_not_its_own(worker, monkeypatch):
    monkeypatch.setattr(actions, "SETTLE_S", 0)
    monkeypatch.setattr(actions.batch, "lane", lambda *_: {"batches": 0})
    _answers(monkeypatch, [], [])
    with pytest.raises(Undecided):
        actions.kill_mid_batch("declared")
    assert worker == []


def test_a_look_that_fails_leaves_the_worker_running(worker, monkeypatch):
    def fails(*_):
        raise OSError("ClickHouse is away")

    monkeypatch.setattr(actions.batch, "look", fails)
    with pytest.raises(OSError, match="away"):
        actions.kill_mid_batch("declared")
    assert psutil.Process(worker[0].pid).status() != psutil.STATUS_STOPPED


@pytest.mark.parametrize("fault", [lambda: actions.signal_service("kafka", "SIGKILL"), lambda: actions.kill_mid_batch("declared")])
def test_a_fault_without_load_is_undecided_and_strikes_nobody(worker, monkeypatch, fault):
    actions._process("kafka")
    for loads in ([], [Load("127.0.0.1:1")]):
        monkeypatch.setattr(actions, "_loads", loads)
        with pytest.raises(Undecided, match="so the fault would find none under way"):
            fault()
    assert worker[0].poll() is None
    assert actions.broken == []


def test_a_killed_service_has_ended_when_the_next_step_begins(worker):
    pid = actions.signal_service("kafka", "SIGKILL")
    assert not psutil.pid_exists(pid)
    assert actions.results[-1]["acknowledged"] == 1
    assert actions.broken == ["kafka"]


def test_a_load_that_came_to_its_limit_or_is_no_longer_acknowledged_says_so(monkeypatch):
    load = Load("127.0.0.1:1", limit=10)
    monkeypatch.setattr(load._thread, "is_alive", lambda: True)
    assert "no event was acknowledged" in load.idle
    monkeypatch.setattr("weir.chaos.load.time.monotonic", lambda: 1.0)
    load.acknowledged_at_s = 0.5
    assert load.idle == ""
    load._sent = 10
    assert "ended after 10 events" in load.idle


def test_a_load_that_broke_has_no_whole_journal(monkeypatch):
    load = Load("127.0.0.1:1")
    monkeypatch.setattr(load, "_run", lambda: 1 / 0)
    load.start()
    with pytest.raises(Undecided, match="not whole"):
        load.finish()


def test_a_worker_that_replays_nothing_after_the_kill_is_undecided(worker, monkeypatch):
    monkeypatch.setattr(actions, "SETTLE_S", 0)
    monkeypatch.setattr(actions, "ready", lambda: {"kafka": True})
    monkeypatch.setattr(actions.batch, "lane", lambda *_: {"replays": 0})
    with pytest.raises(Undecided, match="replayed no batch"):
        actions.wait_until_replayed()

"""A restart that fails says so as a start does: soon, and with what the log says."""
import pytest

from weir.errors import ServiceFailed
from weir.stack import restarting, services, settings, starting, supervision
from weir.stack.supervision import ProcessState


@pytest.fixture
def configured(tmp_path):
    return settings.load({"WEIR_HOME": str(tmp_path / "home"), "WEIR_ROOT": str(tmp_path), "WEIR_PORT_BASE": "30000"})


@pytest.fixture
def supervised(configured, monkeypatch):
    """Give the states that the supervisor tells of a service, one a look; none of its probes is answered until it is `answering`."""

    def of(name, states, *, answering=False):
        log = services.log_path(configured.home, name)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("starting\nno such option at line 3\nexiting\n")
        told = iter(states)
        monkeypatch.setattr(supervision.Control, "stop", lambda *_: None)
        monkeypatch.setattr(supervision.Control, "start", lambda *_: None)
        monkeypatch.setattr(supervision.Control, "states", lambda _: {name: next(told)})
        monkeypatch.setattr(starting.probe, "ready", lambda *_: answering)
        monkeypatch.setattr(restarting, "EVERY_S", 0)

    return of


def test_a_service_that_dies_at_its_restart_is_told_after_some_deaths_with_its_log_and_not_after_its_slow_start(configured, supervised):
    said = []
    supervised("kafka", [ProcessState("kafka", "BACKOFF", 0, began, "") for began in range(starting.DEATHS)])
    with pytest.raises(ServiceFailed, match=r"kafka ended at its start; its log .*kafka\.log ends with: starting \| no such option at line 3 \| exiting") as failed:
        restarting.restart(configured, "kafka", lambda *words: said.append(words))
    assert "\n" not in str(failed.value)
    assert said == [("kafka", "stopping"), ("kafka", "starting"), ("kafka", "ended at its start, trying again: exiting")]


def test_a_service_that_died_once_and_then_answers_is_restarted(configured, supervised):
    said = []
    supervised("kafka", [ProcessState("kafka", "BACKOFF", 0, 1, ""), ProcessState("kafka", "RUNNING", 9, 2, "")], answering=True)
    restarting.restart(configured, "kafka", lambda *words: said.append(words))
    assert said[-1][1].startswith("ready in ")


def test_a_companion_that_dies_at_its_restart_is_told_with_its_log(configured, supervised):
    supervised("quality", [ProcessState("quality", "STARTING", 7, 1, ""), ProcessState("quality", "BACKOFF", 0, 1, "")])
    with pytest.raises(ServiceFailed, match=r"quality ended at its start; its log .* no such option at line 3"):
        restarting.restart(configured, "quality", lambda *_: None)

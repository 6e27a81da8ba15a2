"""However the demo ends, it ends the stack that it started, and no other."""
import errno
import os
import signal
from dataclasses import asdict

import psutil
import pytest
from typer.testing import CliRunner

from weir.cli.app import app
from weir.contracts.endpoints import Endpoints
from weir.demo import story
from weir.errors import Terminal
from weir.stack import lifecycle, supervision


def _up(*, ours, then=None):
    """An `up` that starts nothing."""

    def up(_settings, _report, started):
        started.ours, started.supervisor = ours, psutil.Process()
        if then:
            raise then

    return up


@pytest.fixture
def ended(monkeypatch, tmp_path):
    """The demo with a stack that is none; returns what was ended, and how signals stood then."""
    seen = []
    monkeypatch.setenv("WEIR_HOME", str(tmp_path))
    before = dict(os.environ)
    monkeypatch.setattr(lifecycle, "up", _up(ours=True))
    monkeypatch.setattr(lifecycle, "down", lambda *_: seen.append([signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]))
    yield seen
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.parametrize("raised", [KeyError("odd"), OSError(errno.ENOSPC, "no space"), Terminal("wrong"), KeyboardInterrupt()])
@pytest.mark.parametrize("where", ["up", "story"])
def test_the_stack_is_ended_whatever_was_raised_and_no_signal_stops_that(ended, monkeypatch, raised, where):
    def fail(*_, **__):
        raise raised

    monkeypatch.setattr(*((lifecycle, "up", _up(ours=True, then=raised)) if where == "up" else (story, "run", fail)))
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    done = CliRunner().invoke(app, ["demo", "--json"])
    assert done.exit_code != 0
    assert ended == [[signal.SIG_IGN, signal.SIG_IGN]]
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
    if isinstance(raised, KeyError | OSError):
        assert done.exception is raised


def test_the_screen_shows_where_every_part_is_and_no_password(ended, monkeypatch, tmp_path):
    shown = []
    settings = tmp_path / "weir.toml"
    settings.write_text('[endpoints]\nclickhouse_url = "http://me:hushhush@db.example:8123"\n')
    monkeypatch.setenv("WEIR_SETTINGS", str(settings))
    monkeypatch.setenv("WEIR_PORT_BASE", "17000")

    def told(_endpoints, _home, screen, **_):
        screen.print = shown.append
        monkeypatch.setattr("weir.cli.demo.time.sleep", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))

    monkeypatch.setattr(story, "run", told)
    CliRunner().invoke(app, ["demo"])
    told = dict(line.split(maxsplit=1) for line in shown[0].splitlines() if line)
    assert told["clickhouse"] == "http://db.example:8123"
    places = asdict(Endpoints.local(17000))
    assert {name.rpartition("_")[0] for name in places} <= set(told)
    assert told["dashboard"] == places["dashboard_url"]
    assert told["postgres"] == "postgresql://127.0.0.1:17001/shop"
    assert "hushhush" not in shown[0]


@pytest.mark.parametrize("raised", [None, Terminal("wrong"), KeyboardInterrupt(), KeyError("odd")])
def test_a_stack_that_ran_before_is_left_running_and_said_so(ended, monkeypatch, raised):
    def story_of_one_line(*_, **__):
        if raised:
            raise raised

    monkeypatch.setattr(lifecycle, "up", _up(ours=False))
    monkeypatch.setattr(story, "run", story_of_one_line)
    done = CliRunner().invoke(app, ["demo", "--exit"])
    assert ended == []
    assert "left running, since the demo found it running: ./weir down ends it" in done.output
    assert (done.exit_code == 0) is (raised is None)


@pytest.mark.parametrize("started_since", [False, True])
@pytest.mark.parametrize("ours", [False, True])
def test_a_waiting_demo_notices_that_its_stack_was_ended_elsewhere(ended, monkeypatch, ours, started_since):
    gone = iter([False, False, True])
    monkeypatch.setattr(lifecycle, "up", _up(ours=ours))
    monkeypatch.setattr(lifecycle.Started, "ended", property(lambda _: next(gone, True)))
    monkeypatch.setattr(story, "run", lambda *_, **__: None)
    monkeypatch.setattr("weir.cli.demo.POLL_S", 0)
    monkeypatch.setattr(supervision.Control, "alive", lambda _: started_since)
    done = CliRunner().invoke(app, ["demo"])
    assert done.exit_code == 1
    assert "the stack was ended elsewhere" in done.output
    assert len(ended) == (ours and not started_since)  # what a killed supervisor left is swept; a stack that someone started since is not ours


def test_a_supervisor_that_has_ended_is_seen_by_its_process_and_not_by_a_number():
    child = psutil.Popen(["sleep", "60"])
    started = lifecycle.Started(ours=True, supervisor=child)
    assert not started.ended
    child.kill()
    while child.status() != psutil.STATUS_ZOMBIE:
        pass
    assert started.ended
    child.wait()
    assert started.ended
    assert not lifecycle.Started().ended

"""However the demo ends, it ends the stack."""
import errno
import os
import signal

import pytest
from typer.testing import CliRunner

from weir.cli.app import app
from weir.demo import story
from weir.errors import Terminal
from weir.stack import lifecycle


@pytest.fixture
def ended(monkeypatch, tmp_path):
    """The demo with a stack that is none; returns what was ended, and how signals stood then."""
    seen = []
    monkeypatch.setenv("WEIR_HOME", str(tmp_path))
    before = dict(os.environ)
    monkeypatch.setattr(lifecycle, "up", lambda *_: 0.0)
    monkeypatch.setattr(lifecycle, "down", lambda *_: seen.append([signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]))
    yield seen
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.parametrize("raised", [KeyError("odd"), OSError(errno.ENOSPC, "no space"), Terminal("wrong"), KeyboardInterrupt()])
@pytest.mark.parametrize("where", ["up", "story"])
def test_the_stack_is_ended_whatever_was_raised_and_no_signal_stops_that(ended, monkeypatch, raised, where):
    def fail(*_, **__):
        raise raised

    monkeypatch.setattr(*((lifecycle, "up", fail) if where == "up" else (story, "run", fail)))
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    done = CliRunner().invoke(app, ["demo", "--json"])
    assert done.exit_code != 0
    assert ended == [[signal.SIG_IGN, signal.SIG_IGN]]
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
    if isinstance(raised, KeyError | OSError):
        assert done.exception is raised


def test_the_screen_shows_no_password(ended, monkeypatch, tmp_path):
    shown = []
    settings = tmp_path / "weir.toml"
    settings.write_text('[endpoints]\nclickhouse_url = "http://me:hushhush@db.example:8123"\n')
    monkeypatch.setenv("WEIR_SETTINGS", str(settings))

    def told(_endpoints, _home, screen, **_):
        screen.print = shown.append
        monkeypatch.setattr("weir.cli.app.time.sleep", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))

    monkeypatch.setattr(story, "run", told)
    CliRunner().invoke(app, ["demo"])
    assert "clickhouse http://db.example:8123" in shown[0]
    assert "hushhush" not in shown[0]

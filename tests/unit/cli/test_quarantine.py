"""`./weir quarantine replay` and `discard` beside a replay of a range."""
import getpass
import json
import re
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from weir.capture.register import turn
from weir.cli import quarantine
from weir.errors import Terminal, Unavailable
from weir.ingest import replay
from weir.ingest.quarantine import Place, State


class Desk:
    """A quarantine that notes what is done to it."""

    def __init__(self, home):
        self.found, self.done = SimpleNamespace(home=home, endpoints=SimpleNamespace(kafka_bootstrap="")), []

    @contextmanager
    def open(self):
        yield self, self.found

    def entry(self, _place):
        return SimpleNamespace(state=State.OPEN)

    def record(self, place, action):
        self.done.append((str(place), action.action))

    def verdict(self, _place):
        return ""

    def session(self, *_where):
        return self

    def run(self, place, _who, _why):
        self.done.append((str(place), "replay"))
        return replay.Replayed(Place(place.topic, place.partition, 99), again=False)


@pytest.fixture
def desk(tmp_path, monkeypatch):
    made = Desk(tmp_path)
    monkeypatch.setattr(quarantine, "_desk", made.open)
    monkeypatch.setattr(quarantine, "TURN_S", 0.0)
    monkeypatch.setattr(replay, "Replay", made.session)
    monkeypatch.setattr("weir.ingest.quarantine.allow", lambda _entry, _action: None)
    return made


@pytest.mark.parametrize("act", ["replay", "discard"])
def test_nothing_is_replayed_or_discarded_while_a_range_is_replayed_which_has_looked_already(desk, tmp_path, act):
    def command():
        if act == "discard":
            quarantine.discard(["user-events/3/17"], why="a test")
            return
        with pytest.raises(quarantine.typer.Exit) as told:
            quarantine.replay_(["user-events/3/17"], why="a test")
        assert told.value.exit_code == 0

    with turn(tmp_path), pytest.raises(Unavailable, match=r"replay or quarantine command.*run it again when it is done"):
        command()
    assert desk.done == []
    command()
    assert desk.done == [("user-events/3/17", act)]


def test_of_many_it_says_how_many_are_replayed_and_the_time_to_go_with_json_too(desk, monkeypatch, capsys):
    monkeypatch.setattr(quarantine.outcome, "REPORT_S", -1)
    with pytest.raises(quarantine.typer.Exit):
        quarantine.replay_(["user-events/3/17", "user-events/3/18"], why="a test", as_json=True)
    said = capsys.readouterr()
    assert len(json.loads(said.out)) == 2
    assert re.search(r"  1 of 2 replayed, [\d,.]+/s, about 0 s to go\n", said.err)


def test_a_correction_is_corrected_further_when_the_record_itself_is_gone(desk, monkeypatch, capsys):
    def gone(*_):
        raise Terminal("user-events/3/17 is no longer in Kafka")

    monkeypatch.setattr(replay, "original", gone)
    monkeypatch.setattr(desk, "entry", lambda _place: SimpleNamespace(state=State.FIXED, fixed=b'{"country":"de"}'))
    quarantine.fix("user-events/3/17", why="a test", field=["country=DE"])
    assert desk.done == [("user-events/3/17", "fix")]
    assert "would be refused again: missing_field" in " ".join(capsys.readouterr().err.split())
    monkeypatch.setattr(desk, "entry", lambda _place: SimpleNamespace(state=State.OPEN, fixed=None))
    with pytest.raises(Terminal, match="no longer in Kafka"):
        quarantine.fix("user-events/3/17", why="a test", field=["country=DE"])
    assert len(desk.done) == 1


@pytest.mark.parametrize("act", [("discard",), ("replay",), ("fix", "--set", "country=DE")])
@pytest.mark.parametrize("why", ["", "  "])
def test_no_audit_row_is_without_a_reason(desk, act, why):
    told = CliRunner().invoke(quarantine.quarantine_app, [act[0], "user-events/3/17", *act[1:], "--why", why])
    assert told.exit_code == 2
    assert "an audit row needs a reason" in " ".join(told.output.split())
    assert desk.done == []


def test_an_audit_row_says_who_also_where_the_user_has_no_name(monkeypatch):
    def nameless():
        raise KeyError("getpwuid(): uid not found: 12345")

    assert quarantine._by("") == getpass.getuser()
    assert quarantine._by("ann") == "ann"
    monkeypatch.setattr(getpass, "getuser", nameless)
    monkeypatch.setattr(quarantine.os, "getuid", lambda: 12345)
    assert (quarantine._by(" "), quarantine._by("ann")) == ("uid 12345", "ann")

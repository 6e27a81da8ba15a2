"""The plain commands: what they print, and how they refuse."""
import json
import subprocess
import sys
from pathlib import Path

import pytest

from weir.cli import locks, outcome
from weir.cli.app import app
from weir.contracts.path import PATH
from weir.errors import ServiceFailed, Unavailable
from weir.stack import restarting, services, settings, supervision
from weir.stack.supervision import ProcessState

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def typed(monkeypatch, tmp_path, capsys):
    """Type a command on a machine without a stack; return (exit code, standard output, standard error)."""

    def run(*words):
        for name, value in {"WEIR_HOME": str(tmp_path / "home"), "WEIR_ROOT": str(ROOT), "WEIR_PORT_BASE": "30000"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["weir", *words])
        code = outcome.run_app(app)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_the_path_is_told_as_the_contract_has_it(typed):
    code, out, _ = typed("path", "--json")
    assert code == 0
    assert [(s["name"], s["services"], s["folder"]) for s in json.loads(out)] == [(s.name, list(s.services), s.folder) for s in PATH]


def test_the_path_without_a_stack_says_what_it_could_not_ask(typed):
    code, out, err = typed("path")
    assert (code, "without tables that were added" in err, "ingest" in out) == (0, True, True)


def test_the_doctor_tells_each_finding_and_exits_by_whether_a_stack_could_start(typed):
    code, out, _ = typed("doctor", "--json")
    found = json.loads(out)
    assert {"what", "ok", "remedy", "state"} == set(found[0])
    assert any("data set" in f["what"] or "disk" in f["what"] for f in found)
    assert code == (0 if all(f["ok"] for f in found) else 1)


def test_logs_and_restart_know_the_same_names(typed):
    for command in ("logs", "restart"):
        code, _, err = typed(command, "qualty")
        assert code == 1
        assert "Did you mean quality?" in err
        assert err.count("\n") == 1


@pytest.fixture
def configured(tmp_path):
    return settings.load({"WEIR_HOME": str(tmp_path / "home"), "WEIR_ROOT": str(ROOT), "WEIR_PORT_BASE": "30000"})


@pytest.mark.parametrize(("states", "ends_well"), [(["STARTING", "RUNNING"], True), (["STARTING", "BACKOFF"], False)])
def test_a_companion_is_restarted_and_is_ready_once_its_start_has_lasted(configured, monkeypatch, states, ends_well):
    assert "quality" in services.names(configured)
    told, asked = iter(states), []
    monkeypatch.setattr(supervision.Control, "stop", lambda _, name: asked.append(f"stop {name}"))
    monkeypatch.setattr(supervision.Control, "start", lambda _, name: asked.append(f"start {name}"))
    monkeypatch.setattr(supervision.Control, "states", lambda _: {"quality": ProcessState("quality", next(told), 7, 0, "")})
    said = []
    if ends_well:
        restarting.restart(configured, "quality", lambda *words: said.append(words))
        assert said[-1] == ("quality", "ready")
    else:
        with pytest.raises(ServiceFailed, match=r"quality ended at its start.*logs quality"):
            restarting.restart(configured, "quality", lambda *words: said.append(words))
    assert asked == ["stop quality", "start quality"]


def test_a_lock_without_a_network_is_refused_in_one_line_and_stays_as_it_was(tmp_path, monkeypatch):
    (tmp_path / "runtime.lock").write_text("old")

    def fails(command, **_):
        return subprocess.CompletedProcess(command, 2, "", "error: Failed to fetch: `https://example.invalid/simple/x/`\n  Caused by: error sending request\n  ╰─▶ dns error\n")

    monkeypatch.setattr(locks.subprocess, "run", fails)
    with pytest.raises(Unavailable) as failed:
        locks.make(tmp_path, lambda *_: None)
    said = outcome.line(failed.value)
    assert said.startswith("requirements/runtime.lock could not be made: error: Failed to fetch: `https://example.invalid/simple/x/`; dns error. it needs a network")
    assert "\n" not in said
    assert (tmp_path / "runtime.lock").read_text() == "old"

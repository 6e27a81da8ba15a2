"""`./weir doctor` answers while there is no environment: all that is missing at once, each with how to get it."""
import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from weir.cli import bare
from weir.stack import examine

ROOT = Path(__file__).resolve().parents[3]


def _findings(base, monkeypatch, *, unfit="", stopped=None, registry=0):
    monkeypatch.setattr(bare.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, registry if "index" in command else 0))
    return bare.examine(base, unfit, stopped, "uv", 1 << 20)


def _missing(findings):
    return [f["what"] for f in findings if not f["ok"]]


def test_without_an_environment_doctor_answers_and_makes_none(tmp_path):
    """Nothing listens on the registry's port: the answer has to come all the same, with the rest."""
    env = {"PATH": os.environ["PATH"], "WEIR_HOME": str(tmp_path / "home"), "HOME": str(tmp_path), "PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": os.devnull,
           "PYTHONPYCACHEPREFIX": str(tmp_path / "pycache")}
    done = subprocess.run([sys.executable, str(ROOT / "weir"), "doctor", "--json"], env=env, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    findings = json.loads(done.stdout)
    assert {f["state"] for f in findings} <= {"ok", "missing", "to fetch", "low"}
    assert any("registry" in what for what in _missing(findings))
    assert all(f["remedy"] for f in findings if not f["ok"])
    assert done.returncode == 1
    assert not (tmp_path / "home").exists()


def test_a_machine_that_has_all_is_told_that_the_environment_is_to_be_made(tmp_path, monkeypatch):
    findings = _findings(tmp_path / "home", monkeypatch)
    assert [f["what"] for f in findings if f["state"] != "ok"] == ["the environment is not made yet"]
    assert _missing(findings) == []


@pytest.mark.parametrize(("given", "what", "remedy"), [
    ({"unfit": "needs Python 3.11, 3.12 or 3.13; this is 3.9.2: install one"}, "this is 3.9.2", "install one"),
    ({"stopped": Path("/closed")}, "cannot pass /closed", "chmod o+x /closed"),
    ({"registry": 1}, "registry", "needs a network"),
])  # fmt: skip
def test_what_is_missing_is_named_with_how_to_get_it(tmp_path, monkeypatch, given, what, remedy):
    (found,) = [f for f in _findings(tmp_path, monkeypatch, **given) if not f["ok"]]
    assert what in found["what"]
    assert remedy in found["remedy"]
    assert found["state"] == "missing"


def test_python_without_ensurepip_and_a_small_disk_are_missing_together_and_little_memory_is_told_and_stops_nobody(tmp_path, monkeypatch):
    monkeypatch.setattr(bare.importlib.util, "find_spec", lambda name: None if name == "ensurepip" else object())
    monkeypatch.setattr(bare.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    monkeypatch.setattr(bare, "available_bytes", lambda _: 1 << 30)
    found = _findings(tmp_path, monkeypatch)
    told = " ".join(_missing(found))
    assert "ensurepip" in told
    assert "disk: 0.0 GB free" in told
    assert [(f["ok"], f["remedy"][:3]) for f in found if f["state"] == "low" and "memory: 1.0 GB available" in f["what"]] == [(True, "end")]


def test_its_findings_are_of_the_form_of_the_whole_doctors_and_ask_for_as_much_memory(tmp_path, monkeypatch):
    form = {f.name for f in fields(examine.Finding)}
    assert [set(f) for f in _findings(tmp_path, monkeypatch)] == [form] * 8
    assert bare.MEMORY_BYTES == examine.MEMORY_BYTES


def test_a_home_that_cannot_be_made_is_missing(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.touch()
    assert _missing(_findings(file / "home", monkeypatch)) == [f"WEIR_HOME at {file / 'home'}"]


def test_memory_is_what_the_kernel_calls_available():
    assert bare.available_bytes("MemTotal: 8000 kB\nMemAvailable:    4096 kB\n") == 4 << 20
    assert bare.available_bytes("MemTotal: 8000 kB\n") == 0


def test_pip_is_found_in_the_wheel_that_ensurepip_brings(monkeypatch):
    real = bare.importlib.util.find_spec
    monkeypatch.setattr(bare.importlib.util, "find_spec", lambda name: None if name == "pip" else real(name))
    run = bare.pip()
    assert "pip 2" in subprocess.run([*run, "--version"], capture_output=True, text=True, check=True).stdout
    monkeypatch.setattr(bare.Path, "glob", lambda *_: iter(()))
    assert bare.pip() == []
    found = bare._registry("uv", [])
    assert (found["ok"], found["state"]) == (False, "unknown")

"""A start or a rest past its limit is told by name, and ends the benchmark badly."""
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
GOOD = {"first_recommendation_s": 119.9, "second_start_s": [12.0, 39.9], "at_rest": {"pss_mib_total": 2861, "cpu_cores": 1.0}}


@pytest.fixture
def startup(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import startup

    return startup


def test_each_limit_is_told_when_it_is_passed_and_only_then(startup):
    assert startup.past_limits(GOOD) == []
    assert startup.past_limits(GOOD | {"first_recommendation_s": 120.1}) == ["120.1 s to the first recommendation, and 120 is the limit"]
    assert startup.past_limits(GOOD | {"second_start_s": [40.1, 12.0]}) == ["40.1 s to a second start, and 40 is the limit"]
    assert startup.past_limits(GOOD | {"at_rest": {"pss_mib_total": 2862}}) == ["2862 MiB at rest, and 2861 is the limit"]


@pytest.mark.parametrize("first_s", [60.0, 500.0])
def test_the_benchmark_prints_its_document_and_exits_1_past_a_limit(startup, monkeypatch, capsys, tmp_path, first_s):
    monkeypatch.setenv("WEIR_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["startup", "--json"])
    monkeypatch.setattr(startup, "measure", lambda *_: GOOD | {"first_recommendation_s": first_s})
    monkeypatch.setattr(startup.subprocess, "run", lambda *_, **__: None)
    said = ""
    try:
        startup.main()
    except SystemExit as ended:
        said = ended.code
    assert said == ("" if first_s < 120 else "500.0 s to the first recommendation, and 120 is the limit")
    assert json.loads(capsys.readouterr().out)["past_limits"] == ([said] if said else [])

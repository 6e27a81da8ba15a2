"""What `./weir test` says of itself at the end."""
import re
from pathlib import Path

import pytest

from weir.cli import checks
from weir.stack import usual


def test_the_suite_says_how_long_it_took_and_when_that_was_too_long():
    assert checks.told_time(1799.6, whole=True) == "checks and tests: 1800 s"
    assert "1801 s, more than the 1800 s" in checks.told_time(1801, whole=True)
    assert checks.told_time(4000, whole=False) == "checks and tests: 4000 s"


def test_what_is_skipped_is_told_with_its_reason(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(checks, "workers", lambda: 1)
    folder = tmp_path / "tests" / "unit"
    folder.mkdir(parents=True)
    (folder / "test_a.py").write_text("import pytest\n\ndef test_a():\n    pytest.skip('strace is not installed')\n")
    assert checks.run(tmp_path, tmp_path, long=False, only="unit") == 0
    said = capfd.readouterr().out
    assert "strace is not installed" in said
    assert "checks and tests: " in said


def test_quick_files_run_side_by_side_and_the_stack_tests_in_one_process():
    quick, alone = checks.steps(["unit", "oracle", "stack"], long=False, at_once=3)
    assert quick[-7:] == ["-n", "3", "--dist", "loadfile", "--no-loadscope-reorder", "tests/unit", "tests/oracle"]
    assert alone[-1] == "tests/stack"
    assert "-n" not in alone
    assert "not long" in quick
    assert "not long" in alone


def test_on_one_core_and_for_one_folder_there_is_one_run():
    assert all("-n" not in step for step in checks.steps(["unit", "stack"], long=True, at_once=1))
    assert [step[-1] for step in checks.steps(["stack"], long=False, at_once=4)] == ["tests/stack"]
    assert [step[-1] for step in checks.steps(["unit/ingest"], long=False, at_once=4)] == ["tests/unit/ingest"]
    assert 1 <= checks.workers() <= checks.SIDE_BY_SIDE


@pytest.fixture
def suite(tmp_path, monkeypatch):
    """A tree with a quick test and one of the stack, each of which is given its code; returns what `./weir test` makes of it."""
    monkeypatch.setattr(checks, "_checked", lambda _root, _before=(): [])
    monkeypatch.setattr(checks, "ensure_browser", lambda _home: "")

    def run(at_once, **code):
        monkeypatch.setattr(checks, "workers", lambda: at_once)
        for folder, text in code.items():
            (tmp_path / "tests" / folder).mkdir(parents=True)
            (tmp_path / "tests" / folder / f"test_{folder}.py").write_text(f"import os, pathlib, time\n\ndef test_it_of_{folder}():\n    {text}\n")
        return checks.run(tmp_path, tmp_path, long=False, only="")

    return run


@pytest.mark.parametrize("at_once", [1, 2])
@pytest.mark.parametrize(("unit", "stack"), [("False", "True"), ("True", "False")])
def test_a_failure_of_either_is_the_exit_code_and_the_other_runs_all_the_same(suite, capfd, at_once, unit, stack):
    assert suite(at_once, unit=f"assert {unit}", stack=f"assert {stack}") == 1
    said = capfd.readouterr().out
    assert ("test_it_of_unit" if unit == "False" else "test_it_of_stack") in said
    assert "1 passed" in said
    assert "1 failed" in said


def test_the_stack_tests_run_beside_the_quick_ones_which_yield_to_them(suite, tmp_path, capfd):
    wait = "assert any(time.sleep(0.05) or {there}.exists() for _ in range(400))"
    here = {name: f"pathlib.Path({str(tmp_path / name)!r})" for name in ("quick", "stack")}
    unit = f"{here['quick']}.write_text(str(os.nice(0))); " + wait.format(there=here["stack"])
    stack = f"{here['stack']}.write_text(str(os.nice(0))); " + wait.format(there=here["quick"])
    assert suite(2, unit=unit, stack=stack) == 0
    assert int((tmp_path / "quick").read_text()) > int((tmp_path / "stack").read_text())
    assert capfd.readouterr().out.count("1 passed") == 2


def test_how_far_the_stack_tests_are_is_told_with_what_is_left(suite, capfd, monkeypatch):
    assert checks.progress("collected 60 items\n\ntests/stack/test_a.py ...   [  5%]\ntests/stack/test_b.py ....  [ 25%]\ntests/stack/test_c.py .", 300.0) == "25 % after 300 s, about 900 s to go"
    assert checks.progress("collected 60 items\n\ntests/stack/test_a.py .", 9.0) == ""
    monkeypatch.setattr(checks, "TELL_S", 0.05)
    assert suite(2, unit="time.sleep(6)", stack="pass") == 0
    assert "stack tests: 100 % after" in capfd.readouterr().out


def test_a_failed_check_is_told_while_the_quick_tests_run_and_is_the_exit_code(tmp_path, capfd, monkeypatch):
    (tmp_path / "tests" / "unit").mkdir(parents=True)
    (tmp_path / "tests" / "unit" / "test_a.py").write_text("def test_a():\n    pass\n")
    monkeypatch.setattr(checks, "_checks", lambda: [("lint", ["false"]), ("types", ["true"])])
    monkeypatch.setattr(checks, "ensure_browser", lambda _home: "")
    assert checks.run(tmp_path, tmp_path, long=False, only="") == 1
    said = capfd.readouterr().out
    assert "check lint: FAILED" in said
    assert "check types: ok" in said
    assert "failed checks: lint" in said
    assert "1 passed" in said


def test_checks_and_quick_tests_are_told_with_their_time_to_go_by_the_last_time_they_passed(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(checks, "_checks", lambda: [("types", ["sleep", "0.5"])])
    monkeypatch.setattr(checks, "ensure_browser", lambda _home: "")
    monkeypatch.setattr(checks, "TELL_S", 0.05)
    monkeypatch.setattr(checks, "TELL_CHECKS_S", 0.05)
    (tmp_path / "tests" / "unit").mkdir(parents=True)
    (tmp_path / "tests" / "unit" / "test_a.py").write_text("def test_a():\n    pass\n")
    usual.keep(tmp_path, "checks", 700)
    usual.keep(tmp_path, "test tests/unit", 900)
    assert checks.run(tmp_path, tmp_path, long=False, only="") == 0
    said = capfd.readouterr().out
    assert "lint, types and layers: 0 s so far, about 700 s to go (as the last time)" in said
    assert "tests/unit: 0 s so far, about 900 s to go (as the last time)" in said
    assert 0.4 < usual.last(tmp_path, "checks") < 60
    kept = usual.last(tmp_path, "test tests/unit")
    (tmp_path / "tests" / "unit" / "test_a.py").write_text("def test_a():\n    raise AssertionError\n")
    monkeypatch.setattr(checks, "_checks", lambda: [("types", ["false"])])
    usual.keep(tmp_path, "checks", 700)
    assert checks.run(tmp_path, tmp_path, long=False, only="") == 1
    assert (usual.last(tmp_path, "checks"), usual.last(tmp_path, "test tests/unit")) == (700, kept)


def test_the_files_that_are_begun_first_are_there():
    root = Path(__file__).resolve().parents[2]
    text = (root / "conftest.py").read_text()
    named = re.findall(r'"(\w+/[\w/]*test_\w+\.py)"', text)
    assert len(named) > 10
    assert [name for name in named if not (root / name).exists()] == []

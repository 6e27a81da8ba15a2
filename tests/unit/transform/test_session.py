"""One process for several runs of dbt: what is parsed is used again only when nothing that parsing read has changed; a run past its time is told as dbt's own."""
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from weir.errors import ServiceFailed
from weir.transform import build, host, session

PARSED = SimpleNamespace(env_vars={"DAYS": "30", "LEAST": "DBT_DEFAULT_PLACEHOLDER"}, write=lambda path: Path(path).write_text("{}"))


@pytest.fixture
def project(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "a.sql").write_text("SELECT 1")
    (tmp_path / "target").mkdir()
    return {"DBT_PROJECT_DIR": str(tmp_path / "models"), "DBT_TARGET_PATH": str(tmp_path / "target"), "DAYS": "30"}


class Runner:
    """Counts what was parsed."""

    def __init__(self, manifest=PARSED):
        self.manifest, self.parsed = manifest, 0

    def __call__(self, _manifest):
        return self

    def invoke(self, _arguments):
        self.parsed += 1
        return SimpleNamespace(result=self.manifest, success=self.manifest is not None)


@pytest.mark.parametrize(("change", "times"), [
    (lambda _env: None, 1),
    (lambda env: env.update(OTHER="1"), 1),
    (lambda env: env.update(DAYS="40"), 2),
    (lambda env: env.pop("DAYS"), 2),
    (lambda env: env.update(LEAST="17"), 2),
    (lambda env: Path(env["DBT_PROJECT_DIR"], "a.sql").write_text("SELECT 22"), 2),
    (lambda env: Path(env["DBT_PROJECT_DIR"], "b.sql").write_text(""), 2),
])
def test_a_project_is_parsed_again_when_a_file_or_a_variable_that_it_read_has_changed(project, change, times):
    parsed, runner = host.Parsed(), Runner()
    assert parsed.of(runner, project).result is PARSED
    change(project)
    assert parsed.of(runner, project).result is PARSED
    assert runner.parsed == times


def test_a_project_that_did_not_parse_is_parsed_again(project):
    parsed, broken = host.Parsed(), Runner(None)
    assert [parsed.of(broken, project).success, parsed.of(broken, project).success, broken.parsed] == [False, False, 2]


def test_what_was_parsed_is_written_for_a_run_elsewhere(project, tmp_path):
    parsed = host.Parsed()
    parsed.of(Runner(), project)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    parsed.of(Runner(), project | {"DBT_TARGET_PATH": str(elsewhere)})
    assert (elsewhere / "manifest.json").read_text() == "{}"


def _process(monkeypatch, body):
    """Have the session start this instead of dbt's process."""
    started, real = [], subprocess.Popen
    monkeypatch.setattr(session.subprocess, "Popen", lambda _command, **how: started.append(real([sys.executable, "-c", body], **how)) or started[-1])
    return started


def test_runs_share_a_process_which_ends_with_the_session(monkeypatch):
    started = _process(monkeypatch, "import sys, json\nfor line in sys.stdin: print(json.dumps({'code': 3, 'said': line}), flush=True)")
    with session.Session() as dbt:
        answers = [dbt.run({"A": "1"}, ["build", "--quiet"]), dbt.run({}, ["parse"])]
    assert [(code, json.loads(said)) for code, said in answers] == [(3, {"environment": {"A": "1"}, "arguments": ["build", "--quiet"]}), (3, {"environment": {}, "arguments": ["parse"]})]
    assert [p.returncode for p in started] == [0]


def test_a_process_that_ended_is_told_and_the_next_run_has_another(monkeypatch, tmp_path):
    started = _process(monkeypatch, "import sys; sys.stdin.readline(); sys.exit(7)")
    with session.Session() as dbt:
        for _ in range(2):
            with pytest.raises(ServiceFailed, match="did not run: no output"):
                build.build({"WEIR_HOME": str(tmp_path)}, dbt=dbt.run)
    assert [p.returncode for p in started] == [7, 7]


def test_a_run_past_its_time_is_ended_and_told(monkeypatch, tmp_path):
    started = _process(monkeypatch, "import time; time.sleep(60)")
    monkeypatch.setattr(build, "TIMEOUT_S", 0.2)
    with session.Session() as dbt, pytest.raises(ServiceFailed, match=r"did not end within 0\.2 s"):
        build.build({"WEIR_HOME": str(tmp_path)}, dbt=dbt.run)
    assert [p.returncode for p in started] == [-9]

"""One process for several runs of dbt: what is parsed is used again only when nothing that parsing read has changed; a run past its time is told as dbt's own."""
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from weir.errors import ServiceFailed
from weir.transform import build, host, session

PARSED = SimpleNamespace(env_vars={"DAYS": "30", "LEAST": "DBT_DEFAULT_PLACEHOLDER"}, nodes={}, write=lambda path: Path(path).write_text("{}"))


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
    started = _process(monkeypatch, "import sys; sys.stdin.readline(); print('half an answer', end=''); sys.exit('the disk is gone')")
    with session.Session() as dbt:
        for _ in range(2):
            with pytest.raises(ServiceFailed, match="did not run: the disk is gone"):
                build.build({"WEIR_HOME": str(tmp_path)}, dbt=dbt.run)
    assert [p.returncode for p in started] == [1, 1]


def test_a_run_past_its_time_is_ended_and_told(monkeypatch, tmp_path):
    started = _process(monkeypatch, "import time; time.sleep(60)")
    monkeypatch.setattr(build, "TIMEOUT_S", 0.2)
    with session.Session() as dbt, pytest.raises(ServiceFailed, match=r"did not end within 0\.2 s"):
        build.build({"WEIR_HOME": str(tmp_path)}, dbt=dbt.run)
    assert [p.returncode for p in started] == [-9]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_run_has_ended_when_its_caller_hears_of_it(monkeypatch, interruption):
    started = _process(monkeypatch, "import time; time.sleep(60)")
    running = []

    def interrupted(process, _line):
        running.append(process.poll())
        raise interruption

    monkeypatch.setattr(session, "_asked", interrupted)
    with session.Session() as dbt:
        with pytest.raises(interruption):
            dbt.run({}, ["build"])
        assert (running, [p.returncode for p in started]) == ([None], [-9])
        monkeypatch.setattr(session, "_asked", lambda *_: '{"code": 0, "said": ""}')
        assert dbt.run({}, ["build"]) == (0, "")  # of another process
    assert len(started) == 2


def _event(name, **data):
    return SimpleNamespace(info=SimpleNamespace(name=name), data=SimpleNamespace(**data))


class Dbt:
    """dbt's programmatic runner, played: says what it was asked on both descriptors, as dbt's own handlers do."""

    def __init__(self, manifest, callbacks=()):
        self.manifest, self.callbacks = manifest, callbacks

    def _events(self):
        return [_event("NodeFinished"), *(_event(name, total=2) for name in ("LogStartLine", "NodeFinished", "LogStartLine", "NodeFinished", "NodeFinished"))]

    def invoke(self, arguments):
        os.write(1, f"{os.environ.get('ASKED')} {arguments}\n".encode())
        os.write(2, b"aside\n")
        for event in self._events() if "nodes" in arguments else ():
            for callback in self.callbacks:
                callback(event)
        if "interrupt" in arguments:
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(60)
            except KeyboardInterrupt as error:
                return SimpleNamespace(success=False, exception=error, result=None)
        return SimpleNamespace(success=not {"fail", "break"} & set(arguments), exception=RuntimeError("cannot") if "break" in arguments else None, result=PARSED)


def test_the_process_answers_with_dbts_exit_code_and_all_it_said_past_ctrl_c_too(project):
    code = "import tests.unit.transform.test_session as t, dbt.cli.main as m; m.dbtRunner = t.Dbt; from weir.transform import host; host.main()"
    asked = [json.dumps({"environment": project | {"ASKED": str(n)}, "arguments": words}) for n, words in enumerate((["build"], ["build", "fail"], ["build", "break"], ["build", "interrupt"], ["ls"]))]
    done = subprocess.run([sys.executable, "-c", code], input="\n".join(asked), capture_output=True, text=True, timeout=120, check=True, cwd=build.ROOT)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [t["code"] for t in told] == [0, 1, 2, 2, 0]
    assert told[0]["said"] == "0 ['--quiet', 'parse']\naside\n0 ['build']\naside\n"
    assert [t["said"].splitlines()[0] for t in told[1:]] == ["1 ['build', 'fail']", "2 ['build', 'break']", "3 ['build', 'interrupt']", "4 ['ls']"]
    assert told[2]["said"].endswith("cannot\n")
    assert done.stderr == ""


def test_a_run_tells_the_nodes_that_are_done_before_its_answer(project):
    code = "import tests.unit.transform.test_session as t, dbt.cli.main as m; m.dbtRunner = t.Dbt; from weir.transform import host; host.main()"
    asked = json.dumps({"environment": project, "arguments": ["build", "nodes"]})
    done = subprocess.run([sys.executable, "-c", code], input=asked, capture_output=True, text=True, timeout=120, check=True, cwd=build.ROOT)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert told[:-1] == [{"done": n, "total": 2} for n in (1, 2, 2)]
    assert told[-1]["code"] == 0


def test_dbt_itself_fires_the_events_that_are_counted():
    from dbt.events.types import LogStartLine, NodeFinished
    from dbt_common.events.base_types import msg_from_base_event

    told = []
    nodes = host.Nodes(lambda *said: told.append(said))
    nodes.heard(msg_from_base_event(LogStartLine(description="a", index=1, total=7)))
    nodes.heard(msg_from_base_event(NodeFinished()))
    assert told == [(1, 7)]


def test_who_asked_has_gone_is_no_trouble_of_dbts():
    def gone(*_):
        raise BrokenPipeError

    nodes = host.Nodes(gone)
    for event in (_event("LogStartLine", total=1), _event("NodeFinished")):
        nodes.heard(event)


def test_the_asker_is_told_the_nodes_that_are_done(monkeypatch):
    lines = "print(json.dumps({'done': 1, 'total': 3}), flush=True); print(json.dumps({'code': 0, 'said': 'x'}), flush=True)"
    _process(monkeypatch, f"import sys, json\nfor line in sys.stdin: {lines}")
    told = []
    with session.Session() as dbt:
        answers = [dbt.run({}, ["build"], lambda *said: told.append(said)), dbt.run({}, ["build"])]
    assert (told, answers) == ([(1, 3)], [(0, "x"), (0, "x")])


def test_what_one_run_compiled_is_not_in_what_the_next_is_given(project):
    node = SimpleNamespace(compiled=True, compiled_code="SELECT 1", extra_ctes_injected=True, extra_ctes=["a"])
    parsed, runner = host.Parsed(), Runner(SimpleNamespace(env_vars={}, nodes={"a": node, "seed": SimpleNamespace()}, write=lambda _path: None))
    parsed.of(runner, project)
    parsed.of(runner, project)
    assert vars(node) == {"compiled": False, "compiled_code": None, "extra_ctes_injected": False, "extra_ctes": []}

"""No Python tool that is known to phone home asks for a name or an address outside this machine, in the environment that the stack gives it.

Each runs with an audit hook (PEP 578: it sees every socket of the process, its threads and its Python children) that writes down and refuses whatever is not
on this machine. Two of them are also run with their reports asked for: the recorder must see them try. The browser's side of the dashboard is in
tests/stack/test_dashboard_browser.py.
"""
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from tests.contract.gateway_server import free_port

from weir.stack import services, settings

ROOT = Path(__file__).resolve().parents[2]
RECORDER = """
import ipaddress, os, socket, sys

WHERE, OWN = os.environ["WEIR_TEST_RECORD"], {"localhost", "", socket.gethostname()}

def outside(host):
    name = host.decode() if isinstance(host, bytes) else str(host or "")
    try:
        return not ipaddress.ip_address(name.split("%")[0]).is_loopback
    except ValueError:
        return name not in OWN

def hook(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None  # else a path, or the address of an earlier connect
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    else:
        return
    if host is not None and outside(host):
        file = os.open(WHERE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(file, f"{event} {host} by {sys.argv[:2]}\\n".encode())
        os.close(file)
        raise ConnectionRefusedError("refused by the test")

sys.addaudithook(hook)
"""
UNDER_TEST = {"PYTEST_CURRENT_TEST", "CI", "GITHUB_ACTIONS", "GITLAB_CI", "JENKINS_URL", "BUILDKITE", "TF_BUILD"}  # with one of them MLflow is silent anyhow
MLFLOW = """
import pathlib, sys, time, types
from weir.training.model import Settings
from weir.training.registry import Registry
home = pathlib.Path(sys.argv[1])
score = types.SimpleNamespace(recall=0.1, ndcg=0.1, users=1)
registry = Registry(home)
run = registry.log(types.SimpleNamespace(model=score, popularity=score, events=1), Settings())
(home / "export").mkdir()
(home / "export" / "manifest.json").write_text("{}")
registry.set_alias(registry.create_version(run, "v1"))
registry.register(run, home / "export")
time.sleep(float(sys.argv[2]))
"""
CHAOS = """
import json, pathlib, sys
from weir.chaos import runner
root = pathlib.Path(sys.argv[1]) / "checkout"
(root / "chaos").mkdir(parents=True)
probe = {"type": "probe", "name": "always", "tolerance": True, "provider": {"type": "python", "module": "os.path", "func": "exists", "arguments": {"path": "/"}}}
(root / "chaos" / "calm.json").write_text(json.dumps({"title": "calm", "description": "nothing is broken", "steady-state-hypothesis": {"title": "still",
    "probes": [probe]}, "method": [{**probe, "type": "action"}], "rollbacks": []}))
assert runner.run(root, pathlib.Path(sys.argv[1]), "calm")["status"] == "completed"
"""


@pytest.fixture
def recorded(tmp_path):
    """The environment of `./weir run` with the recorder in it, the settings that it was made of, and what it has recorded so far."""
    found = settings.load({"WEIR_HOME": str(tmp_path), "WEIR_ROOT": str(ROOT), "WEIR_PORT_BASE": str(free_port())})
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(RECORDER)
    record = tmp_path / "record"
    kept = {k: v for k, v in os.environ.items() if k not in {*services.NO_PHONE_HOME, *UNDER_TEST}}
    env = {**kept, **services.environment(found), "WEIR_TEST_RECORD": str(record), "HOME": str(tmp_path),
           "PYTHONPATH": os.pathsep.join((str(tmp_path / "site"), str(ROOT / "src"))), "DBT_TARGET_PATH": str(tmp_path / "target"), "DBT_LOG_PATH": str(tmp_path / "dbt-logs")}
    return env, found, lambda: record.read_text().splitlines() if record.exists() else []


def _loud(env):
    """Ask for the reports in so many words, since dbt_project.yml and weir.training.registry say no as well."""
    quiet = {k: v for k, v in env.items() if k not in services.NO_PHONE_HOME}
    return {**quiet, "DO_NOT_TRACK": "false", "DBT_SEND_ANONYMOUS_USAGE_STATS": "true", "MLFLOW_DISABLE_TELEMETRY": "false"}


def _run(env, *command):
    done = subprocess.run([str(c) for c in command], env=env, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


def _dbt(env, tmp_path):
    _run(env, Path(sys.executable).parent / "dbt", "parse", "--no-partial-parse")


def _mlflow(env, tmp_path, rest_s=0.0):
    _run(env, sys.executable, "-c", MLFLOW, tmp_path, rest_s)


def _chaos(env, tmp_path):
    _run(env, sys.executable, "-c", CHAOS, tmp_path)
    assert json.loads(next((tmp_path / "evidence").glob("calm-*.json")).read_text())["experiment"] == "calm"


def _feast(env, tmp_path):
    _run(env, Path(sys.executable).parent / "feast", "--chdir", ROOT / "feature_repo", "configuration")


@pytest.mark.parametrize("tool", [_dbt, _mlflow, _chaos, _feast])
def test_a_tool_asks_for_nothing_outside_this_machine(recorded, tmp_path, tool):
    env, _, outside = recorded
    tool(env, tmp_path)
    assert outside() == []


def test_the_dashboards_server_asks_for_nothing_outside_this_machine(recorded):
    env, found, outside = recorded
    command = next(s.command for s in services.build(found) if s.name == "dashboard")
    with subprocess.Popen(command.argv, env={**command.env, **{k: env[k] for k in ("WEIR_TEST_RECORD", "PYTHONPATH", "HOME", "PATH")}}, cwd=ROOT) as process:
        try:
            deadline = time.monotonic() + 90
            while True:
                try:
                    if httpx.get(f"{found.endpoints.dashboard_url}/_stcore/health").is_success:
                        break
                except httpx.HTTPError:
                    assert process.poll() is None
                    assert time.monotonic() < deadline
                    time.sleep(0.2)
        finally:
            process.terminate()
    assert outside() == []


@pytest.mark.parametrize("tool", [_dbt, pytest.param(lambda env, path: _mlflow(env, path, 3.0), marks=pytest.mark.long)], ids=["dbt", "mlflow"])
def test_with_its_reports_asked_for_the_recorder_sees_a_tool_try(recorded, tmp_path, tool):
    env, _, outside = recorded
    tool(_loud(env), tmp_path)
    assert outside()


def test_the_recorder_sees_a_name_an_address_and_a_childs(recorded):
    env, _, outside = recorded
    tries = ("import socket, subprocess, sys\n"
             "for act in (lambda: socket.getaddrinfo('phone.example', 443), lambda: socket.socket().connect(('192.0.2.1', 443))):\n"
             "    try: act()\n"
             "    except OSError: pass\n")
    _run(env, sys.executable, "-c", f"{tries}\nsubprocess.run([sys.executable, '-c', {tries!r}], check=True)\nsocket.getaddrinfo('127.0.0.1', 1)")
    assert [line.split()[1] for line in outside()] == ["phone.example", "192.0.2.1"] * 2

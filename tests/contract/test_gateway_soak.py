"""The soak of bench/soak.py for twenty seconds: every kind of client at once, no error that nobody asked for, and every count exact. Times are not judged."""
import json
import os
import subprocess
import sys

from tests.contract.gateway_server import ROOT


def test_everything_at_once_ends_without_an_error_and_with_exact_counts(tmp_path):
    command = [sys.executable, str(ROOT / "bench" / "soak.py"), "--minutes", "0.34", "--json"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "WEIR_HOME": str(tmp_path)}, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["errors"] == {}, found["error_samples"]
    assert found["verdict"]["holds"] == dict.fromkeys(found["verdict"]["holds"], True), {name: found[name] for name in ("stuck", "left", "counted", "counted_after_restart")}
    assert done.returncode == 0
    assert {kind for kind in found["clients"] if found["requests"].get(kind)} >= {"insert", "light", "heavy", "long answer", "kill", "session", "exchange", "alter", "ddl", "crowd"}
    assert found["counted"]["rows"] > 0
    assert {"insert left", "left left", "kill 394", "forbidden 497"} <= set(found["errors_asked_for"])
    assert [line for line in done.stderr.splitlines() if "WARNING" in line or "ERROR" in line] == []  # the gateway's own log: clients that leave fill none

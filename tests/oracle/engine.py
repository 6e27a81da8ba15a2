"""The embedded engine behind its gateway, for a test that needs a real ClickHouse and nothing else."""
import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[2]
READY_S, END_S = 40, 30


def free_port():
    """Return a port that nobody listens on, so that two runs on one machine never share an engine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(folder, port):
    """Run it over `folder`; yield its URL; it must end well."""
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "weir.gateway", "--path", str(folder), "--port", str(port)], env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, cwd=ROOT
    )
    try:
        deadline = time.monotonic() + READY_S
        while not _answers(url):
            assert process.poll() is None, "the gateway ended as it began"
            assert time.monotonic() < deadline, "the gateway did not start in time"
            time.sleep(0.1)
        yield url
        process.terminate()
        assert process.wait(END_S) == 0
    finally:
        if process.poll() is None:
            process.kill()


def _answers(url):
    try:
        return httpx.get(f"{url}/ping").text == "Ok.\n"
    except httpx.HTTPError:
        return False


def environment(home, port):
    """Return what dbt needs to reach it."""
    return {**os.environ, "CLICKHOUSE_HOST": "127.0.0.1", "CLICKHOUSE_PORT": str(port), "CLICKHOUSE_USER": "default", "CLICKHOUSE_PASSWORD": "", "WEIR_HOME": str(home)}

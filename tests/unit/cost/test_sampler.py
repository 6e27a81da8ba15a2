"""What runs beside the services is measured too, as one part."""
import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from weir.cost import sampler

SUPERVISOR = """
import os, subprocess, sys
def child(name):
    return subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE, env={**os.environ, "SUPERVISOR_PROCESS_NAME": name})
started = {name: child(name) for name in ("ingest", "api", "watch", "quality")}
print(*(f"{name}={process.pid}" for name, process in started.items()), flush=True)
input()
"""


@pytest.fixture
def supervised(tmp_path):
    """A process with four children; the watcher knows of ingest by its pid, and not yet of the api that has just started anew."""
    with subprocess.Popen([sys.executable, "-S", "-c", SUPERVISOR], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        pids = {name: int(pid) for name, pid in (word.split("=") for word in process.stdout.readline().split())}
        run = tmp_path / "run"
        run.mkdir()
        (run / "supervisord.pid").write_text(f"{process.pid}\n")
        (run / "services.json").write_text(json.dumps({"services": [{"name": "ingest", "pid": pids["ingest"]}, {"name": "api", "pid": 4194305}]}))
        while any(psutil.Process(pid).environ().get("SUPERVISOR_PROCESS_NAME") != name for name, pid in pids.items()):
            os.sched_yield()
        yield tmp_path, process.pid, pids
        process.stdin.close()


def test_the_supervisor_and_its_companions_are_the_part_platform_and_no_service_is(supervised):
    home, supervisor, pids = supervised
    beside = sampler.beside(home, sampler.pids(home))
    assert {p.pid for p in beside} == {supervisor, pids["watch"], pids["quality"]}
    (home / "logs").mkdir()
    (home / "logs" / "api.log").write_bytes(b"x" * 100_000)
    taker = sampler.Sampler(home)
    taker.sample()
    found = {u.part: u for u in taker.sample()}
    assert set(found) == {"ingest", "api", sampler.PLATFORM}
    assert found[sampler.PLATFORM].memory_bytes > found["ingest"].memory_bytes > 0
    assert found[sampler.PLATFORM].disk_bytes >= 100_000


def test_without_a_supervisor_there_is_no_platform(tmp_path):
    assert sampler.beside(tmp_path, {}) == []
    assert sampler.Sampler(Path(tmp_path)).sample() == []

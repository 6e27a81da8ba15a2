"""The probes on the real servers: yes when they serve, no when they are stopped."""
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from tests.contract.gateway_server import free_port

from weir.connect import postgres, redis
from weir.contracts.endpoints import Endpoints
from weir.stack import probe


def _eventually(url, limit_s=30):
    deadline = time.monotonic() + limit_s
    while not probe.ready(url, 1):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _stopped_and_continued(process, url):
    _eventually(url)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        assert not probe.ready(url, 0.5)
    finally:
        os.kill(process.pid, signal.SIGCONT)
    _eventually(url)


def test_a_redis_that_is_stopped_is_not_ready(tmp_path):
    port = free_port()
    with subprocess.Popen([str(redis.binary()), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path), "--save", ""], stdout=subprocess.DEVNULL) as process:
        try:
            _stopped_and_continued(process, f"redis://127.0.0.1:{port}/0")
        finally:
            process.terminate()


@pytest.fixture
def home():
    made = Path(tempfile.mkdtemp(dir="/var/tmp"))  # passable for the server's uid
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def test_a_postgres_that_is_stopped_is_not_ready_and_the_probe_is_in_no_log(home):
    from dataclasses import replace

    port = free_port()
    endpoints = replace(Endpoints.local(30000), postgres_dsn=f"postgresql://weir:x@127.0.0.1:{port}/shop")
    postgres.prepare(home, endpoints)
    command, log = postgres.command(home, endpoints), home / "server.log"
    with log.open("w") as said, subprocess.Popen(
        command.argv, env=dict(command.env), cwd=command.cwd, user=command.uid, group=command.uid, extra_groups=[] if command.uid is not None else None, stderr=said,
    ) as process:
        try:
            url = f"postgresql://weir@127.0.0.1:{port}/postgres"
            _stopped_and_continued(process, url)
            before = len(log.read_text().splitlines())
            assert all(probe.ready(url) for _ in range(5))
            assert log.read_text().splitlines()[before:] == []
        finally:
            process.send_signal(signal.SIGINT)

"""PostgreSQL is set up and served by a uid that has no entry in the user database."""
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import psycopg
import pytest
from tests.contract.gateway_server import free_port

from weir.connect import nameless

ROOT = Path(__file__).resolve().parents[2]
UID = 45678
BEGIN = """
import os, sys
from pathlib import Path
from dataclasses import replace
from weir.connect import nameless, postgres
from weir.contracts.endpoints import Endpoints
if os.geteuid() != UID:
    nameless.enter(UID)
    os.execv(sys.executable, [sys.executable, '-c', *sys.orig_argv[2:]])
home, endpoints = Path(sys.argv[1]), replace(Endpoints.local(30000), postgres_dsn=sys.argv[2])
assert not nameless.has_name(os.geteuid())
postgres.check_user()
postgres.prepare(home, endpoints)
command = postgres.command(home, endpoints)
assert command.uid is None
os.execve(command.argv[0], command.argv, dict(command.env))
""".replace("UID", str(UID))


@pytest.fixture
def home(tmp_path):
    if nameless.has_name(UID):
        pytest.skip(f"uid {UID} has a name on this machine")
    tried = subprocess.run([sys.executable, "-I", nameless.__file__, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"this system allows no user namespaces: {tried.stderr.strip().splitlines()[-1]}")
    return tmp_path


def _start(home, dsn):
    """Start the server as a uid that has no name: ours, seen from within a user namespace that maps it onto such a one."""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "src")}
    with (home / "server.log").open("a") as log:
        return subprocess.Popen([sys.executable, "-c", BEGIN, str(home), dsn], cwd=home, env=env, stdout=log, stderr=log)


def _ask(home, process, dsn, sql):
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None, (home / "server.log").read_text()[-2000:]
        try:
            with psycopg.connect(dsn, connect_timeout=2) as connection:
                return connection.execute(sql).fetchall()
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def test_a_uid_without_a_name_sets_postgres_up_serves_it_and_comes_back_after_a_kill(home):
    secret = home / "secrets" / "postgres"
    bare = f"postgresql://weir@127.0.0.1:{free_port()}/postgres"
    process = _start(home, bare)
    try:
        while not (home / "postgres" / "weir-ready").exists():
            assert process.poll() is None, (home / "server.log").read_text()[-2000:]
            time.sleep(0.05)
        dsn = bare.replace("weir@", f"weir:{secret.read_text()}@")
        assert _ask(home, process, dsn, "SELECT current_user, (SELECT array_agg(DISTINCT auth_method) FROM pg_hba_file_rules)") == [("weir", ["scram-sha-256"])]
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(bare, password="another")
        data = home / "postgres"
        assert {p.stat().st_uid for p in (data, data / "PG_VERSION", data / "base")} == {os.geteuid()}
        assert data.stat().st_mode & 0o777 == 0o700
        workers = psutil.Process(process.pid).children()
        assert len(workers) > 3
        assert (data / "postmaster.pid").read_text().split()[0] == str(process.pid)
        process.kill()
        process.wait(10)
        assert psutil.wait_procs(workers, 20)[1] == []
        process = _start(home, bare)
        assert _ask(home, process, dsn, "SELECT 1") == [(1,)]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGQUIT)
            process.wait(20)

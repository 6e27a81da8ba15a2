"""A gateway for each file that asks for one, with a database `d`; it has to end well. A PostgreSQL for each that asks for one."""
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg
import pytest
from tests.contract.gateway_server import Server, free_port

from weir.connect import postgres
from weir.contracts.endpoints import Endpoints


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("gateway")).start()
    server.text("CREATE DATABASE d ENGINE = Atomic")
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="module")
def source():
    """A PostgreSQL from its wheel, connected."""
    with tempfile.TemporaryDirectory(prefix="weir-source-", dir="/var/tmp") as folder:
        home = Path(folder)
        home.chmod(0o755)
        endpoints = Endpoints.local(free_port() - 1, postgres.read_or_create_password(home))
        postgres.prepare(home, endpoints)
        command = postgres.command(home, endpoints)
        process = subprocess.Popen(command.argv, env=dict(command.env), cwd="/", user=command.uid, group=command.uid,
                                   extra_groups=[] if command.uid is not None else None, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            with _connected(endpoints.postgres_dsn.replace("/shop", "/postgres")) as connection:
                yield connection
        finally:
            process.send_signal(signal.SIGINT)  # PostgreSQL's fast stop: waits for no client
            process.wait(20)


def _connected(dsn):
    deadline = time.monotonic() + 30
    while True:
        try:
            return psycopg.connect(dsn, autocommit=True, connect_timeout=2)
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)

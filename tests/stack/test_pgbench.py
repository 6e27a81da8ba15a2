"""pgbench (TPC-B) under kills of every process in turn: accounts, tellers, branches and history sum alike on both sides once the writes stop, exactly."""
import os
import signal
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

import psycopg
import pytest

from weir.connect import postgres
from weir.reconcile.progress import Progress
from weir.reconcile.source import Source

pytestmark = [pytest.mark.stack, pytest.mark.long]
SECONDS = int(os.environ.get("WEIR_TEST_PGBENCH_S", "600"))
SUMS = {"pgbench_accounts": "abalance", "pgbench_tellers": "tbalance", "pgbench_branches": "bbalance", "pgbench_history": "delta"}
KILLED = ("ingest", "clickhouse", "connect", "kafka", "postgres", "features", "redis")
WAIT_S = 300


def _pgbench(dsn, *arguments):
    parts = urlsplit(dsn)
    env = {**os.environ, "PGPASSWORD": parts.password or "", "PGHOST": parts.hostname, "PGPORT": str(parts.port), "PGUSER": parts.username, "PGDATABASE": parts.path.lstrip("/")}
    return subprocess.Popen([str(postgres.binaries() / "pgbench"), *arguments], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


class Load(threading.Thread):
    """Runs pgbench until stopped; when the server is killed under it, it begins again."""

    def __init__(self, dsn):
        super().__init__(daemon=True)
        self.dsn, self.ended, self.runs = dsn, threading.Event(), 0

    def run(self):
        while not self.ended.is_set():
            process = _pgbench(self.dsn, "-n", "-c", "4", "-R", "300", "-T", str(SECONDS))
            self.runs += 1
            while process.poll() is None and not self.ended.wait(0.5):
                pass
            process.terminate()
            process.communicate()
            self.ended.wait(1)


@pytest.fixture
def bank(running, endpoints):
    added = []
    for line in (f"DROP TABLE IF EXISTS {', '.join(SUMS)}",):
        with psycopg.connect(endpoints.postgres_dsn, autocommit=True) as c:
            c.execute(line)
    made = _pgbench(endpoints.postgres_dsn, "-i", "-q", "-s", "1")
    assert made.wait(120) == 0, made.stdout.read()
    with psycopg.connect(endpoints.postgres_dsn, autocommit=True) as c:
        c.execute("ALTER TABLE pgbench_history ADD COLUMN id bigserial PRIMARY KEY")
        for table in SUMS:
            c.execute(f"ALTER TABLE {table} REPLICA IDENTITY FULL")
    for table in SUMS:
        running.weir("table", "add", f"public.{table}")
        added.append(table)
    yield running
    for table in added:
        running.weir("table", "remove", table)
    with psycopg.connect(endpoints.postgres_dsn, autocommit=True) as c:
        c.execute(f"DROP TABLE IF EXISTS {', '.join(SUMS)}")


def _kill(running, name):
    pid = {s["name"]: s["pid"] for s in running.status()["services"]}[name]
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + WAIT_S
    while True:
        state = {s["name"]: (s["state"], s["pid"]) for s in running.status()["services"]}[name]
        if state[0] == "ready" and state[1] != pid:
            return
        assert time.monotonic() < deadline, (name, state)
        time.sleep(1)


def _there(dsn):
    with psycopg.connect(dsn) as c:
        return {t: tuple(map(int, c.execute(f"SELECT count(*), coalesce(sum({column}), 0) FROM {t}").fetchone())) for t, column in SUMS.items()}


def _here(running):
    return {t: tuple(map(int, running.clickhouse(f"SELECT count(), sum({column}) FROM captured.{t}")[0])) for t, column in SUMS.items()}


def test_balances_sum_alike_after_kills_of_every_process(bank, endpoints):
    load, kills = Load(endpoints.postgres_dsn), []
    load.start()
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline or len(kills) < len(KILLED):
        time.sleep(5)
        name = KILLED[len(kills) % len(KILLED)]
        _kill(bank, name)
        kills.append(name)
    load.ended.set()
    load.join(30)
    source, progress = Source(endpoints.postgres_dsn), Progress(endpoints.kafka_bootstrap)
    limit = time.monotonic() + WAIT_S
    with source.snapshot() as snapshot:
        source.wait_published(snapshot.lsn, limit)
        for table in SUMS:
            topic = f"shop.public.{table}"
            progress.wait_landed(topic, progress.ends(topic), limit)
    progress.close()
    there, here = _there(endpoints.postgres_dsn), _here(bank)
    sys.stdout.write(f"{len(kills)} kills, pgbench begun {load.runs} times, {there['pgbench_history'][0]} transactions; source {there}\n")
    assert there["pgbench_history"][0] > 1000
    assert len({total for _, total in there.values()}) == 1, "the source's own sums"
    assert here == there

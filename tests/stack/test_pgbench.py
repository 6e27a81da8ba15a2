"""pgbench (TPC-B) under kills of every process in turn: accounts, tellers, branches and history sum alike on both sides once the writes stop, exactly.

The tables are added while they are written. No offset has landed twice then, each table is the same key by key, and continuous reconciliation, whose repairs would hide a loss, has found nothing meanwhile.
"""
import json
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
from weir.stack import services, settings
from weir.stack.supervision import Control

pytestmark = [pytest.mark.stack, pytest.mark.long]
SECONDS = int(os.environ.get("WEIR_TEST_PGBENCH_S", "600"))
SUMS = {"pgbench_accounts": "abalance", "pgbench_tellers": "tbalance", "pgbench_branches": "bbalance", "pgbench_history": "delta"}
PATH = ("ingest", "clickhouse", "connect", "kafka", "postgres")  # they are killed first, and twice in a round
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

    def end(self):
        self.ended.set()
        self.join(30)


@pytest.fixture
def bank(running, endpoints):
    def gone():
        there = {t["name"] for t in json.loads(running.weir("table", "list", "--json").stdout)}
        for table in there & SUMS.keys():
            running.weir("table", "remove", table)
        with psycopg.connect(endpoints.postgres_dsn, autocommit=True) as c:
            c.execute(f"DROP TABLE IF EXISTS {', '.join(SUMS)}")

    gone()
    made = _pgbench(endpoints.postgres_dsn, "-i", "-q", "-s", "1")
    assert made.wait(120) == 0, made.stdout.read()
    with psycopg.connect(endpoints.postgres_dsn, autocommit=True) as c:
        c.execute("ALTER TABLE pgbench_history ADD COLUMN id bigserial PRIMARY KEY")
        for table in SUMS:
            c.execute(f"ALTER TABLE {table} REPLICA IDENTITY FULL")
    load = Load(endpoints.postgres_dsn)
    load.start()
    try:
        for table in SUMS:  # while they are written; each row of tellers and branches all the while
            running.weir("table", "add", f"public.{table}")
        yield running, load
    finally:
        load.end()
    gone()


def _kill(running, name, served):
    """Kill a process and wait until another one does its work."""
    control = Control(running.home)
    pid = control.states()[name].pid
    os.kill(pid, signal.SIGKILL)
    deadline, state = time.monotonic() + WAIT_S, None
    while True:
        assert time.monotonic() < deadline, (name, state)
        time.sleep(1)
        state = control.states()[name]
        if state.state in {"STARTING", "RUNNING"} and state.pid not in {0, pid}:
            if name not in served:
                return
            state = next(s for s in running.status()["services"] if s["name"] == name)
            if state["state"] == "ready" and state["pid"] not in {0, pid}:
                return


def _there(dsn):
    with psycopg.connect(dsn) as c:
        return {t: tuple(map(int, c.execute(f"SELECT count(*), coalesce(sum({column}), 0) FROM {t}").fetchone())) for t, column in SUMS.items()}


def _here(running):
    return {t: tuple(map(int, running.clickhouse(f"SELECT count(), sum({column}) FROM captured.{t}")[0])) for t, column in SUMS.items()}


def _landed(endpoints):
    """Wait until all that the source has is in the copies."""
    source, progress = Source(endpoints.postgres_dsn), Progress(endpoints.kafka_bootstrap)
    limit = time.monotonic() + WAIT_S
    try:
        with source.snapshot() as snapshot:
            source.wait_published(snapshot.lsn, limit)
            for table in SUMS:
                topic = f"shop.public.{table}"
                progress.wait_landed(topic, progress.ends(topic), limit)
    finally:
        progress.close()


def test_balances_sum_alike_after_kills_of_every_process(bank, endpoints):
    bank, load = bank
    served = services.ORDER
    every = (*PATH, *(n for n in services.names(settings.load(bank.env)) if n not in PATH), *PATH)
    began, kills = bank.clickhouse("SELECT toString(now64(3))")[0][0], []
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline or len(kills) < len(every):
        time.sleep(5)
        name = every[len(kills) % len(every)]
        _kill(bank, name, served)
        kills.append(name)
    load.end()
    _landed(endpoints)
    there, here = _there(endpoints.postgres_dsn), _here(bank)
    sys.stdout.write(f"{len(kills)} kills of {len(set(kills))} processes, pgbench begun {load.runs} times, {there['pgbench_history'][0]} transactions; source {there}\n")
    assert there["pgbench_history"][0] > 1000
    assert len({total for _, total in there.values()}) == 1, "the source's own sums"
    assert here == there
    assert bank.clickhouse("SELECT count() - uniqExact(topic, partition, offset) FROM landing.cdc_changes WHERE startsWith(topic, 'shop.public.pgbench_')") == [(0,)]
    found = bank.clickhouse(f"SELECT name, key, kind, state FROM ops.reconcile_findings WHERE startsWith(name, 'pgbench_') AND at >= toDateTime64('{began}', 3, 'UTC')")
    assert found == [], "continuous reconciliation found what differed, or thought so"
    for table in SUMS:
        checked = json.loads(bank.weir("reconcile", "--once", "--table", table, "--json").stdout)["checks"][0]
        assert (checked["outcome"], checked["rows_checked"]) == ("yes", there[table][0]), checked

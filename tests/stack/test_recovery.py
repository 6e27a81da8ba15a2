"""Experiments against the real stack, then the whole of it killed, then its end: the last of the stack tests (conftest.py)."""
import contextlib
import json
import os
import signal
from dataclasses import replace

import psutil
import pytest
from tests.stack.conftest import PORT_BASE, listening

from weir.chaos.load import Load
from weir.chaos.oracle import TABLES, Verdict, compare, count
from weir.contracts.endpoints import Endpoints
from weir.demo import follow
from weir.errors import Terminal

pytestmark = pytest.mark.stack
EXPERIMENTS = ("kill-ingest-worker", "kill-kafka-broker", "pause-clickhouse")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_finds_every_acknowledged_event_once(running, name):
    evidence = json.loads(running.weir("chaos", "run", name, "--json").stdout)
    assert evidence["verdict"] == "yes", evidence
    if name == "kill-ingest-worker":
        assert [o["phase"] for o in evidence["observations"] if "batch" in o] == ["declared", "landed", "declared"]
    steady = [o for o in evidence["observations"] if "before_the_fault" in o]
    assert [(o["owed"], o["lost"], o["doubled"], o["before_the_fault"]) for o in steady] == [(500, [], [], "yes")] * len(TABLES)
    counted = [o for o in evidence["observations"] if "verdict" in o]
    assert counted
    assert all(o["owed"] > 500 and not o["lost"] and not o["doubled"] for o in counted)


def test_the_status_tells_when_recovery_was_last_proven(running):
    found = {p["experiment"]: p for p in running.status()["recovery"]}
    assert {name: p["verdict"] for name, p in found.items()} == dict.fromkeys(EXPERIMENTS, "yes")
    assert all(p["proven_age_s"] == p["age_s"] for p in found.values())
    assert all(f"recovery {name}: proven " in running.weir("status", check=False).stdout for name in EXPERIMENTS)


def test_a_stack_that_is_killed_whole_under_load_loses_and_doubles_nothing(running):
    endpoints = replace(Endpoints.local(PORT_BASE), **running.endpoints)
    load = Load(endpoints.kafka_bootstrap)
    load.start()
    follow.until(lambda: len(load.journal.acknowledged) > 1000, "a thousand acknowledged events", 60)
    assert load.idle == ""
    _kill_all(running.home)
    acknowledged = len(load.journal.acknowledged)
    running.weir("up")
    follow.until(lambda: len(load.journal.acknowledged) > acknowledged + 500, "events acknowledged by the new broker", 90)
    load.end()
    journal = load.finish()
    assert len(journal.acknowledged) > acknowledged > 1000
    assert {s["state"] for s in running.status()["services"]} == {"ready"}

    def counts():
        return [compare(table, journal, count(endpoints.clickhouse_url, table, journal.run_id)) for table in TABLES]

    with contextlib.suppress(Terminal):  # the counts below tell what is missing
        follow.until(lambda: not any(c.lost for c in counts()), "every acknowledged event in the tables", 90)
    assert [(c.table, c.lost, c.doubled, c.verdict) for c in counts()] == [(table, (), (), Verdict.YES) for table in TABLES]


def _kill_all(home):
    """End every process of the stack at once, stopped first so that none acts on another's end."""
    supervisor = psutil.Process(int((home / "run" / "supervisord.pid").read_text()))
    supervisor.suspend()  # it starts nobody anew meanwhile
    everyone = [supervisor, *supervisor.children(recursive=True)]
    for process in everyone:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(everyone, timeout=10)
    assert alive == []


def test_down_leaves_no_process_and_no_port(running):
    running.weir("down")
    assert listening() == set()
    left = [p.pid for p in psutil.process_iter() if p.pid != os.getpid() and _of(p, running.home)]
    assert left == []


def _of(process, home):
    try:
        return process.environ().get("WEIR_HOME") == str(home)
    except psutil.Error:
        return False

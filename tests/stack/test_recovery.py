"""Experiments against the real stack, then the whole of it killed, then its end. Named so that it runs last of the stack tests."""
import json
import os
import signal

import psutil
import pytest
from tests.stack.conftest import listening

pytestmark = pytest.mark.stack


@pytest.mark.parametrize("name", ["kill-ingest-worker", "kill-kafka-broker", "pause-clickhouse"])
def test_an_experiment_finds_every_acknowledged_event_once(running, name):
    evidence = json.loads(running.weir("chaos", "run", name, "--json").stdout)
    assert evidence["verdict"] == "yes", evidence
    counted = [o for o in evidence["observations"] if "owed" in o]
    assert counted
    assert all(o["owed"] > 500 and not o["lost"] and not o["doubled"] for o in counted)


def test_a_stack_that_is_killed_whole_comes_up_again_with_nothing_lost(running):
    before = running.clickhouse("SELECT count(), uniqExact(event_id) FROM landing.user_events")[0]
    pid = int((running.home / "run" / "supervisord.pid").read_text())
    everyone = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for process in everyone:
        try:
            os.kill(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    psutil.wait_procs(everyone, timeout=10)
    running.weir("up")
    assert running.clickhouse("SELECT count(), uniqExact(event_id) FROM landing.user_events")[0] == before
    assert {s["state"] for s in running.status()["services"]} == {"ready"}


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

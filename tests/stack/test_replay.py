"""`./weir replay events` on the loaded stack while events land: what was lost from the landing table is there again, once, in every table, and nothing is left beside."""
import fcntl
import json
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest
from tests.stack.conftest import ROOT

pytestmark = pytest.mark.stack


@pytest.mark.long  # tests/contract/test_replay.py replays beside the real lane
def test_a_range_of_time_is_replayed_under_load_and_verified_to_the_last_event(running):
    since = datetime.now(UTC).isoformat(timespec="milliseconds")
    load = subprocess.Popen([sys.executable, "-m", "weir.cli", "load", "--rate", "1500", "--events", "30000", "--seed", "21"], env=running.env, cwd=ROOT,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    recent = f"landing.user_events WHERE produced_at > parseDateTime64BestEffort('{since}', 3)"
    try:
        with (running.home / "run" / "capture.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            busy = running.weir("replay", "events", "--since", since, check=False)
        assert (busy.returncode, "is at work" in busy.stderr or "no record that has landed" in busy.stderr) == (1, True), busy.stderr
        deadline = time.monotonic() + 30
        while running.clickhouse(f"SELECT count() FROM {recent}")[0][0] < 3000 and time.monotonic() < deadline:
            time.sleep(0.2)
        lost = running.clickhouse(f"SELECT partition, offset FROM {recent} ORDER BY partition, offset LIMIT 3")
        running.clickhouse_command(f"ALTER TABLE landing.user_events DELETE WHERE (partition, offset) IN {tuple(map(tuple, lost))!r} SETTINGS mutations_sync = 2")
        plan = json.loads(running.weir("replay", "events", "--since", since, "--dry-run", "--json").stdout)
        told = json.loads(running.weir("replay", "events", "--since", since, "--json").stdout)
    finally:
        _, said = load.communicate(timeout=120)
    assert load.returncode == 0, said[-2000:]
    assert len(lost) == 3
    assert plan["landed"] >= 2997
    assert plan["disk_bytes"] < plan["free_bytes"]
    assert told["changed"] == 3
    assert [p["changed"] for p in told["partitions"].values() if p["changed"]] == [{"was_missing": 3}]
    assert {"landing.user_events", "staging.int_user_events"} <= set(told["exchanged"]) | set(told["recomputed"])
    assert told["held_ms"] > 0
    assert running.clickhouse("SELECT name FROM system.tables WHERE startsWith(name, 'shadow__')") == []
    done = running.weir("verify", "events", "--json", check=False)
    assert done.returncode == 0, done.stdout[-3000:]

"""The slot is lost while rows are inserted, updated and deleted: one command, and source and sink are the same."""
import json
import signal
import subprocess
import sys
import time

import httpx
import psycopg
import pytest

from weir.contracts import cdc, wayback

pytestmark = pytest.mark.stack
TABLE = "parcels"
KEPT = "SELECT id, note FROM {} ORDER BY id"
FIRST = 7_000_001  # of our users


def _sql(running, *statements):
    with psycopg.connect(running.endpoints["postgres_dsn"], autocommit=True) as c:
        return [c.execute(s).fetchall() if s.lstrip().startswith("SELECT") else c.execute(s) for s in statements][-1]


def _until(what, seconds=120):
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.5)
    return found


def _connector(running, what):
    _until(lambda: httpx.put(f"{running.endpoints['connect_url']}/connectors/{cdc.CONNECTOR}/{what}", timeout=20).is_success)


def _users(running, first):
    """Our users on both sides."""
    columns = "user_id, age, occupation"
    there = _sql(running, f"SELECT {columns} FROM users WHERE user_id >= {first} ORDER BY user_id")
    return there, running.clickhouse(f"SELECT {columns} FROM staging.int_users WHERE user_id >= {first} ORDER BY user_id")


@pytest.fixture
def parcels(running):
    if TABLE in {t["name"] for t in json.loads(running.weir("table", "list", "--json").stdout)}:
        running.weir("table", "remove", TABLE)
    _sql(running, f"DROP TABLE IF EXISTS {TABLE}", f"CREATE TABLE {TABLE} (id bigint PRIMARY KEY, note text)", f"ALTER TABLE {TABLE} REPLICA IDENTITY FULL",
         f"INSERT INTO {TABLE} SELECT i, 'n' || i FROM generate_series(1, 9000) i",
         *(f"INSERT INTO users (user_id, age, gender, occupation, zip_code, country) VALUES ({FIRST + i}, 30, 'F', 'before', '0', 'DE') ON CONFLICT DO NOTHING" for i in range(6)))
    running.weir("table", "add", f"public.{TABLE}")
    _until(lambda: len(_users(running, FIRST)[1]) == 6)
    yield running
    running.weir("table", "remove", TABLE)
    _sql(running, f"DROP TABLE IF EXISTS {TABLE}", f"DELETE FROM users WHERE user_id >= {FIRST}")


def _lose(running, *meanwhile):
    _connector(running, "stop")
    _until(lambda: not running.status()["slot"]["active"])
    _sql(running, f"SELECT pg_drop_replication_slot('{cdc.SLOT}')", *meanwhile)
    _connector(running, "resume")
    _until(lambda: (running.status()["connector"] or {}).get("task") == "FAILED")


def test_one_command_brings_back_what_a_lost_slot_did_not_send_and_takes_away_what_was_deleted(parcels):
    running = parcels
    refused = running.weir("connector", "recover", "--yes", check=False)
    assert (refused.returncode, "nothing to bring back" in refused.stderr) == (1, True)
    _lose(
        running, f"INSERT INTO {TABLE} SELECT i, 'new' FROM generate_series(10001, 10050) i", f"UPDATE {TABLE} SET note = 'changed' WHERE id % 100 = 0", f"DELETE FROM {TABLE} WHERE id <= 6000",
        f"UPDATE users SET age = 31, occupation = 'changed' WHERE user_id IN ({FIRST}, {FIRST + 1})", f"DELETE FROM users WHERE user_id IN ({FIRST + 2}, {FIRST + 3})",
        f"INSERT INTO users (user_id, age, gender, occupation, zip_code, country) VALUES ({FIRST + 9}, 30, 'F', 'new', '0', 'DE')")
    assert wayback.COMMAND in running.weir("status", check=False).stdout
    asked = running.weir("connector", "recover", check=False)
    assert (asked.returncode, "there is nobody to ask" in asked.stderr, f"{TABLE} (public.{TABLE}, about" in asked.stdout) == (1, True, True)
    _killed_while_it_reads(running)
    assert wayback.COMMAND in running.weir("status", check=False).stdout
    done = running.weir("connector", "recover", "--yes", "--json")
    checks = {c["name"]: c for c in json.loads(done.stdout)["checks"] if c["kind"] == "table"}
    assert {n: c["outcome"] for n, c in checks.items()} == dict.fromkeys(("users", "items", TABLE), "yes")
    there, here = _users(running, FIRST)
    assert (here, len(here)) == ([tuple(r) for r in there], 5)
    assert running.clickhouse(KEPT.format(f"captured.{TABLE}")) == [tuple(r) for r in _sql(running, KEPT.format(TABLE))]
    _sql(running, f"UPDATE {TABLE} SET note = 'flows' WHERE id = 9000")
    _until(lambda: running.clickhouse(f"SELECT note FROM captured.{TABLE} WHERE id = 9000") == [("flows",)])
    assert wayback.COMMAND not in running.weir("status", check=False).stdout
    again = running.weir("connector", "recover", "--yes", check=False)
    assert (again.returncode, "nothing to bring back" in again.stderr) == (1, True)


def _killed_while_it_reads(running):
    """One that is killed once the slot of before is let go: what it began is there, and no slot holds anything."""
    mark = wayback.path(running.home)
    begun = subprocess.Popen([sys.executable, "-m", "weir.cli", "connector", "recover", "--yes"], env=running.env, cwd=running.home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _until(lambda: mark.exists() and wayback.parse(mark.read_text()).reading)
    finally:
        begun.send_signal(signal.SIGKILL)
        begun.wait()
    assert mark.exists()

"""A table without a key on the real stack: its history makes what the source has, whatever is done to it and whoever is killed meanwhile."""
import json
import os
import random
import secrets
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from weir.stack.supervision import Control

pytestmark = pytest.mark.stack
TABLE = "clicks"
SEED = int(os.environ.get("WEIR_TEST_SEED", secrets.randbits(32)))


def _sql(running, *statements):
    with psycopg.connect(running.endpoints["postgres_dsn"], autocommit=True) as c:
        return [c.execute(s).fetchall() if s.lstrip().startswith("SELECT") else c.execute(s) for s in statements][-1]


def _tables(running):
    return {t["name"]: t for t in json.loads(running.weir("table", "list", "--json").stdout)}


def _until(what, seconds=120):
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.5)
    return found


def _same(running, columns="who, note, toString(amount)", there="who, note, trim_scale(amount)::text"):
    """Whether ClickHouse's readers see each of the source's rows as often as it is there."""
    here = Counter(map(tuple, running.clickhouse(f"SELECT {columns} FROM captured.{TABLE}__rows")))
    return here == Counter(map(tuple, _sql(running, f"SELECT {there} FROM {TABLE}")))


def _changes(running):
    """Each change of the history: (transaction, operation) in its order."""
    return [tuple(r) for r in running.clickhouse(f"SELECT tx_id, op FROM captured.{TABLE} WHERE snapshot = 0 ORDER BY lsn, partition, position")]


def _reconciled(running):
    done = running.weir("reconcile", "--once", "--table", TABLE, "--json", check=False)
    return json.loads(done.stdout)["checks"][0]


@pytest.fixture
def clicks(running):
    if TABLE in _tables(running):
        running.weir("table", "remove", TABLE)
    _sql(running, f"DROP TABLE IF EXISTS {TABLE}", f"CREATE TABLE {TABLE} (who bigint NOT NULL, note text, amount numeric(12,2) NOT NULL, tags text[])",
         f"INSERT INTO {TABLE} SELECT i % 7, CASE WHEN i % 3 = 0 THEN NULL ELSE 'n' || i % 5 END, i % 4 * 1.25, ARRAY['a', NULL] FROM generate_series(1, 2000) i")
    yield running
    if TABLE in _tables(running):
        running.weir("table", "remove", TABLE)
    _sql(running, f"DROP TABLE IF EXISTS {TABLE}")


def test_a_table_without_a_key_is_kept_as_a_history(clicks):  # one test: each step needs the one before, and an add takes a snapshot
    _is_refused_with_both_ways_out(clicks)
    _is_added_while_transactions_are_under_way(clicks)
    _keeps_each_change_once(clicks)
    _loses_and_doubles_nothing_when_workers_are_killed(clicks)
    _is_truncated(clicks)
    _takes_new_columns(clicks)
    _is_paused_and_resumed(clicks)
    _tells_a_row_that_is_not_there(clicks)
    _gets_another_snapshot(clicks)
    _goes(clicks)


def _is_refused_with_both_ways_out(running):
    refused = running.weir("table", "add", f"public.{TABLE}", check=False)
    told = " ".join(refused.stderr.split())
    assert refused.returncode != 0
    assert f"ALTER TABLE public.{TABLE} ADD PRIMARY KEY" in told
    assert f"./weir table add public.{TABLE} --history" in told
    refused = running.weir("table", "add", f"public.{TABLE}", "--history", check=False)
    assert refused.returncode != 0
    assert f"ALTER TABLE public.{TABLE} REPLICA IDENTITY FULL;" in " ".join(refused.stderr.split())
    assert running.weir("table", "check", f"public.{TABLE}", "--history", check=False).returncode == 1
    _sql(running, f"ALTER TABLE {TABLE} REPLICA IDENTITY FULL")


def _is_added_while_transactions_are_under_way(running):
    """One that wrote before the table was published is waited for; one that begins afterwards is open across the snapshot and not in it."""
    with psycopg.connect(running.endpoints["postgres_dsn"]) as before, psycopg.connect(running.endpoints["postgres_dsn"]) as across, ThreadPoolExecutor(1) as pool:
        before.execute(f"UPDATE {TABLE} SET note = 'before' WHERE who = 2")
        adding = pool.submit(running.weir, "table", "add", f"public.{TABLE}", "--history")
        _until(lambda: running.clickhouse(f"SELECT count() FROM system.tables WHERE database = 'captured' AND name = '{TABLE}__0'") == [(1,)])
        time.sleep(3)  # nothing else shows that nothing is copied
        assert (adding.done(), running.clickhouse(f"SELECT count() FROM captured.{TABLE}__0")) == (False, [(0,)])
        across.execute(f"UPDATE {TABLE} SET note = 'across' WHERE who = 3")
        before.commit()
        adding.result()
        assert _same(running), "as the snapshot sees it"
        across.commit()
    _until(lambda: _same(running))
    assert running.weir("table", "check", f"public.{TABLE}").returncode == 0


def _keeps_each_change_once(running):
    before = len(_changes(running))
    _sql(running, f"INSERT INTO {TABLE} SELECT 1, 'twin', 5, NULL FROM generate_series(1, 300)", f"INSERT INTO {TABLE} VALUES (2, 'one', 1, NULL)", f"UPDATE {TABLE} SET amount = 2 WHERE note = 'one'",
         f"DELETE FROM {TABLE} WHERE note = 'one'")
    _until(lambda: len(_changes(running)) >= before + 303)
    assert [op for _, op in _changes(running)[before:]] == ["c"] * 301 + ["u", "d"]
    (changed,), (gone,) = (running.clickhouse(f"SELECT after_note, toString(before_amount), toString(after_amount), committed_at > now() - INTERVAL 1 HOUR FROM captured.{TABLE} WHERE op = '{op}' AND before_note = 'one'")
                           for op in "ud")
    assert (changed, gone) == (("one", "1", "2", 1), (None, "2", None, 1))
    assert _same(running)


def _statement(chance):
    who = chance.randrange(7)
    return chance.choice([f"INSERT INTO {TABLE} SELECT {who}, 'x' || i % 3, {who}, NULL FROM generate_series(1, {chance.choice([1, 1, 2, 40])}) i",
                          f"UPDATE {TABLE} SET amount = amount + 1 WHERE ctid IN (SELECT ctid FROM {TABLE} WHERE who = {who} LIMIT {chance.choice([1, 20])})",
                          f"DELETE FROM {TABLE} WHERE ctid IN (SELECT ctid FROM {TABLE} WHERE who = {who} LIMIT {chance.choice([1, 3])})", f"INSERT INTO {TABLE} SELECT * FROM {TABLE} WHERE who = {who} LIMIT 5"])


def _loses_and_doubles_nothing_when_workers_are_killed(running):
    chance = random.Random(SEED)  # noqa: S311 - a seed makes the same changes again
    with psycopg.connect(running.endpoints["postgres_dsn"]) as c:
        for round_ in range(4):
            for _ in range(40):
                for _ in range(chance.choice([1, 3])):
                    c.execute(_statement(chance))
                if chance.random() < 0.1:
                    c.rollback()
                c.commit()
            os.kill(Control(running.home).states()[("ingest", "connect")[round_ % 2]].pid, signal.SIGKILL)
    _until(lambda: _same(running), 180)
    places = running.clickhouse(f"SELECT count(), uniqExact(partition, position) FROM captured.{TABLE}__0 WHERE snapshot = 0")
    assert places[0][0] == places[0][1], f"seed {SEED}: a change has two rows"
    checked = _reconciled(running)
    assert (checked["outcome"], checked["rows_checked"]) == ("yes", _sql(running, f"SELECT count(*) FROM {TABLE}")[0][0]), f"seed {SEED}: {checked}"


def _is_truncated(running):
    changes = len(_changes(running))
    with psycopg.connect(running.endpoints["postgres_dsn"]) as c:
        c.execute(f"INSERT INTO {TABLE} VALUES (1, 'gone', 1, NULL)")
        c.execute(f"TRUNCATE {TABLE}")
        c.execute(f"INSERT INTO {TABLE} SELECT 5, 'after', 1, NULL FROM generate_series(1, 40)")
    _until(lambda: len(_changes(running)) == changes + 42 and _same(running))
    assert [op for _, op in _changes(running)[-42:]] == ["c", "t", *["c"] * 40]
    assert (_reconciled(running)["outcome"], len(running.clickhouse(f"SELECT 1 FROM captured.{TABLE} WHERE op = 'r'"))) == ("yes", 2000)


def _takes_new_columns(running):
    _sql(running, f"ALTER TABLE {TABLE} ADD COLUMN came text", f"UPDATE {TABLE} SET came = 'late' WHERE note = 'after'")
    _until(lambda: any(c["name"] == "came" and c["read"] for c in _tables(running)[TABLE]["columns"]))
    _until(lambda: _same(running, "who, came", "who, came"))
    assert running.clickhouse(f"SELECT max(snapshot) FROM captured.{TABLE}") == [(1,)], "no row that was there reads otherwise"
    _sql(running, f"ALTER TABLE {TABLE} ADD COLUMN channel text NOT NULL DEFAULT 'shop'", f"INSERT INTO {TABLE} (who, amount, channel) VALUES (1, 1, 'web')")
    _until(lambda: any(c["name"] == "channel" and c["read"] for c in _tables(running)[TABLE]["columns"]) and _tables(running)[TABLE]["state"] == "capturing")
    _until(lambda: _same(running, "who, came, channel", "who, came, channel"))
    assert running.clickhouse(f"SELECT max(snapshot) FROM captured.{TABLE}") == [(2,)]
    assert _reconciled(running)["outcome"] == "yes"


def _is_paused_and_resumed(running):
    running.weir("table", "pause", TABLE, "--why", "a test")
    time.sleep(2.5)  # how long ingest may take to heed it, and then some
    changes = len(_changes(running))
    _sql(running, f"INSERT INTO {TABLE} (who, amount) VALUES (6, 6), (6, 6)")
    time.sleep(2.0)
    assert len(_changes(running)) == changes
    running.weir("table", "resume", TABLE)
    _until(lambda: _same(running))
    assert len(_changes(running)) == changes + 2


def _tells_a_row_that_is_not_there(running):
    """A change that is taken out of the history by hand, and one that is put into it, are told, and nothing is repaired."""
    lost = running.clickhouse(f"SELECT lsn, position FROM captured.{TABLE}__0 WHERE op = 'c' ORDER BY lsn DESC, position DESC LIMIT 1")[0]
    running.clickhouse_command(f"INSERT INTO captured.{TABLE}__0 SELECT * REPLACE (position + 1000000 AS position) FROM (SELECT * FROM captured.{TABLE}__0 WHERE (lsn, position) = {lost})")
    checked = _reconciled(running)
    assert (checked["outcome"], checked["missing"], checked["extra"], checked["repaired"], checked["repairable"]) == ("no", 0, 1, 0, False)
    running.clickhouse_command(f"ALTER TABLE captured.{TABLE}__0 DELETE WHERE lsn = {lost[0]} SETTINGS mutations_sync = 2")
    checked = _reconciled(running)
    assert (checked["outcome"], checked["extra"], checked["missing"] > 0) == ("no", 0, True)


def _gets_another_snapshot(running):
    _sql(running, f"ALTER TABLE {TABLE} RENAME COLUMN note TO remark", f"UPDATE {TABLE} SET remark = 'renamed' WHERE who = 5")
    _until(lambda: _tables(running)[TABLE]["state"] == "paused")
    changes = len(_changes(running))
    running.weir("table", "resync", TABLE)
    _until(lambda: _same(running, "who, remark, channel", "who, remark, channel"))
    assert len(_changes(running)) >= changes, "what was there stays"
    _sql(running, f"DELETE FROM {TABLE} WHERE who = 6", f"INSERT INTO {TABLE} (who, amount, remark) VALUES (7, 7, 'new')")
    _until(lambda: _same(running, "who, remark, channel", "who, remark, channel"))
    assert _reconciled(running)["outcome"] == "yes"


def _goes(running):
    running.weir("table", "remove", TABLE)
    assert running.clickhouse(f"SELECT name FROM system.tables WHERE database = 'captured' AND startsWith(name, '{TABLE}')") == []
    assert TABLE not in _tables(running)


def test_a_table_with_a_key_may_be_a_history_too(running):
    name = "ledgers"
    _sql(running, f"DROP TABLE IF EXISTS {name}", f"CREATE TABLE {name} (id bigint PRIMARY KEY, n int)", f"ALTER TABLE {name} REPLICA IDENTITY FULL",
         f"INSERT INTO {name} SELECT i, i FROM generate_series(1, 100) i")
    try:
        running.weir("table", "add", name)
        running.weir("table", "remove", name)
        running.weir("table", "add", name, "--history")
        _sql(running, f"UPDATE {name} SET id = id + 1000 WHERE id <= 10", f"UPDATE {name} SET n = 0 WHERE id > 90 AND id <= 100", f"DELETE FROM {name} WHERE id = 50")
        there = [tuple(r) for r in _sql(running, f"SELECT id, n FROM {name} ORDER BY id")]
        _until(lambda: running.clickhouse(f"SELECT id, n FROM captured.{name}__rows ORDER BY id") == there)
        ops = Counter(r[0] for r in running.clickhouse(f"SELECT op FROM captured.{name}"))
        assert ops == Counter(r=100, c=10, d=11, u=10), "a new key is a delete and a create"
    finally:
        if name in _tables(running):
            running.weir("table", "remove", name)
        _sql(running, f"DROP TABLE IF EXISTS {name}")

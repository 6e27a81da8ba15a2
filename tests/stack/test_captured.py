"""Tables of the real stack: added, changed, paused, resynced and removed, with the source compared to what its readers see."""
import json
import time
import uuid

import psycopg
import pytest

pytestmark = pytest.mark.stack
TABLE = "orders"
COLUMNS = "id, user_id, toString(amount), note, tags, toUnixTimestamp64Micro(placed_at)"


def _sql(running, *statements):
    with psycopg.connect(running.endpoints["postgres_dsn"], autocommit=True) as c:
        return [c.execute(s).fetchall() if s.lstrip().startswith("SELECT") else c.execute(s) for s in statements][-1]


def _tables(running):
    return {t["name"]: t for t in json.loads(running.weir("table", "list", "--json").stdout)}


def _debris(running):
    return [r[0] for r in running.clickhouse(f"SELECT name FROM system.tables WHERE database = 'captured' AND (name = '{TABLE}' OR startsWith(name, '{TABLE}__')) ORDER BY name")]


def _until(what, seconds=90):
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.5)
    return found


def _same(running, select, there):
    """Whether ClickHouse's readers see what PostgreSQL has."""
    return running.clickhouse(f"{select} FROM captured.{TABLE} ORDER BY id") == [tuple(r) for r in _sql(running, there)]


@pytest.fixture
def orders(running):
    if TABLE in _tables(running):
        running.weir("table", "remove", TABLE)
    _sql(running, f"DROP TABLE IF EXISTS {TABLE}",
         f"CREATE TABLE {TABLE} (id bigint PRIMARY KEY, user_id bigint NOT NULL, amount numeric(12,2) NOT NULL, note text DEFAULT 'none', tags text[], placed_at timestamptz NOT NULL DEFAULT now())",
         f"ALTER TABLE {TABLE} REPLICA IDENTITY FULL",
         f"INSERT INTO {TABLE} SELECT i, i % 100, i * 1.25, CASE WHEN i % 3 = 0 THEN NULL ELSE 'n' || i END, ARRAY['a', NULL], now() FROM generate_series(1, 3000) i")
    running.weir("table", "add", f"public.{TABLE}")
    yield running
    if TABLE in _tables(running):
        running.weir("table", "remove", TABLE)
    _sql(running, f"DROP TABLE IF EXISTS {TABLE}")


def test_a_table_is_added_lives_changes_its_columns_and_goes(orders):  # one test: each step needs the one before, and an add takes a snapshot
    _lives(orders)
    _takes_a_new_column_by_itself(orders)
    _stops_for_a_rename_and_is_resynced(orders)
    _is_truncated_and_fills_again(orders)
    _is_paused_and_resumed(orders)
    _connector_is_put_right(orders)
    _goes(orders)


def _told(running):
    """What the verdict says of the table."""
    told = json.loads(running.weir("run", "python", "-m", "weir.quality", "--json", check=False).stdout)
    return [r for r in told["reasons"] if TABLE in r and "not looked at" not in r and "compare" not in r], {v["name"] for v in told["verified"]}


def _lives(running):
    assert _told(running)[0] == []
    assert _same(running, "SELECT id, user_id, note", f"SELECT id, user_id, note FROM {TABLE} ORDER BY id")
    _sql(running, f"UPDATE {TABLE} SET note = 'changed' WHERE id % 7 = 0", f"DELETE FROM {TABLE} WHERE id % 11 = 0", f"UPDATE {TABLE} SET id = id + 100000 WHERE id % 13 = 0",
         f"UPDATE {TABLE} SET note = NULL WHERE id % 17 = 0")  # which is no default
    _until(lambda: _same(running, "SELECT id, user_id, note", f"SELECT id, user_id, note FROM {TABLE} ORDER BY id"))
    assert len(_debris(running)) == 3
    plan = running.weir("connector", "plan", "--json", check=False)
    assert (plan.returncode, json.loads(plan.stdout)["changes"]) == (0, False)


def _takes_a_new_column_by_itself(running):
    _sql(running, f"ALTER TABLE {TABLE} ADD COLUMN channel text NOT NULL DEFAULT 'shop', ADD COLUMN token uuid DEFAULT gen_random_uuid(), ADD COLUMN seen_at timestamptz DEFAULT now()",
         f"UPDATE {TABLE} SET channel = 'web', seen_at = NULL WHERE id % 2 = 0")
    _until(lambda: any(c["name"] == "channel" and c["read"] for c in _tables(running)[TABLE]["columns"]) and _tables(running)[TABLE]["state"] == "capturing")
    _until(lambda: _same(running, "SELECT id, channel, toString(token), isNull(seen_at)", f"SELECT id, channel, token::text, (seen_at IS NULL)::int FROM {TABLE} ORDER BY id"))
    assert {r[0] for r in running.clickhouse(f"SELECT DISTINCT channel FROM captured.{TABLE}")} == {"shop", "web"}


def _stops_for_a_rename_and_is_resynced(running):
    before = running.clickhouse(f"SELECT id, note FROM captured.{TABLE} ORDER BY id")
    user = int(uuid.uuid4().int % 10**6) + 5_000_000
    _sql(running, f"ALTER TABLE {TABLE} RENAME COLUMN note TO remark", f"UPDATE {TABLE} SET remark = 'after' WHERE id % 5 = 0",
         f"INSERT INTO users (user_id, age, gender, occupation, zip_code, country) VALUES ({user}, 30, 'F', 'captured', '0', 'DE')")
    _until(lambda: _tables(running)[TABLE]["state"] == "paused")
    assert "remark" in _tables(running)[TABLE]["why"] or "note" in _tables(running)[TABLE]["why"]
    checked = running.weir("table", "check", f"public.{TABLE}", "--json", check=False)
    (schema,) = json.loads(checked.stdout)["schema"]
    assert checked.returncode == 1
    assert [(c["change"], c["column"], c["safe"]) for c in schema["changes"]] == [("renamed", "note", False)]
    assert any(t["name"] == TABLE and t["state"] == "paused" for t in running.status()["tables"])
    _until(lambda: running.clickhouse(f"SELECT count() FROM landing.cdc_changes WHERE topic = 'shop.public.users' AND JSONExtractInt(after, 'user_id') = {user}") == [(1,)])
    assert running.clickhouse(f"SELECT id, note FROM captured.{TABLE} ORDER BY id") == before, "a paused table shows what it showed: no row lost its note"
    refused = running.weir("table", "resume", TABLE, check=False)
    assert refused.returncode != 0
    assert f"./weir table resync {TABLE}" in " ".join(refused.stderr.split())
    running.weir("table", "resync", TABLE)
    _until(lambda: _same(running, "SELECT id, remark", f"SELECT id, remark FROM {TABLE} ORDER BY id"))
    assert _tables(running)[TABLE]["state"] == "capturing"
    assert len(_debris(running)) == 3
    _sql(running, f"DELETE FROM users WHERE user_id = {user}")


def _is_truncated_and_fills_again(running):
    _sql(running, f"TRUNCATE {TABLE}", f"INSERT INTO {TABLE} (id, user_id, amount, remark) SELECT i, i, 1, 'again' FROM generate_series(1, 40) i", f"DELETE FROM {TABLE} WHERE id = 7")
    _until(lambda: _same(running, "SELECT id, remark", f"SELECT id, remark FROM {TABLE} ORDER BY id"))
    assert running.clickhouse(f"SELECT count() FROM captured.{TABLE}") == [(39,)]
    assert _tables(running)[TABLE]["state"] == "capturing"
    document = json.loads(running.weir("reconcile", "--once", "--table", TABLE, "--json").stdout)
    assert (document["outcome"], document["checks"][0]["rows_checked"]) == ("yes", 39)


def _is_paused_and_resumed(running):
    budget = json.loads(running.weir("table", "pause", TABLE, "--why", "a test", "--json").stdout)["budget"]
    assert budget["kafka_hours"] == 168
    assert set(budget) == {"kafka_hours", "wal_left_bytes", "wal_hours"}
    time.sleep(2.5)  # how long ingest may take to heed it, and then some: nothing else shows that nothing came
    _sql(running, f"UPDATE {TABLE} SET remark = 'paused' WHERE id % 3 = 0")
    time.sleep(2.0)
    assert running.clickhouse(f"SELECT count() FROM captured.{TABLE} WHERE remark = 'paused'") == [(0,)]
    running.weir("table", "resume", TABLE)
    _until(lambda: _same(running, "SELECT id, remark", f"SELECT id, remark FROM {TABLE} ORDER BY id"))
    twice = running.clickhouse(f"SELECT count() - uniqExact(partition, offset) FROM landing.cdc_changes WHERE topic = 'shop.public.{TABLE}'")
    assert twice == [(0,)], "what was held is landed once"


def _connector_is_put_right(running):
    """What somebody changed in Connect by hand is planned and put back, and changes flow as before."""
    import httpx

    url = running.endpoints["connect_url"]
    live = {k: v for k, v in httpx.get(f"{url}/connectors/shop/config").json().items() if k != "name"}
    httpx.put(f"{url}/connectors/shop/config", json=live | {"max.batch.size": "1024"}, timeout=20).raise_for_status()
    planned = running.weir("connector", "plan", "--json", check=False)
    (setting,) = json.loads(planned.stdout)["settings"]
    assert (setting["key"], setting["live"], setting["wanted"]) == ("max.batch.size", "1024", "8192")
    running.weir("connector", "apply")
    assert json.loads(running.weir("connector", "plan", "--json").stdout)["changes"] is False
    assert httpx.get(f"{url}/connectors/shop/config").json() == live | {"name": "shop"}
    _sql(running, f"UPDATE {TABLE} SET remark = 'applied' WHERE id = 3")
    _until(lambda: running.clickhouse(f"SELECT count() FROM captured.{TABLE} WHERE remark = 'applied'") == [(1,)])


def _goes(running):
    running.weir("table", "remove", TABLE)
    assert _debris(running) == []
    assert TABLE not in _tables(running)
    reasons, verified = _told(running)
    assert (reasons, TABLE in verified) == ([], False)
    assert _sql(running, f"SELECT count(*) FROM pg_publication_tables WHERE pubname = 'weir' AND tablename = '{TABLE}'") == [(0,)]
    assert running.weir("connector", "plan", check=False).returncode == 0


def test_a_table_that_dbt_makes_is_resynced_in_its_place(running):
    _until(lambda: "users" in _tables(running))
    columns = "user_id, age, gender, occupation, zip_code, country"
    at_the_source = _sql(running, f"SELECT {columns}, coalesce(preferred_genre, '') FROM users ORDER BY user_id")
    staged = f"SELECT {columns}, preferred_genre FROM staging.stg_users FINAL ORDER BY user_id"
    assert len(at_the_source) > 900
    _until(lambda: running.clickhouse(staged) == at_the_source)  # also what tests before this one took away again
    running.weir("table", "resync", "users")
    assert running.clickhouse(staged) == at_the_source
    assert running.clickhouse("SELECT count() FROM system.tables WHERE name LIKE 'stg_users__next%'") == [(0,)]
    user = int(uuid.uuid4().int % 10**6) + 5_000_000
    _sql(running, f"INSERT INTO users (user_id, age, gender, occupation, zip_code, country) VALUES ({user}, 30, 'F', 'captured', '0', 'DE')")
    _until(lambda: running.clickhouse(f"SELECT count() FROM staging.stg_users FINAL WHERE user_id = {user}") == [(1,)])
    _sql(running, f"DELETE FROM users WHERE user_id = {user}")
    _until(lambda: running.clickhouse(f"SELECT count() FROM staging.stg_users FINAL WHERE user_id = {user}") == [(0,)])


def test_status_tells_the_growth_of_the_slot(running):
    sql = "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn, restart_lsn - '0/0'::pg_lsn FROM pg_replication_slots WHERE slot_name = 'weir'"
    (written_before, needed_before), = _sql(running, sql)
    slot = running.status()["slot"]
    (written_after, needed_after), = _sql(running, sql)
    assert slot["growth"] is not None
    assert set(slot["growth"]) == {"seconds", "growth_bytes_per_hour", "wal_bytes_per_hour", "hours_to_limit", "hours_if_stopped"}
    assert slot["wal_status"] == "reserved"
    assert written_before - needed_after <= slot["retained_bytes"] <= written_after - needed_before, "both only move on"

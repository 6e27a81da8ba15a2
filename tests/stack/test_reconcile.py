"""Errors planted in the sink and in the online store of the real stack: found and repaired within two cycles, with evidence; changes under way are none."""
import json
import threading
import time

import psycopg
import pytest
import redis

from weir.contracts.features import FEATURE_VIEWS, ValueType
from weir.contracts.online import encode_value, entity_key, feature_field, timestamp_field

pytestmark = [pytest.mark.stack, pytest.mark.usefixtures("no_companion")]
VIEW = next(v for v in FEATURE_VIEWS if v.name == "user_profile")


def _cycle(running, *arguments, table="users"):
    done = running.weir("reconcile", "--once", "--json", "--table", table, *arguments, check=False)
    document = json.loads(done.stdout)
    assert done.returncode == {"yes": 0, "no": 1, "unknown": 2}[document["outcome"]], done.stderr
    return {c["name"]: c for c in document["checks"]}


def _found(check):
    return {k: check[k] for k in ("missing", "extra", "doubled", "different", "stale") if check[k]}


def _kept(running, key):
    rows = running.clickhouse(f"SELECT kind, state FROM ops.reconcile_findings WHERE key = '{key}' ORDER BY at")
    return [tuple(r) for r in rows]


def _users(running, n):
    return [r[0] for r in running.clickhouse(f"SELECT user_id FROM staging.stg_users FINAL ORDER BY cityHash64(user_id, {time.time_ns()}) LIMIT {n}")]


def _redis(running):
    return redis.Redis.from_url(running.endpoints["redis_url"])


def test_a_stack_at_rest_is_verified_through_an_lsn_for_tables_and_views(running):
    checks = _cycle(running)
    assert {c["outcome"] for c in checks.values()} == {"yes"}, checks
    assert {c["verified_through"] is not None for c in checks.values()} == {True}
    counted = running.clickhouse("SELECT count() FROM staging.stg_users FINAL WHERE version >= bitShiftLeft(toUInt64(1), 48)")[0][0]
    assert checks["users"]["rows_checked"] == counted > 900


def test_a_row_lost_in_the_sink_is_found_and_read_again(running):
    (user,) = _users(running, 1)
    running.clickhouse_command(f"ALTER TABLE staging.stg_users DELETE WHERE user_id = {user} SETTINGS mutations_sync = 2")
    found = _cycle(running)["users"]
    assert (found["outcome"], _found(found), found["verified_through"], found["repairable"]) == ("no", {"missing": 1}, None, True)
    repaired = _cycle(running, "--repair")["users"]
    assert (repaired["outcome"], _found(repaired), repaired["repaired"]) == ("yes", {"missing": 1}, 1)
    assert ("missing", "found") in _kept(running, user)
    assert ("missing", "repaired") in _kept(running, user)
    assert _found(_cycle(running)["users"]) == {}


def test_a_row_changed_in_the_sink_is_found_and_read_again(running):
    (user,) = _users(running, 1)
    before = running.clickhouse(f"SELECT age, occupation FROM staging.stg_users FINAL WHERE user_id = {user}")
    running.clickhouse_command(f"ALTER TABLE staging.stg_users UPDATE age = age + 1 WHERE user_id = {user} SETTINGS mutations_sync = 2")
    repaired = _cycle(running, "--repair")["users"]
    assert (repaired["outcome"], _found(repaired), repaired["repaired"]) == ("yes", {"different": 1}, 1)
    assert running.clickhouse(f"SELECT age, occupation FROM staging.stg_users FINAL WHERE user_id = {user}") == before


def test_a_row_that_the_source_does_not_have_is_deleted_everywhere(running):
    ghost = 10_000_000 + int(time.time())  # not one that an earlier run has deleted: its tombstone would win
    row = f"({ghost}, 30, 'F', 'ghost', '00000', 'DE', 'Drama', now64(3), bitShiftLeft(toUInt64(1), 48), 0, now64(3))"
    names = "user_id, age, gender, occupation, zip_code, country, preferred_genre, changed_at, version, is_deleted, produced_at"
    running.clickhouse_command(f"INSERT INTO staging.stg_users ({names}) VALUES {row}")
    repaired = _cycle(running, "--repair")["users"]
    assert (repaired["outcome"], _found(repaired), repaired["repaired"]) == ("yes", {"extra": 1}, 1)
    assert running.clickhouse(f"SELECT count() FROM staging.stg_users FINAL WHERE user_id = {ghost}") == [(0,)]


def test_a_row_stored_twice_is_found_and_merged(running):
    (user,) = _users(running, 1)
    running.clickhouse_command("SYSTEM STOP MERGES staging.stg_users")
    try:
        running.clickhouse_command(f"INSERT INTO staging.stg_users SETTINGS insert_deduplicate = 0 SELECT * FROM staging.stg_users FINAL WHERE user_id = {user}")
        found = _cycle(running)["users"]
        assert (found["outcome"], _found(found)) == ("no", {"doubled": 1})
    finally:
        running.clickhouse_command("SYSTEM START MERGES staging.stg_users")
    _cycle(running, "--repair")
    assert running.clickhouse(f"SELECT count() FROM (SELECT 1 FROM staging.stg_users WHERE user_id = {user} GROUP BY version HAVING count() > 1)") == [(0,)]
    assert _found(_cycle(running)["users"]) == {}


def test_stale_lost_and_left_over_features_are_found_and_repaired(running):
    online, (stale, lost) = _redis(running), _users(running, 2)
    online.hset(entity_key("user_id", stale), feature_field("user_profile", "occupation"), encode_value(ValueType.STRING, "astronaut"))
    fields = [timestamp_field("user_profile"), *(feature_field("user_profile", n) for n, _ in VIEW.features)]
    kept = online.hmget(entity_key("user_id", lost), fields)
    online.hdel(entity_key("user_id", lost), *fields)
    online.hset(entity_key("user_id", 888888), mapping=dict(zip(fields, kept, strict=True)))
    found = _cycle(running)
    assert (found["users"]["outcome"], found["user_profile"]["outcome"], found["user_profile"]["stale"]) == ("yes", "no", 3)
    repaired = _cycle(running, "--repair")["user_profile"]
    assert (repaired["outcome"], repaired["stale"], repaired["repaired"]) == ("yes", 3, 3)
    assert online.hget(entity_key("user_id", stale), feature_field("user_profile", "occupation")) != encode_value(ValueType.STRING, "astronaut")
    assert online.hexists(entity_key("user_id", lost), fields[0])
    assert not online.hexists(entity_key("user_id", 888888), fields[0])


def test_changes_under_way_are_no_differences(running):
    """Updates, deletes and creations all through three cycles, with transactions that stay open over a snapshot."""
    dsn, stop, errors = _dsn(running), threading.Event(), []

    def churn():
        try:
            with psycopg.connect(dsn) as connection:
                n = 0
                while not stop.is_set():
                    n += 1
                    connection.execute("UPDATE users SET age = 20 + (age + 1) %% 60, updated_at = now() WHERE user_id %% 97 = %s", (n % 97,))
                    connection.execute("INSERT INTO users (user_id, age, gender, occupation, zip_code, country) VALUES (%s, 30, 'F', 'churn', '0', 'DE')", (700000 + n,))
                    if n > 5:
                        connection.execute("DELETE FROM users WHERE user_id = %s", (700000 + n - 5,))
                    time.sleep(0.05 if n % 10 else 1.5)  # one in ten stays open over a snapshot
                    connection.commit()
                connection.execute("DELETE FROM users WHERE occupation = 'churn'")
        except psycopg.Error as error:
            errors.append(error)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(3):
            check = _cycle(running)["users"]
            assert (check["outcome"], _found(check)) == ("yes", {}), check
    finally:
        stop.set()
        thread.join(20)
    assert errors == []
    assert _found(_cycle(running)["users"]) == {}


def _dsn(running):
    return running.endpoints["postgres_dsn"]


def test_a_source_that_is_away_makes_it_unknown(running):
    env = {**running.env, "WEIR_SETTINGS": str(running.home / "elsewhere.toml")}
    (running.home / "elsewhere.toml").write_text('[endpoints]\npostgres_dsn = "postgresql://weir:x@127.0.0.1:1/shop"\n')
    away = type(running)(running.home, env)
    checks = _cycle(away)
    assert {c["outcome"] for c in checks.values()} == {"unknown"}
    assert {c["verified_through"] for c in checks.values()} == {None}

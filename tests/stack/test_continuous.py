"""Continuous reconciliation beside the stack: what is planted is found within two rounds and repaired, at a bounded cost, and status says through which LSN."""
import time

import psycopg
import pytest
import redis

from weir.contracts.features import FEATURE_VIEWS, ValueType
from weir.contracts.online import encode_value, entity_key, feature_field
from weir.reconcile.rotation import SHARE
from weir.stack.supervision import Control

pytestmark = [pytest.mark.stack, pytest.mark.long]  # a round is as slow as its share of a core wants it: a quarter of an hour in all
LIMIT_S = 420  # a hang, not a speed
COLUMNS = "user_id, age, gender, occupation, zip_code, country, preferred_genre, changed_at, version, is_deleted, source_lsn, produced_at"
NAMES = {"users", "items", "marts.user_profile", "marts.item_catalogue", "user_profile", "item_catalogue"}


@pytest.fixture
def companion(running):
    """The stack's companion, begun anew, so that it has told nothing yet."""
    control = Control(running.home)
    control.stop("reconcile")
    control.start("reconcile")
    return running


def _rounds(running, name):
    return running.clickhouse(f"SELECT outcome, at FROM ops.reconcile_cycles WHERE name = '{name}' AND cost_s > 0 ORDER BY at")


def _repaired_within_two_rounds(running, name, kind, plant):
    """Plant, and wait until a round has found it and repaired it: the one under way when it was planted, or one of the two after it.

    A row that is lost between the look at its table and that at its features is first seen as a feature of no row, and the same re-read brings it back.
    """
    before = len(_rounds(running, name))
    since = running.clickhouse("SELECT toString(now64(3))")[0][0]
    key = plant()
    deadline = time.monotonic() + LIMIT_S
    while True:
        found = {r[0] for r in running.clickhouse(
            f"SELECT state FROM ops.reconcile_findings WHERE key = '{key}' AND kind IN ('{kind}', 'stale') AND at >= toDateTime64('{since}', 3, 'UTC')")}
        if "repaired" in found:
            break
        rounds = len(_rounds(running, name)) - before
        assert rounds <= 2, f"{rounds} rounds of {name} did not find and repair {kind} of {key}: {found}"
        assert time.monotonic() < deadline, (rounds, found)
        time.sleep(1)
    assert found == {"found", "repaired"}
    return key


def _user(running):
    return running.clickhouse(f"SELECT user_id FROM staging.stg_users FINAL ORDER BY cityHash64(user_id, {time.time_ns()}) LIMIT 1")[0][0]


def _delete(running, user):
    running.clickhouse_command(f"ALTER TABLE staging.stg_users DELETE WHERE user_id = {user} SETTINGS mutations_sync = 2")
    return user


def _change(running, user):
    running.clickhouse_command(f"ALTER TABLE staging.stg_users UPDATE age = age + 1 WHERE user_id = {user} SETTINGS mutations_sync = 2")
    return user


def _double(running, user):
    running.clickhouse_command("SYSTEM STOP MERGES staging.stg_users")
    running.clickhouse_command(f"INSERT INTO staging.stg_users ({COLUMNS}) SETTINGS insert_deduplicate = 0 SELECT {COLUMNS} FROM staging.stg_users FINAL WHERE user_id = {user}")
    return user


def test_a_row_lost_changed_or_doubled_in_the_sink_is_found_within_two_rounds_and_repaired(companion):
    for kind, plant in (("missing", _delete), ("different", _change)):
        user = _repaired_within_two_rounds(companion, "users", kind, lambda plant=plant: plant(companion, _user(companion)))
        with psycopg.connect(companion.endpoints["postgres_dsn"]) as source:
            there = source.execute("SELECT age, occupation FROM users WHERE user_id = %s", (user,)).fetchall()
        assert companion.clickhouse(f"SELECT age, occupation FROM staging.stg_users FINAL WHERE user_id = {user}") == there
    user = _user(companion)
    try:
        _double(companion, user)
        deadline = time.monotonic() + LIMIT_S
        while not companion.clickhouse(f"SELECT 1 FROM ops.reconcile_findings WHERE key = '{user}' AND kind = 'doubled'"):
            assert time.monotonic() < deadline
            time.sleep(1)
    finally:
        companion.clickhouse_command("SYSTEM START MERGES staging.stg_users")
    deadline = time.monotonic() + LIMIT_S
    while companion.clickhouse(f"SELECT count() FROM (SELECT 1 FROM staging.stg_users WHERE user_id = {user} GROUP BY version HAVING count() > 1)") != [(0,)]:
        assert time.monotonic() < deadline, "the row is stored twice still"
        time.sleep(1)


def test_a_stale_feature_is_found_within_two_rounds_and_repaired(companion):
    online, view = redis.Redis.from_url(companion.endpoints["redis_url"]), next(v for v in FEATURE_VIEWS if v.name == "user_profile")
    field, wrong = feature_field(view.name, "occupation"), encode_value(ValueType.STRING, "astronaut")

    def stale():
        user = _user(companion)
        online.hset(entity_key("user_id", user), field, wrong)
        return user

    user = _repaired_within_two_rounds(companion, "user_profile", "stale", stale)
    assert online.hget(entity_key("user_id", user), field) != wrong


def test_a_wrong_view_row_is_found_within_two_rounds_and_the_view_is_made_anew(companion):
    right = companion.clickhouse("SELECT as_select FROM system.tables WHERE database = 'marts' AND name = 'user_profile'")[0][0]
    age = {}

    def wrong():
        user = _user(companion)
        age[user] = companion.clickhouse(f"SELECT age FROM marts.user_profile WHERE user_id = {user}")[0][0]
        columns = f"user_id, if(user_id = {user}, age + 1, age) AS age, gender, occupation, country, preferred_genre, event_timestamp"
        companion.clickhouse_command(f"CREATE OR REPLACE VIEW marts.user_profile AS SELECT {columns} FROM ({right})")
        return user

    user = _repaired_within_two_rounds(companion, "marts.user_profile", "different", wrong)
    assert companion.clickhouse(f"SELECT age FROM marts.user_profile WHERE user_id = {user}") == [(age[user],)]


def test_status_and_the_verdict_say_through_which_lsn_each_was_verified_and_the_cost_is_within_its_budget(companion):
    began = companion.clickhouse("SELECT toString(now64(3))")[0][0]
    deadline = time.monotonic() + LIMIT_S
    recent = f"at >= toDateTime64('{began}', 3, 'UTC') AND cost_s > 0"
    while {r[0] for r in companion.clickhouse(f"SELECT name FROM ops.reconcile_cycles WHERE {recent} GROUP BY name HAVING count() >= 3")} < NAMES:
        assert time.monotonic() < deadline
        time.sleep(2)
    status = companion.status()
    told = {v["name"]: v for v in status["verified"]}
    assert {n for n in NAMES if told[n]["outcome"] == "yes" and told[n]["through_lsn"] and "/" in told[n]["lsn"]} == NAMES
    first, last, cost = companion.clickhouse(f"SELECT min(at), max(at), sum(cost_s) FROM ops.reconcile_cycles WHERE {recent}")[0]
    assert 0 < cost / (last - first).total_seconds() < 1.5 * SHARE, "the first step's cost is in the sum, the rest before it is not"
    assert status["verifying_cores"] is not None


def test_what_cannot_be_checked_is_unknown_until_it_can(companion):
    control = Control(companion.home)
    deadline = time.monotonic() + LIMIT_S
    while not _rounds(companion, "users"):
        assert time.monotonic() < deadline
        time.sleep(1)
    began = companion.clickhouse("SELECT toString(now64(3))")[0][0]
    while not companion.clickhouse(f"SELECT 1 FROM ops.reconcile_cycles WHERE name = 'users' AND outcome = 'yes' AND at > toDateTime64('{began}', 3, 'UTC')"):
        assert time.monotonic() < deadline
        time.sleep(1)  # it has told something since it began, and so tells that it cannot
    control.stop("connect")
    try:
        while not companion.clickhouse(f"SELECT 1 FROM ops.reconcile_cycles WHERE name = 'users' AND outcome = 'unknown' AND at > toDateTime64('{began}', 3, 'UTC')"):
            assert time.monotonic() < deadline
            time.sleep(1)
    finally:
        companion.weir("up")
    assert {v["name"]: v["outcome"] for v in companion.status()["verified"]}["users"] in {"unknown", "yes"}

"""TRUNCATE at the source, on the real path: nothing of before it is served or counted, whatever is written after it is."""
import json

import pytest

from weir.contracts.features import FEATURE_VIEWS
from weir.contracts.online import entity_key, timestamp_field
from weir.demo import follow

pytestmark = pytest.mark.stack
LIMIT_S = 60
COLUMNS = "user_id, age, gender, occupation, zip_code, country, preferred_genre"


@pytest.fixture
def shop(endpoints):
    """The source; whatever the test does, its users are back after it."""
    import psycopg

    with psycopg.connect(endpoints.postgres_dsn, autocommit=True) as connection:
        rows = connection.execute(f"SELECT {COLUMNS} FROM users").fetchall()
        yield connection, rows
        connection.execute("TRUNCATE users CASCADE")
        with connection.cursor() as cursor:
            cursor.executemany(f"INSERT INTO users ({COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s)", rows)


def _served(endpoints):
    """How many of the online store's users have a profile."""
    import redis

    profile = next(v for v in FEATURE_VIEWS if v.name == "user_profile")
    with redis.Redis.from_url(endpoints.redis_url) as client:
        return sum(client.hexists(entity_key("user_id", user), timestamp_field(profile.name)) for user in range(1, 944))


def test_a_truncated_table_is_empty_everywhere_and_fills_again(running, endpoints, shop):
    source, rows = shop

    def standing():
        return running.clickhouse("SELECT count() FROM staging.int_users")[0][0]

    assert standing() == len(rows) > 900
    assert _served(endpoints) > 900
    source.execute("TRUNCATE users CASCADE")
    follow.until(lambda: standing() == 0, "no user in ClickHouse", LIMIT_S)
    follow.until(lambda: _served(endpoints) == 0, "no user in the online store", LIMIT_S)
    assert running.clickhouse("SELECT count() FROM landing.cdc_changes WHERE op = 't' AND source_lsn IS NULL")[0][0] == 0

    with source.cursor() as cursor:
        cursor.executemany(f"INSERT INTO users ({COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s)", rows[:10])
    follow.until(lambda: standing() == 10, "ten users in ClickHouse", LIMIT_S)
    follow.until(lambda: _served(endpoints) == 10, "ten users in the online store", LIMIT_S)
    report = json.loads(running.weir("reconcile", "--once", "--table", "users", "--json").stdout)
    assert {c["name"]: c["rows_checked"] for c in report["checks"] if c["name"] == "users"} == {"users": 10}

"""A user and an item, deleted at the source, leave every view of the online store, on the real path. Both are of this test alone."""
import json
import time
import urllib.error
import urllib.request

import pytest

from weir.contracts.events import EventType
from weir.contracts.features import FEATURE_VIEWS
from weir.contracts.online import entity_key, view_fields
from weir.demo import follow
from weir.simulation import produce
from weir.simulation.derive import Event
from weir.telemetry import setup

pytestmark = pytest.mark.stack
USER, ITEM = 900_001, 900_001
LIMIT_S = 30


@pytest.fixture
def shop(endpoints):
    import psycopg

    with psycopg.connect(endpoints.postgres_dsn, autocommit=True) as connection:
        yield connection
        connection.execute("DELETE FROM users WHERE user_id = %s", (USER,))
        connection.execute("DELETE FROM items WHERE item_id = %s", (ITEM,))


def _served(endpoints, entity, key):
    """The views that hold anything of an entity."""
    import redis

    with redis.Redis.from_url(endpoints.redis_url) as client:
        found = set(client.hkeys(entity_key(entity, key)))
    return {v.name for v in FEATURE_VIEWS if v.entity == entity and found & set(view_fields(v))}


def _until(endpoints, entity, key, views):
    follow.until(lambda: _served(endpoints, entity, key) == views, f"{entity} {key} in exactly {sorted(views)}", LIMIT_S)


def _click(endpoints, event_id):
    now_ms = int(time.time() * 1000)
    client = produce.producer(endpoints.kafka_bootstrap)
    produce.one(client, Event(event_id, USER, ITEM, EventType.CLICK, None, event_id, "DE", now_ms), setup("test", otlp_url=""))
    client.flush(10)


def _post(url):
    with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=120) as answer:
        return json.loads(answer.read())


def test_a_user_and_an_item_deleted_at_the_source_leave_every_view_and_nothing_brings_them_back(running, endpoints, shop):
    mine = {e: {v.name for v in FEATURE_VIEWS if v.entity == e} for e in ("user_id", "item_id")}
    batch = {"user_history": "user_id", "user_genre_preference": "user_id", "item_history": "item_id"}
    shop.execute("INSERT INTO users (user_id, age, gender, occupation, zip_code, country) VALUES (%s, 30, 'F', 'writer', '1', 'DE')", (USER,))
    shop.execute("INSERT INTO items (item_id, title, release_year, genres, is_active) VALUES (%s, 'Erased', 2000, ARRAY['Drama'], true)", (ITEM,))
    _click(endpoints, f"erased-{time.time_ns()}")
    for mart, key in batch.items():  # as the next build would make them of that click
        running.clickhouse_command(f"INSERT INTO marts.{mart} ({key}, event_timestamp) VALUES ({USER}, now64(3))")
    _post(f"{endpoints.features_url}/refresh")
    _until(endpoints, "user_id", USER, mine["user_id"])
    _until(endpoints, "item_id", ITEM, mine["item_id"])

    shop.execute("DELETE FROM users WHERE user_id = %s", (USER,))
    shop.execute("DELETE FROM items WHERE item_id = %s", (ITEM,))
    _until(endpoints, "user_id", USER, set())
    _until(endpoints, "item_id", ITEM, set())

    _click(endpoints, event_id := f"erased-late-{time.time_ns()}")  # it was on its way
    follow.until(lambda: running.clickhouse(f"SELECT count() FROM landing.user_events WHERE event_id = '{event_id}'")[0][0] == 1, "the late click", LIMIT_S)
    _post(f"{endpoints.features_url}/refresh")
    assert _served(endpoints, "user_id", USER) == _served(endpoints, "item_id", ITEM) == set()
    with urllib.request.urlopen(f"{endpoints.api_url}/features/{USER}", timeout=10) as answer:
        assert not any(json.loads(answer.read())["features"].values())


def test_the_materializer_is_not_healthy_before_its_first_run_and_is_after(running, endpoints):
    running.weir("restart", "features")

    def healthy():
        try:
            with urllib.request.urlopen(f"{endpoints.features_url}/health", timeout=5) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            document = json.loads(error.read())
            assert not document["ready"]
            assert not document.get("last_tick_ms")
            return None

    follow.until(lambda: healthy() is not None, "a healthy materializer", LIMIT_S)
    document = healthy()
    assert document["ready"]
    assert document["state"] == "running"
    assert document["last_tick_ms"] > 0

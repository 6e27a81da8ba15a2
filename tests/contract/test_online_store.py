"""Compare-and-set against a real server: older never overwrites newer, a correction is written, a removal stays."""
import subprocess
import time

import pytest
import redis
from tests.contract.gateway_server import free_port

from weir.connect.redis import binary
from weir.contracts.features import FEATURE_VIEWS
from weir.contracts.online import decode_value, entity_key, feature_field, written_key
from weir.features.store import OnlineStore, Row

PORT = free_port()
PROFILE = next(v for v in FEATURE_VIEWS if v.name == "user_profile")
ACTIVITY = next(v for v in FEATURE_VIEWS if v.name == "item_activity")


@pytest.fixture(scope="module")
def url():
    server = subprocess.Popen([str(binary()), "--port", str(PORT), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"], stdout=subprocess.DEVNULL)
    client = redis.Redis(port=PORT)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            client.ping()
            break
        except redis.ConnectionError:
            time.sleep(0.02)
    yield f"redis://127.0.0.1:{PORT}/0"
    server.terminate()
    server.wait(10)


@pytest.fixture
def store(url):
    redis.Redis.from_url(url).flushall()
    return OnlineStore(url)


def _row(age, event_ms=1000, user=1):
    return Row(user, (age, "M", "student", "DE", "Drama"), event_ms)


def _age(url, user=1):
    view, (name, kind) = PROFILE, PROFILE.features[0]
    return decode_value(kind, redis.Redis.from_url(url).hget(entity_key("user_id", user), feature_field(view.name, name)))


def test_an_older_version_never_overwrites_a_newer_one(store, url):
    assert store.write(PROFILE, [_row(30)], 200) == 1
    assert store.write(PROFILE, [_row(29)], 100) == 0
    assert _age(url) == 30


def test_a_corrected_value_with_the_same_event_time_is_written(store, url):
    store.write(PROFILE, [_row(30, 1000)], 200)
    assert store.write(PROFILE, [_row(31, 1000)], 201) == 1
    assert _age(url) == 31


def test_the_same_values_again_are_no_change_and_stand_against_an_older_write(store, url):
    client = redis.Redis.from_url(url)
    store.write(PROFILE, [_row(30), _row(40, user=2)], 200)
    counted = client.get(written_key("user_id"))
    assert store.write(PROFILE, [_row(30), _row(41, user=2)], 300) == 1
    assert store.write(PROFILE, [_row(30), _row(41, user=2)], 300) == 0
    assert int(client.get(written_key("user_id"))) == int(counted) + 1  # who reads items anew when this moved has nothing to read
    assert store.write(PROFILE, [_row(29)], 250) == 0
    assert _age(url) == 30


def test_what_was_removed_stays_removed_against_an_older_write(store, url):
    store.write(PROFILE, [_row(30)], 200)
    assert store.delete(PROFILE, [1], 300) == 1
    store.write(PROFILE, [_row(30)], 250)
    assert _age(url) is None
    store.write(PROFILE, [_row(32)], 301)
    assert _age(url) == 32


def test_thousands_of_rows_go_in_whole_and_are_found_again(store, url):
    assert store.write(PROFILE, [_row(i % 90, user=i) for i in range(1, 3001)], 1) == 3000
    assert [_age(url, u) for u in (1, 1500, 3000)] == [1, 1500 % 90, 3000 % 90]


def test_entities_of_a_view_are_found_by_scanning_and_only_those(store):
    store.write(ACTIVITY, [Row(i, (1, 0.5), 1) for i in range(1, 700)], 1)
    store.write(PROFILE, [_row(1, user=5000)], 1)
    store.delete(ACTIVITY, [3], 2)
    assert store.entities(ACTIVITY) == set(range(1, 700)) - {3}


def test_the_watermark_comes_back(store):
    assert store.watermark("landing") == ""
    store.set_watermark("landing", "[]")
    assert store.watermark("landing") == "[]"

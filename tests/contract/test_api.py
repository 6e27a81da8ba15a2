"""The API against a real Redis server with features written in Feast's own bytes."""
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import redis
from starlette.testclient import TestClient
from tests.contract.gateway_server import free_port

from weir.connect.redis import binary
from weir.contracts import model as m
from weir.contracts import online
from weir.contracts.features import FEATURE_VIEWS, SEEN_MAX
from weir.demo.result import others_changed
from weir.features.store import OnlineStore, Row
from weir.serving.answers import Flag, Ready, Strategy
from weir.serving.app import create_app
from weir.serving.live import REFRESH_S, SCAN_S
from weir.telemetry import setup

PORT = free_port()
VIEWS = {v.name: v for v in FEATURE_VIEWS}
NOW = int(time.time() * 1000)
GENRES = ["Drama", "Comedy", "War"]


@pytest.fixture(scope="module")
def store():
    folder = tempfile.mkdtemp()
    server = subprocess.Popen([str(binary()), "--port", str(PORT), "--bind", "127.0.0.1", "--dir", folder, "--save", ""], stdout=subprocess.DEVNULL)
    client = redis.Redis(port=PORT)
    deadline = time.monotonic() + 10
    while True:
        try:
            client.ping()
            break
        except redis.RedisError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    yield client
    server.terminate()
    server.wait(10)
    shutil.rmtree(folder)


def put(client, view, entity, values, at=NOW):
    contract = VIEWS[view]
    client.hset(online.entity_key(contract.entity, entity), mapping=online.encode_row(contract, values, at))


def item(client, i, active=True):
    put(client, "item_catalogue", i, [f"Item {i}", [GENRES[i % 3]], 1990 + i, active])


@pytest.fixture
def filled(store):
    store.flushall()
    for i in range(1, 31):
        item(store, i)
        put(store, "item_history", i, [100 - i, 10, 3.5, 3.0])
    put(store, "country_trending", "ALL", [[7, 8, 9], [3.0, 2.0, 1.0]])
    put(store, "user_profile", 1, [30, "F", "artist", "DE", None])
    return store


def model(home: Path, version="1", flip=False, newest_ms=NOW - 60_000):
    rng = np.random.default_rng(7)
    items = rng.normal(size=(30, 4)).astype(np.float32)
    users = np.eye(2, 4, dtype=np.float32) * (-1 if flip else 1)
    manifest = m.ModelManifest(version, NOW, newest_ms, 100, 4, 10, 0.2, 0.2, 0.1, 0.1)
    m.write_model(home, manifest, m.Factors(np.array([1, 2]), np.arange(1, 31), users, items, np.array([0, 2, 2]), np.array([5, 6])))
    m.write_pointer(home, m.Pointer(version))


@pytest.fixture
def api(filled, tmp_path):
    model(tmp_path)
    with TestClient(create_app(tmp_path, f"redis://127.0.0.1:{PORT}/0")) as client:
        client.home = tmp_path
        yield client


def ids(client, user=1, k=10):
    answer = client.get(f"/recommendations/{user}?k={k}")
    assert answer.status_code == 200, answer.text
    return [x["item_id"] for x in answer.json()["items"]]


def eventually(claim, limit_s=2.0):
    deadline = time.monotonic() + limit_s
    while not claim():
        assert time.monotonic() < deadline, "not within the limit"
        time.sleep(0.02)


def test_an_answer_says_what_it_rests_on(api):
    eventually(lambda: api.get("/recommendations/1?k=5").json()["degraded"] == [], limit_s=20)  # a machine may be too busy to read features in time
    found = api.get("/recommendations/1?k=5").json()
    assert len(found["items"]) == 5
    assert found["model_version"] == "1"
    assert found["strategy"] == "personal"
    assert 0 <= found["newest_event_age_ms"] < int(time.time() * 1000) - NOW + 60_000  # NOW: when this file was read
    assert found["feature_age_ms"]["user_activity"] is None
    assert found["items"][0]["title"].startswith("Item ")


def test_each_answer_carries_the_age_of_the_newest_event_it_used_with_and_without_a_champion(filled, tmp_path):
    put(filled, "user_activity", 1, [[9], ["click"], "s", 1, 1, 0.0, NOW - 5_000], at=NOW - 5_000)
    for path_of_model in (None, tmp_path):
        if path_of_model:
            model(path_of_model)
        with TestClient(create_app(tmp_path, f"redis://127.0.0.1:{PORT}/0")) as client:
            client.get("/recommendations/1")
            for path in ("recommendations/1", "items/1/similar", "features/1"):
                age = client.get(f"/{path}").json()["newest_event_age_ms"]
                assert isinstance(age, int), (path, path_of_model)
                assert 0 <= age <= int(time.time() * 1000) - NOW + 5_000, (path, path_of_model)
            assert client.get("/features/404").json()["newest_event_age_ms"] is None


AGED = ("user_profile", "user_activity", "user_seen", "user_history", "user_genre_preference", "item_catalogue", "item_activity", "item_history", "country_trending")


@pytest.mark.parametrize(("newest", "paths"), [
    *((view, {"recommendations/1", "features/1"}) for view in AGED[:5]), ("item_catalogue", {"recommendations/1", "items/1/similar"}),
    *((view, {"recommendations/1"}) for view in AGED[6:]), ("the model", {"recommendations/1", "items/1/similar"}),
])  # fmt: skip
def test_the_age_is_of_the_newest_input_of_whatever_an_answer_used(store, tmp_path, newest, paths):
    """Everything is an hour old but one thing, which is a change of a profile or of the catalogue as well as an event."""
    store.flushall()
    old, new = (int(time.time() * 1000) - hours * 3600_000 for hours in (1, 0))
    values = [
        [30, "F", "artist", "DE", None], [[9], ["click"], "s", 1, 1, 0.0, new if newest == "user_activity" else old], [[9]], [1, 1, 3.0, 0.0, 3.0, old], [["War"], [1.0]],
        ["Item 1", ["War"], 1990, True], [1, 1.0], [9, 3, 4.0, 4.0], [[1], [1.0]],
    ]
    for name, row in zip(AGED, values, strict=True):
        put(store, name, "ALL" if name == "country_trending" else 1, row, at=new if newest == name else old)
    model(tmp_path, newest_ms=new if newest == "the model" else old)
    with TestClient(create_app(tmp_path, f"redis://127.0.0.1:{PORT}/0")) as client:
        ages = {path: client.get(f"/{path}").json()["newest_event_age_ms"] for path in ("recommendations/1", "features/1", "items/1/similar")}
    assert {path for path, age in ages.items() if age < 1800_000} == paths, ages


def test_what_was_trending_hours_ago_is_not_served_as_trending_and_the_answer_says_so(filled, tmp_path):
    """As when nobody renews the lists of the last hour."""
    put(filled, "country_trending", "ALL", [[7, 8, 9], [3.0, 2.0, 1.0]], at=NOW - 2 * 3600_000 - 1)
    with TestClient(create_app(tmp_path, f"redis://127.0.0.1:{PORT}/0")) as client:
        found = client.get("/recommendations/999?k=3").json()
    assert [x["item_id"] for x in found["items"]] == [1, 2, 3]
    assert found["strategy"] == "popularity"
    assert found["degraded"] == ["country_trending_expired", "no_champion"]
    assert found["feature_age_ms"]["country_trending"] is None


def test_the_root_names_every_route_with_an_example_that_is_answered(api):
    found = api.get("/").json()
    document = api.get(found["openapi"]).json()
    assert (found["name"], found["version"]) == (document["info"]["title"], document["info"]["version"])
    assert {(r["method"], r["path"]) for r in found["routes"]} == {(m.upper(), path) for path, methods in document["paths"].items() for m in methods}
    assert len(found["routes"]) > 6
    for route in found["routes"]:
        assert route["does"]
        assert api.request(route["method"], route["example"]).status_code == 200, route


def test_no_page_of_the_api_needs_the_internet(api):
    assert [api.get(path).status_code for path in ("/docs", "/redoc", "/docs/oauth2-redirect")] == [404, 404, 404]


def test_with_features_unchanged_recommendations_do_not_change(api):
    first = ids(api)
    time.sleep(1.0)
    assert ids(api) == first


def test_a_served_click_changes_the_other_items_and_hides_the_clicked_one(api, filled):
    before = ids(api)
    clicked = before[4]
    put(filled, "user_activity", 1, [[clicked], ["click"], "s", 1, 1, 0.0, NOW])
    after = ids(api)
    assert clicked not in after
    assert others_changed(before, after, clicked)
    assert after[:4] != before[:4]


def test_a_served_profile_change_lifts_the_genre(api, filled):
    before = ids(api)
    put(filled, "user_profile", 1, [30, "F", "artist", "DE", "War"])
    after = ids(api)
    assert sum(i % 3 == 2 for i in after) > sum(i % 3 == 2 for i in before)


def test_items_the_model_says_are_seen_are_left_out(api):
    assert not {5, 6} & set(ids(api, k=100))
    assert {5, 6} <= set(ids(api, user=2, k=100))


def test_served_seen_items_are_left_out_also_without_a_champion_and_after_quiet_days(filled, tmp_path):
    put(filled, "user_seen", 1, [list(range(1, 21))], at=NOW - 60 * 86400_000)
    with TestClient(create_app(tmp_path, f"redis://127.0.0.1:{PORT}/0")) as client:
        found = ids(client, k=100)
    assert found
    assert not set(range(1, 21)) & set(found)


def test_an_item_past_the_bound_of_seen_items_comes_again_unless_the_champion_knew_it(filled, tmp_path):
    """User 1 saw 5, and after it SEEN_MAX others; the model's training knew that they saw 5 and 6."""
    put(filled, "user_seen", 1, [[*range(7, 31), *range(1000, 1000 + SEEN_MAX - 24)]])
    with TestClient(create_app(tmp_path, f"redis://127.0.0.1:{PORT}/0")) as client:
        assert ids(client, k=100) == [1, 2, 3, 4, 5, 6]
        model(tmp_path)
        client.post("/model/reload")
        assert set(ids(client, k=100)) == {1, 2, 3, 4}
        assert f"the {SEEN_MAX:,} items seen last" in client.get("/openapi.json").json()["info"]["description"]


def test_an_inactive_item_is_gone_within_a_second(api, filled):
    """As the materializer writes it; what another has written (`feast materialize`), within a scan's time."""
    first, second = ids(api)[:2]
    OnlineStore(f"redis://127.0.0.1:{PORT}/0").write(VIEWS["item_catalogue"], [Row(first, (f"Item {first}", [GENRES[first % 3]], 1990, False), NOW)], NOW)
    eventually(lambda: first not in ids(api), 1.0)
    item(filled, second, active=False)
    eventually(lambda: second not in ids(api), SCAN_S + 1.0)


def test_while_nothing_is_written_the_items_are_not_read_again_at_each_look(api, filled):
    filled.config_resetstat()
    time.sleep(5 * REFRESH_S)  # five looks, and at most one scan
    said = filled.info("commandstats")
    assert said["cmdstat_mget"]["calls"] >= 3
    assert said.get("cmdstat_hmget", {"calls": 0})["calls"] <= 30 + 1, "30 items and a country, once"


def test_a_new_user_gets_trending_items(api):
    found = api.get("/recommendations/999?k=3").json()
    assert [x["item_id"] for x in found["items"]] == [7, 8, 9]
    assert found["strategy"] == "trending"


def test_without_a_champion_popularity_serves_and_says_so(filled, tmp_path):
    filled.delete(online.entity_key("country", "ALL"))
    with TestClient(create_app(tmp_path, f"redis://127.0.0.1:{PORT}/0")) as client:
        found = client.get("/recommendations/999?k=3").json()
    assert [x["item_id"] for x in found["items"]] == [1, 2, 3]
    assert found["model_version"] == "popularity"
    assert found["degraded"] == ["no_champion"]


def test_the_api_says_why_popularity_serves(filled, tmp_path):
    with TestClient(create_app(tmp_path, f"redis://127.0.0.1:{PORT}/0")) as client:
        def why():
            client.post("/model/reload")
            return client.get("/ready").json()["why_popularity"]

        told = [why()]
        m.write_pointer(tmp_path, m.Pointer("9"))
        told.append(why())
        m.write_pointer(tmp_path, m.Pointer("", ()))
        told.append(why())
        model(tmp_path)
        assert [*told, why()] == ["nothing_trained", "unreadable", "rolled_back", ""]


def test_a_new_pointer_is_served_on_demand_and_a_broken_one_keeps_the_old(api):
    model(api.home, "2", flip=True)
    assert api.post("/model/reload").json()["version"] == "2"
    m.write_pointer(api.home, m.Pointer("3"))
    assert api.post("/model/reload").json()["problem"] == "model_unreadable"
    assert api.get("/recommendations/1").json()["model_version"] == "2"


def test_features_similar_and_health_answer(api):
    assert api.get("/features/1").json()["features"]["user_profile"]["country"] == "DE"
    assert 1 not in [x["item_id"] for x in api.get("/items/1/similar?k=5").json()["items"]]
    assert api.get("/items/12345/similar").json() == {"detail": "the catalogue holds no such item"}
    assert api.get("/items/12345/similar").status_code == 404
    assert api.get("/recommendations/1?k=0").status_code == 422
    assert api.get("/health").json() == {"status": "ok", "service": "api"}
    assert api.get("/ready").json()["ready"] is True


DECLARED = {
    ("get", "/recommendations/{user_id}"): {"200": "Recommendations", "422": "HTTPValidationError"},
    ("get", "/items/{item_id}/similar"): {"200": "SimilarItems", "404": "Refused", "422": "HTTPValidationError"},
    ("get", "/features/{user_id}"): {"200": "Features", "422": "HTTPValidationError"},
    ("get", "/model"): {"200": "Model"},
    ("post", "/model/reload"): {"200": "Model"},
    ("get", "/health"): {"200": "Health"},
    ("get", "/ready"): {"200": "Ready", "503": "Ready"},
    ("get", "/"): {"200": "Index"},
}


def test_the_openapi_document_declares_each_path_with_each_of_its_answers(api):
    document = api.get("/openapi.json").json()
    assert {
        (method, path): {status: answer["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1] for status, answer in described["responses"].items()}
        for path, methods in document["paths"].items() for method, described in methods.items()
    } == DECLARED
    schemas = document["components"]["schemas"]
    assert {name for answers in DECLARED.values() for name in answers.values()} <= schemas.keys()
    assert set(schemas["Ready"]["required"]) == set(api.get("/ready").json())
    assert set(schemas["Health"]["properties"]) == set(api.get("/health").json())
    assert schemas["Strategy"]["enum"] == [*Strategy] == ["personal", "recent", "trending", "popularity"]
    assert schemas["Flag"]["enum"] == [*Flag]
    for answer in ("Recommendations", "SimilarItems", "Features"):
        assert schemas[answer]["properties"]["degraded"]["items"]["$ref"].endswith("/Flag")
    assert schemas["Recommendations"]["properties"]["strategy"]["$ref"].endswith("/Strategy")


def test_each_route_is_measured_a_refused_request_too(filled, tmp_path):
    telemetry, told = setup("test", otlp_url=""), []
    telemetry.record = lambda name, value, labels=None: told.append((value > 0, labels)) if name == "weir.serving.request_ms" else None
    with TestClient(create_app(tmp_path, f"redis://127.0.0.1:{PORT}/0", telemetry)) as client:
        for path in ("recommendations/404", "items/1/similar", "items/12345/similar", "features/1", "health", "ready"):
            client.get(f"/{path}")
    assert told == [(True, {"route": "recommendations", "strategy": "trending"}), *[(True, {"route": r}) for r in ("similar", "similar", "features")]]


def test_when_the_store_is_gone_the_api_answers_and_says_so(tmp_path):
    with TestClient(create_app(tmp_path, "redis://127.0.0.1:26099/0")) as client:
        assert client.get("/ready").status_code == 503
        assert client.get("/ready").json().keys() == Ready.model_fields.keys()
        found = client.get("/recommendations/1").json()
    assert found["items"] == []
    assert {"features_unavailable", "catalogue_empty"} <= set(found["degraded"])


def test_an_expired_view_is_left_out_and_said(api, filled):
    put(filled, "user_activity", 1, [[9], ["click"], "s", 1, 1, 0.0, NOW], at=NOW - 8 * 86400_000)
    found = api.get("/recommendations/1").json()
    assert found["degraded"] == ["user_activity_expired"]


@pytest.mark.parametrize("path", ["recommendations/{}", "features/{}", "items/{}/similar"])
def test_an_id_of_more_than_64_bits_is_refused_as_the_callers_mistake(api, path):
    for number in (1 << 63, -(1 << 63) - 1, 1 << 200):
        assert api.get("/" + path.format(number)).status_code == 422
    for number in ((1 << 63) - 1, -(1 << 63)):
        assert api.get("/" + path.format(number)).status_code in {200, 404}

"""The online store behind the real models: what the source deletes leaves every view that dbt's marts feed, and a bulk load comes by itself."""
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis
from tests.oracle import engine
from tests.oracle.test_marts import MINUTE_MS, Source, _item, _user

from weir.connect.redis import binary
from weir.contracts.features import FEATURE_VIEWS
from weir.contracts.online import entity_key, view_fields
from weir.features.marts import Marts
from weir.features.materialize import Materializer
from weir.features.store import OnlineStore
from weir.ingest import profiles, schema
from weir.ingest.clickhouse import ClickHouse
from weir.telemetry import setup
from weir.transform import build

ROOT = Path(__file__).resolve().parents[2]
PORT, REDIS_PORT = engine.free_port(), engine.free_port()
URL, REDIS_URL = f"http://127.0.0.1:{PORT}", f"redis://127.0.0.1:{REDIS_PORT}/0"
MINE = {entity: {v.name for v in FEATURE_VIEWS if v.entity == entity} for entity in ("user_id", "item_id")}


def _await(question):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if question():
                return
        except (httpx.HTTPError, redis.ConnectionError):
            time.sleep(0.1)
    raise AssertionError("it did not come")


@pytest.fixture(scope="module")
def source(tmp_path_factory, dbt):
    """Two users and two items with events on both, and the models built over them."""
    home = tmp_path_factory.mktemp("home")
    gateway = subprocess.Popen(
        [sys.executable, "-m", "weir.gateway", "--path", str(home / "clickhouse"), "--port", str(PORT)], env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, cwd=ROOT
    )
    server = subprocess.Popen([str(binary()), "--port", str(REDIS_PORT), "--bind", "127.0.0.1", "--save", ""], stdout=subprocess.DEVNULL)
    try:
        _await(lambda: httpx.get(f"{URL}/ping").text == "Ok.\n")
        _await(redis.Redis(port=REDIS_PORT).ping)
        schema.apply(URL)
        made = Source(ClickHouse(URL), home)
        for n in (1, 2):
            made.change("users", "c", _user(n), made.now_ms)
            made.change("items", "c", _item(n), made.now_ms)
            made.events([made.event(n, i, MINUTE_MS, kind) for i in (1, 2) for kind in ("view", "rate")])
        where = {"CLICKHOUSE_HOST": "127.0.0.1", "CLICKHOUSE_PORT": str(PORT), "CLICKHOUSE_USER": "default", "CLICKHOUSE_PASSWORD": "", "WEIR_HOME": str(home)}
        build.build({**os.environ, **where}, ["--exclude-resource-type", "test", "unit_test"], dbt=dbt)
        yield made
        made.client.close()
    finally:
        for process in (gateway, server):
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def materializer(source):
    return Materializer(Marts(URL), OnlineStore(REDIS_URL), setup("test", otlp_url=""))


def served(entity, key):
    found = set(redis.Redis(port=REDIS_PORT).hkeys(entity_key(entity, key)))
    return {v.name for v in FEATURE_VIEWS if v.entity == entity and found & set(view_fields(v))}


def whole(materializer):
    for view in materializer.views():
        materializer.whole(view)


def test_every_view_is_served_of_what_the_source_has(materializer):
    materializer.tick()
    whole(materializer)
    assert {(e, n): served(e, n) for e in MINE for n in (1, 2)} == {(e, n): MINE[e] for e in MINE for n in (1, 2)}


def test_what_it_deletes_leaves_every_view_though_its_events_stand_in_the_marts(source, materializer):
    materializer.tick()
    source.change("users", "d", _user(1), source.now_ms + 1)
    source.change("items", "d", _item(1), source.now_ms + 1)
    for _ in range(2):  # a landing part may be seen before the views behind it
        materializer.tick()
    assert source.client.execute("SELECT count() FROM marts.user_history WHERE user_id = 1").strip() == "1"
    for _ in range(2):
        assert (served("user_id", 1), served("item_id", 1)) == (set(), set())
        assert (served("user_id", 2), served("item_id", 2)) == (MINE["user_id"], MINE["item_id"])
        whole(materializer)


def test_a_bulk_load_is_served_by_itself_and_brings_no_deleted_user_back(source, materializer, tmp_path):
    rows = [{**_user(n), "preferred_genre": "Drama", "as_of": source.now_ms} for n in (1, 4)]
    table = pa.Table.from_pylist(rows)
    pq.write_table(table.set_column(table.column_names.index("as_of"), "as_of", table["as_of"].cast(pa.timestamp("ms", "UTC"))), tmp_path / "x.parquet")
    profiles.load(URL, tmp_path / "x.parquet")
    _await(lambda: materializer.tick() >= 0 and served("user_id", 4) == {"user_profile"})
    assert served("user_id", 1) == set()

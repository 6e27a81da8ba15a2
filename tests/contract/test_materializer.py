"""The materializer against a real ClickHouse engine behind the gateway and a real Redis. Marts stand in as tables with the contract's columns."""
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import redis
from tests.contract.gateway_server import free_port
from tests.spans import kept, traceparent

from weir.connect.redis import binary
from weir.contracts.features import FEATURE_VIEWS, ValueType
from weir.contracts.online import entity_key, timestamp_field, view_fields
from weir.errors import NotYet, Terminal
from weir.features import materialize
from weir.features.marts import Marts
from weir.features.materialize import Materializer
from weir.features.store import OnlineStore
from weir.ingest import schema
from weir.telemetry import RECORD_SPANS, setup

ROOT = Path(__file__).resolve().parents[2]
PORT, REDIS_PORT = free_port(), free_port()
URL, REDIS_URL = f"http://127.0.0.1:{PORT}", f"redis://127.0.0.1:{REDIS_PORT}/0"
TYPE = {
    ValueType.INT64: "Int64", ValueType.DOUBLE: "Float64", ValueType.STRING: "String", ValueType.BOOL: "Bool",
    ValueType.INT64_LIST: "Array(Int64)", ValueType.DOUBLE_LIST: "Array(Float64)", ValueType.STRING_LIST: "Array(String)",
}
USER_VIEWS = [v.name for v in FEATURE_VIEWS if v.entity == "user_id"]
ITEM_VIEWS = [v.name for v in FEATURE_VIEWS if v.entity == "item_id"]
LANDED = ("user_events", "cdc_changes", "catalogue_items", "user_profile_exports")


def sql(statement):
    httpx.post(URL, content=statement.encode(), timeout=30).raise_for_status()


def _await(question):
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        try:
            if question():
                return
        except (httpx.HTTPError, redis.ConnectionError):
            time.sleep(0.05)
    raise AssertionError("it did not start")


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    gateway = subprocess.Popen(
        [sys.executable, "-m", "weir.gateway", "--path", str(tmp_path_factory.mktemp("gateway")), "--port", str(PORT)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, cwd=ROOT,
    )
    server = subprocess.Popen([str(binary()), "--port", str(REDIS_PORT), "--bind", "127.0.0.1", "--save", ""], stdout=subprocess.DEVNULL)
    try:
        _await(lambda: httpx.get(f"{URL}/ping").text == "Ok.\n")
        _await(redis.Redis(port=REDIS_PORT).ping)
        schema.apply(URL)
        yield
    finally:
        for process in (gateway, server):
            process.terminate()
            process.wait(20)


@pytest.fixture
def unbuilt(stores):
    """Empty landing tables, no mart, an empty Redis."""
    for table in LANDED:
        sql(f"TRUNCATE TABLE landing.{table}")
    for view in FEATURE_VIEWS:
        sql(f"DROP TABLE IF EXISTS marts.{view.mart} SYNC")
    for table in ("int_users", "int_items", "stg_users", "stg_items"):
        sql(f"DROP TABLE IF EXISTS staging.{table} SYNC")
    redis.Redis(port=REDIS_PORT).flushall()


def build():
    for table in ("user", "item"):
        sql(f"CREATE TABLE staging.stg_{table}s ({table}_id Int64, version UInt64, is_deleted UInt8) "
            f"ENGINE = ReplacingMergeTree(version, is_deleted) ORDER BY {table}_id")
        sql(f"CREATE VIEW staging.int_{table}s AS SELECT * FROM staging.stg_{table}s FINAL")
    for view in FEATURE_VIEWS:
        columns = "".join(f", {name} {TYPE[kind]}" for name, kind in view.features)
        key = "String" if view.entity == "country" else "Int64"
        sql(f"CREATE TABLE marts.{view.mart} ({view.entity} {key}, event_timestamp DateTime64(3, 'UTC'){columns}) ENGINE = MergeTree ORDER BY {view.entity}")


@pytest.fixture
def built(unbuilt):
    build()


@pytest.fixture
def start(built):
    made = []

    def _start():
        made.append(Materializer(Marts(URL), OnlineStore(REDIS_URL), setup("test", otlp_url="")))
        made[-1]._exports.settle_s = 0.0
        return made[-1]

    yield _start
    for one in made:
        one._marts.close()


OFFSETS = iter(range(1, 10_000))


def change(table, key, op):
    """Land one change as ingest does, and bring it to the keyed copy as dbt's view does."""
    offset = next(OFFSETS)
    sql(f"INSERT INTO landing.cdc_changes (topic, partition, offset, produced_at, op, key, version, is_deleted) "
        f"VALUES ('shop.public.{table}s', 0, {offset}, now64(3), '{op}', '{{\"{table}_id\":{key}}}', {offset}, {int(op == 'd')})")
    sql(f"INSERT INTO staging.stg_{table}s VALUES ({key}, {offset}, {int(op == 'd')})")


def put(name, *keys):
    view = next(v for v in FEATURE_VIEWS if v.name == name)
    for key in keys:
        sql(f"INSERT INTO marts.{view.mart} ({view.entity}, event_timestamp) VALUES ({key!r}, now64(3))")


def event(offset, user, partition=0, age_s=0, trace="", refused=""):
    sql(f"INSERT INTO landing.user_events (topic, partition, offset, produced_at, user_id, item_id, country, traceparent, reject_reason) "
        f"VALUES ('user-events', {partition}, {offset}, now64(3) - INTERVAL {age_s} SECOND, {user}, 7, 'DE', '{trace}', '{refused}')")


def served(entity, key):
    """The names of the views that hold anything of this entity in Redis."""
    found = redis.Redis(port=REDIS_PORT).hkeys(entity_key(entity, key))
    return {v.name for v in FEATURE_VIEWS if v.entity == entity and set(found) & set(view_fields(v))}


def whole(materializer, slide=None):
    """Have views read whole, as the loop does one a turn; return the rows written."""
    return sum(map(materializer.whole, materializer.views(slide=slide)))


def test_before_the_first_build_it_waits_and_says_so_by_type(unbuilt):
    one = Materializer(Marts(URL), OnlineStore(REDIS_URL), setup("test", otlp_url=""))
    assert one.tick() == 0  # nothing has landed
    event(1, 5)
    with pytest.raises(NotYet) as caught:
        one.tick()
    assert caught.value.facts["code"] == 60
    build()
    put("user_activity", 5)
    assert one.tick() == 1
    sql("ALTER TABLE marts.user_activity DROP COLUMN session_id")
    event(2, 5)
    with pytest.raises(Terminal):
        one.tick()


@pytest.mark.parametrize(("table", "entity", "views"), [("user", "user_id", USER_VIEWS), ("item", "item_id", ITEM_VIEWS)])
def test_what_the_source_deletes_leaves_every_view_and_does_not_come_back(start, table, entity, views):
    one = start()
    change(table, 1, "c")
    change(table, 2, "c")
    for name in views:
        put(name, 1, 2)
    one.tick()
    one.tick()  # the second read of their making, which must not be what removes them
    assert served(entity, 1) == served(entity, 2) == set(views)
    mart = next(v.mart for v in FEATURE_VIEWS if v.entity == entity and v.triggers[0] in {"users", "items"})
    sql(f"DELETE FROM marts.{mart} WHERE {entity} = 1")  # that mart is made of the source's rows; the others are made of events, which stay
    change(table, 1, "d")
    one.tick()
    assert (served(entity, 1), served(entity, 2)) == (set(), set(views))
    one.tick()
    whole(one)
    whole(one, slide=True)
    whole(start())
    assert (served(entity, 1), served(entity, 2)) == (set(), set(views))
    put(next(n for n in views if n.endswith(("profile", "catalogue"))), 1)
    change(table, 1, "c")  # made again: what its events say of it is served again
    one.tick()
    assert served(entity, 1) == set(views)


def test_an_event_of_a_deleted_user_brings_nothing_back(start):
    one = start()
    put("user_activity", 1)
    change("user", 1, "d")
    one.tick()
    event(1, 1)
    one.tick()
    assert served("user_id", 1) == set()


def test_a_user_whom_the_source_never_had_is_served(start):
    put("user_activity", 77)
    event(1, 77)
    start().tick()
    assert served("user_id", 77) == {"user_activity"}


def test_what_another_writer_put_there_of_a_deleted_user_goes_with_the_next_whole_read(start):
    one = start()
    put("user_history", 1)
    change("user", 1, "d")
    one.tick()
    view = next(v for v in FEATURE_VIEWS if v.name == "user_history")
    redis.Redis(port=REDIS_PORT).hset(entity_key("user_id", 1), timestamp_field(view.name), b"\x08\x01")  # as Feast's materialization would
    whole(one, slide=False)
    assert served("user_id", 1) == set()


def test_a_key_is_read_a_second_time_by_the_next_process_when_this_one_ends_between(start):
    one = start()
    event(1, 4)
    one.tick()
    event(2, 5)
    one.tick()
    put("user_activity", 5)  # the view behind the landing table is filled a moment later
    start().tick()
    assert served("user_id", 5) == {"user_activity"}


def test_a_tick_that_fails_loses_no_second_read(start):
    one = start()
    event(1, 5)
    one.tick()
    sql("RENAME TABLE marts.user_activity TO marts.away")
    with pytest.raises(NotYet):
        one.tick()
    sql("RENAME TABLE marts.away TO marts.user_activity")
    put("user_activity", 5)
    one.tick()
    assert served("user_id", 5) == {"user_activity"}


def test_a_look_without_a_watermark_is_bounded_and_the_next_ones_pass_over_nothing(start, monkeypatch):
    monkeypatch.setattr(materialize, "ROWS_A_LOOK", 4)
    for offset in range(10):
        event(offset, 100 + offset, partition=offset % 2)
    one, seen = start(), []
    while True:
        changes, watermark, *_ = one.look()
        if not changes:
            break
        assert len(changes.event_users) <= 4
        seen += changes.event_users
        one._watermark = watermark
        assert len(seen) <= 10
    assert sorted(seen) == list(range(100, 110))


def test_changes_of_several_partitions_cut_by_the_limit_are_all_seen(start, monkeypatch):
    monkeypatch.setattr(materialize, "ROWS_A_LOOK", 3)
    for key in range(1, 8):
        change("user", key, "u")
    one, seen = start(), set()
    for _ in range(3):
        changes, one._watermark, *_ = one.look()
        assert len(changes.cdc_users) <= 3
        seen |= changes.cdc_users
    assert seen == set(range(1, 8))


def test_events_too_old_for_every_view_are_passed_by_until_their_partition_is_known(start):
    event(1, 5, age_s=materialize.LOOK_BACK_S + 60)
    event(2, 6, age_s=materialize.LOOK_BACK_S - 60)
    assert start().look()[0].event_users == {6}


@pytest.mark.parametrize("view", [v for v in FEATURE_VIEWS if not v.window_s], ids=lambda v: v.name)
def test_a_row_that_came_to_its_mart_long_after_its_change_was_read_is_served_by_the_next_whole_read(start, view):
    one = start()
    one.tick()
    put(view.name, 71)
    assert one.tick() == whole(one, slide=True) == 0  # nothing has landed, and no window slides over it
    whole(one, slide=False)
    assert view.name in served(view.entity, 71)


def test_a_bulk_load_of_profiles_is_served_without_being_asked_for_and_read_once(start):
    one = start()
    put("user_profile", 1, 2)
    one.tick()
    assert served("user_id", 1) == set()  # no change has come
    sql("INSERT INTO landing.user_profile_exports (export_id, as_of, user_id, version) VALUES ('x', now64(3), 1, 1), ('x', now64(3), 2, 1)")
    assert one.tick() == 2
    assert served("user_id", 1) == served("user_id", 2) == {"user_profile"}
    assert one.tick() == 0
    assert start().tick() == 0  # a new process knows that it was read


def test_the_landing_tables_are_read_when_their_count_moved_or_now_and_then(start, monkeypatch):
    one, asked = start(), []
    query = one._marts.query
    monkeypatch.setattr(one._marts, "query", lambda statement: asked.append(statement) or query(statement))

    def looks():
        found = sum("groupUniqArray(user_id)" in statement for statement in asked)
        asked.clear()
        return found

    one.tick()
    assert looks() == 1, "the first"
    one.tick()
    assert looks() == 0
    put("user_activity", 61)
    event(10_001, 61, partition=3)
    assert one.tick() == 1
    one.tick()
    assert looks() == 2, "once more after a look that found some"
    one.tick()
    assert looks() == 0
    one._looked_s -= materialize.LOOK_S
    one.tick()
    assert looks() == 1


def test_what_is_past_the_limit_of_a_look_is_for_the_next(start, monkeypatch):
    monkeypatch.setattr(materialize, "ROWS_A_LOOK", 2)
    one = start()
    for n in range(5):
        put("user_activity", 70 + n)
        event(20_000 + n, 70 + n)
    for _ in range(4):
        one.tick()
    assert all("user_activity" in served("user_id", 70 + n) for n in range(5))


def test_each_sampled_event_of_a_tick_has_a_span_in_its_own_trace(start):
    one = start()
    one._telemetry, spans = kept()
    put("user_activity", 5, 6)
    event(30_001, 5, trace=traceparent(7))
    event(30_002, 6)
    event(30_003, 6, partition=1, trace=traceparent(9))
    event(30_004, 6, trace=traceparent(11, flags="00"))
    event(30_005, 0, trace=traceparent(13), refused="malformed")
    one.tick()
    assert "user_activity" in served("user_id", 5)
    tick = next(s for s in spans() if s.name == "weir.features.materialize")
    events = [s for s in spans() if s.name == "weir.features.event"]
    assert [(s.context.trace_id, s.parent.span_id) for s in events] == [(7, 7), (9, 9)]
    assert [link.context.span_id for s in events for link in s.links] == [tick.context.span_id] * 2
    assert [link.context.trace_id for link in tick.links] == [7, 9]


def test_past_the_bound_an_event_has_a_link_of_its_ticks_span_alone(start):
    one = start()
    one._telemetry, spans = kept()
    put("user_activity", 5)
    for n in range(RECORD_SPANS + 2, 0, -1):
        event(40_000 + n, 5, trace=traceparent(n))
    one.tick()
    assert [s.context.trace_id for s in spans() if s.name == "weir.features.event"] == list(range(1, RECORD_SPANS + 1))
    assert [len(s.links) for s in spans() if s.name == "weir.features.materialize"] == [RECORD_SPANS + 2]

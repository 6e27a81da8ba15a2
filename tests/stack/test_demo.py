"""The main job on the real stack, in the order of an operator's day. Each test goes on from where the one before left the stack."""
import json
import time
import urllib.request

import pytest
from tests.stack.conftest import PORT_BASE

from weir.demo.result import others_changed

pytestmark = pytest.mark.stack


def _get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.loads(answer.read())


def test_the_demo_tells_its_story_in_one_document_and_leaves_nothing_running(stack):
    document, left = stack.story
    assert len(document["recommendations_before"]) >= 5
    clicked = document["recommendations_before"][0]
    assert others_changed(document["recommendations_before"], document["recommendations_after"], clicked)
    assert document["events_in"] == document["events_in_clickhouse"] + document["events_quarantined"]
    assert document["events_in_clickhouse"] > 100_000
    assert document["events_quarantined"] == 7
    assert document["source_rows"] == document["sink_rows"] == {"users": 943, "items": 1682}
    assert 0 < document["event_to_feature_ms"] < 5000
    assert 0 < document["cdc_to_feature_ms"] < 5000
    assert document["seconds_to_ready"] > 0  # judged by ./weir bench startup: a test's machine is shared
    assert left == set()


def test_a_second_start_finds_everything_and_every_endpoint_is_usable(stack):
    stack.weir("up")
    document = stack.status()
    assert {s["name"] for s in document["services"]} == {
        "postgres", "kafka", "connect", "clickhouse", "redis", "otlp", "ingest", "features", "catalogue", "api", "dashboard"
    }
    assert {s["state"] for s in document["services"]} == {"ready"}
    import psycopg
    import redis
    from confluent_kafka.admin import AdminClient

    e = document["endpoints"]
    with psycopg.connect(e["postgres_dsn"]) as shop:
        assert shop.execute("SELECT count(*) FROM users").fetchone() == (943,)
    assert "user-events" in AdminClient({"bootstrap.servers": e["kafka_bootstrap"]}).list_topics(timeout=10).topics
    assert redis.Redis.from_url(e["redis_url"]).ping()
    assert _get(e["connect_url"] + "/connectors") == ["shop"]
    assert stack.clickhouse("SELECT count() > 100000 FROM landing.user_events")[0][0] == 1


def test_bad_events_are_in_the_quarantine_with_reason_and_place_once(stack):
    rows = stack.clickhouse("SELECT reject_reason, count(), uniqExact(topic, partition, offset) FROM landing.quarantine GROUP BY 1")
    assert sum(n for _, n, _ in rows) == sum(n for _, _, n in rows) == 7
    assert {"malformed", "oversized", "unknown_type"} <= {r for r, _, _ in rows}


def test_views_hold_each_accepted_event_once(stack):
    accepted = "FROM landing.user_events WHERE reject_reason = ''"  # an earlier test's producer repeated some of its events: they count once
    landed = stack.clickhouse(f"SELECT uniqExact(event_id) {accepted}")[0][0]
    assert stack.clickhouse("SELECT count(), uniqExact(event_id) FROM staging.int_user_events FINAL")[0] == (landed, landed)
    day = "occurred_at > now() - INTERVAL 1 DAY"  # the keyed copy by item keeps two days
    newest = stack.clickhouse(f"SELECT uniqExact(event_id) {accepted} AND {day}")[0][0]
    assert newest > 1000
    assert stack.clickhouse(f"SELECT count(), uniqExact(event_id) FROM staging.int_item_events FINAL WHERE {day}")[0] == (newest, newest)
    assert stack.clickhouse("SELECT sum(interactions) FROM marts.user_history")[0][0] >= stack.story[0]["events_in_clickhouse"] - 10, "as of the demo's build"


def test_traces_metrics_and_logs_of_the_services_are_in_the_standard_tables(stack):
    wanted = {
        "otel.otel_metrics_sum": {"ingest", "features", "kafka", "connect", "otlp", "capture"},  # the JVMs' by JMX
        "otel.otel_metrics_gauge": {"ingest", "kafka", "connect"},
        "otel.otel_traces": {"ingest", "features", "api", "catalogue", "otlp", "cost", "capture", "watch"},  # the dashboard's come with a look
        "otel.otel_logs": {"ingest", "kafka", "connect"},  # from WARN on: ingest said that it quarantined
    }
    deadline, missing = time.monotonic() + 40, dict(wanted)
    while missing and time.monotonic() < deadline:
        missing = {t: n - {r[0] for r in stack.clickhouse(f"SELECT DISTINCT ServiceName FROM {t}")} for t, n in wanted.items()}
        missing = {t: n for t, n in missing.items() if n}
        time.sleep(0.5)
    assert missing == {}
    jvm = {r[0] for r in stack.clickhouse("SELECT DISTINCT MetricName FROM otel.otel_metrics_gauge WHERE ServiceName IN ('kafka', 'connect')")}
    assert {"debezium.streaming.lag", "debezium.streaming.idle", "kafka.request.time.99p", "kafka.connect.task.offset.commit.time.max"} <= jvm


def test_one_trace_follows_a_sampled_event_from_producing_to_the_served_feature(stack):
    rows = stack.clickhouse(
        "SELECT TraceId, groupUniqArray(SpanName) AS spans FROM otel.otel_traces GROUP BY TraceId "
        "HAVING hasAll(spans, ['weir.simulation.produce', 'weir.ingest.batch', 'weir.features.materialize'])"
    )
    assert rows


def test_without_the_materializer_a_click_changes_nothing_that_is_served(stack):
    from weir.demo import follow
    from weir.stack import supervision
    from weir.telemetry import setup

    endpoints = stack.endpoints
    api = follow.Api(endpoints["api_url"])
    control = supervision.Control(stack.home)
    control.stop("features")
    before, recommended = api.features(1).get("user_activity"), api.recommendations(1)
    from dataclasses import replace

    from weir.contracts.endpoints import Endpoints
    from weir.contracts.events import EventType
    from weir.simulation import produce
    from weir.simulation.derive import Event

    local = replace(Endpoints.local(PORT_BASE), **endpoints)
    now_ms = int(time.time() * 1000)
    client = produce.producer(local.kafka_bootstrap)
    produce.one(client, Event(f"still-{now_ms}", 1, 50, EventType.CLICK, None, f"still-{now_ms}", "DE", now_ms), setup("test", otlp_url=""))
    client.flush(10)
    deadline = time.monotonic() + 20
    while not stack.clickhouse(f"SELECT count() FROM landing.user_events WHERE event_id = 'still-{now_ms}'")[0][0]:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    time.sleep(1)
    assert (api.features(1).get("user_activity"), api.recommendations(1)) == (before, recommended)
    control.start("features")
    follow.until(lambda: (api.features(1).get("user_activity") or {}).get("last_event_at_ms") == now_ms, "the click", 20)
    follow.until(lambda: others_changed(recommended, api.recommendations(1), 50), "other recommendations", 20)

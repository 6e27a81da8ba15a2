"""The main job on the real stack, in the order of an operator's day. Each test goes on from where the one before left the stack."""
import json
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from dataclasses import replace

import httpx
import pytest
from tests.stack.conftest import PORT_BASE

from weir.contracts.endpoints import Endpoints
from weir.demo.result import others_changed
from weir.stack import services, settings
from weir.stack.supervision import Control
from weir.training.registry import MODEL_NAME, Registry

pytestmark = pytest.mark.stack
HOPELESS_S = 5 * 120  # five times what a start may take on two quiet cores: no shared machine is so slow, ./weir bench startup judges the limit itself


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
    assert 0 < document["seconds_to_ready"] < HOPELESS_S
    assert left == set()


@pytest.mark.parametrize("change", ["event", "cdc"])
def test_each_hop_of_a_change_is_measured_and_they_add_up(stack, change):
    document, _ = stack.story
    hops = document[f"{change}_hops"]
    assert set(hops) == {"to_landed_ms", "landed_to_feature_ms", "feature_to_recommendations_ms"}
    assert hops["to_landed_ms"] > 0
    assert hops["landed_to_feature_ms"] >= 0, "0: the feature was seen before its row, by two who look each 20 ms"
    assert 0 < hops["feature_to_recommendations_ms"] < 5000
    assert hops["to_landed_ms"] + hops["landed_to_feature_ms"] == pytest.approx(document[f"{change}_to_feature_ms"])


def test_a_second_start_asks_no_registry_and_finds_everything_and_every_endpoint_is_usable(stack):
    gone = dict.fromkeys(("WEIR_MAVEN_URL", "PIP_INDEX_URL", "UV_DEFAULT_INDEX", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:1")
    replace(stack, env=stack.env | gone | {"NO_PROXY": "127.0.0.1,localhost"}).weir("up")
    document = stack.status()
    assert {s["name"] for s in document["services"]} == {
        "postgres", "kafka", "connect", "clickhouse", "redis", "otlp", "ingest", "features", "catalogue", "api", "dashboard"
    }
    assert {s["state"] for s in document["services"]} == {"ready"}
    assert all(s["pid"] > 0 and s["endpoint"] for s in document["services"])
    import psycopg
    import redis
    from confluent_kafka.admin import AdminClient

    e = document["endpoints"]
    assert set(e) == {"postgres_dsn", "kafka_bootstrap", "connect_url", "clickhouse_url", "redis_url", "otlp_url", "api_url", "dashboard_url"}
    assert httpx.get(e["api_url"] + "/health").json() == {"status": "ok", "service": "api"}
    assert httpx.get(e["dashboard_url"]).status_code == 200
    assert httpx.post(e["otlp_url"] + "/v1/traces", content=b"", headers={"Content-Type": "application/x-protobuf"}).status_code == 200
    with psycopg.connect(e["postgres_dsn"]) as shop:
        assert shop.execute("SELECT count(*) FROM users").fetchone() == (943,)
    assert "user-events" in AdminClient({"bootstrap.servers": e["kafka_bootstrap"]}).list_topics(timeout=10).topics
    assert redis.Redis.from_url(e["redis_url"]).ping()
    assert _get(e["connect_url"] + "/connectors") == ["shop"]
    assert stack.clickhouse("SELECT count() > 100000 FROM landing.user_events")[0][0] == 1


def test_the_model_that_serves_has_beaten_popularity_and_is_mlflows_champion(stack):
    served, registry = _get(stack.endpoints["api_url"] + "/model"), Registry(stack.home)
    assert (served["problem"], served["version"]) == ("", served["pointer_version"])
    manifest = served["manifest"]
    assert manifest["ndcg"] > manifest["popularity_ndcg"] > 0
    registered = registry._client.get_model_version(MODEL_NAME, manifest["mlflow_version"])
    assert registered.tags["weir_version"] == served["version"]
    assert registry._client.get_run(registered.run_id).data.metrics["ndcg"] == manifest["ndcg"]
    assert registry.alias() == manifest["mlflow_version"]


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


def _open_the_page(url):
    """Look at the dashboard as a browser does: a session over its websocket, whose page runs."""
    from streamlit.proto.BackMsg_pb2 import BackMsg
    from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
    from websockets.sync.client import connect

    asked = BackMsg()
    asked.rerun_script.query_string = ""
    with connect(url.replace("http://", "ws://") + "/_stcore/stream", subprotocols=["streamlit"], max_size=None) as page:
        page.send(asked.SerializeToString())
        while ForwardMsg.FromString(page.recv(timeout=60)).WhichOneof("type") != "script_finished":
            pass


def _ask_traced(url):
    """Ask ClickHouse as a traced client does: it has spans of such requests alone."""
    httpx.post(url, content="SELECT 1", headers={"traceparent": f"00-{uuid.uuid4().hex}-{uuid.uuid4().hex[:16]}-01"}, timeout=30).raise_for_status()


def test_traces_metrics_and_logs_of_the_services_are_in_the_standard_tables(stack):
    _open_the_page(stack.endpoints["dashboard_url"])
    _ask_traced(stack.endpoints["clickhouse_url"])
    parts = set(services.names(settings.load(stack.env)))
    ours = parts - {"postgres", "redis", "kafka", "connect"}  # PostgreSQL and Redis do not speak OpenTelemetry: `watch` and `cost` tell of them
    metrics = "(SELECT ServiceName FROM otel.otel_metrics_sum UNION ALL SELECT ServiceName FROM otel.otel_metrics_gauge UNION ALL SELECT ServiceName FROM otel.otel_metrics_histogram)"
    wanted = {
        "otel.otel_traces": ours,
        metrics: ours | {"kafka", "connect"},  # the JVMs' by JMX
        "otel.otel_metrics_sum": {"kafka", "connect"},
        "otel.otel_metrics_gauge": {"kafka", "connect"},
        "otel.otel_logs": {"ingest", "kafka", "connect"},  # from WARN on, and a part that is well says nothing: ingest said that it quarantined
    }
    deadline, missing = time.monotonic() + 60, dict(wanted)
    while missing and time.monotonic() < deadline:
        missing = {t: n - {r[0] for r in stack.clickhouse(f"SELECT DISTINCT ServiceName FROM {t}")} for t, n in wanted.items()}
        missing = {t: n for t, n in missing.items() if n}
        time.sleep(0.5)
    assert missing == {}
    jvm = {r[0] for r in stack.clickhouse("SELECT DISTINCT MetricName FROM otel.otel_metrics_gauge WHERE ServiceName IN ('kafka', 'connect')")}
    assert {"debezium.streaming.lag", "debezium.streaming.idle", "kafka.request.time.99p", "kafka.connect.task.offset.commit.time.max"} <= jvm


def test_one_trace_follows_each_of_two_sampled_events_from_producing_to_the_served_feature(stack):
    from weir.contracts.events import EventType
    from weir.demo import follow
    from weir.simulation import produce
    from weir.simulation.derive import Event
    from weir.telemetry import setup

    api, telemetry = follow.Api(stack.endpoints["api_url"]), setup("test", otlp_url=stack.endpoints["otlp_url"])
    client, now_ms, asked = produce.producer(stack.endpoints["kafka_bootstrap"]), int(time.time() * 1000), {}
    for user in (1, 2):  # one after the other in milliseconds, so that one batch has both
        with telemetry.span("test.click") as span:
            asked[user] = f"{span.get_span_context().trace_id:032x}", telemetry.traceparent()
            produce.one(client, Event(f"traced-{user}-{now_ms}", user, 50, EventType.CLICK, None, f"traced-{now_ms}", "DE", now_ms), telemetry)
    for user, (_, parent) in asked.items():
        follow.until(lambda user=user: (api.features(user).get("user_activity") or {}).get("last_event_at_ms") == now_ms, "the click", 20)
        api.features(user, parent)
    telemetry.shutdown()
    wanted = {"test.click", "weir.simulation.produce", "weir.ingest.record", "weir.features.event", "weir.serving.features"}
    deadline, missing = time.monotonic() + 40, {trace: wanted for trace, _ in asked.values()}
    while any(missing.values()) and time.monotonic() < deadline:
        missing = {t: wanted - {name for name, in stack.clickhouse(f"SELECT DISTINCT SpanName FROM otel.otel_traces WHERE TraceId = '{t}'")} for t in missing}
        time.sleep(0.5)
    assert set().union(*missing.values()) == set(), missing


def test_the_apis_routes_and_the_catalogues_are_measured(stack):
    api, catalogue = stack.endpoints["api_url"], Endpoints.local(PORT_BASE).catalogue_url
    for url in (f"{api}/recommendations/1", f"{api}/items/1/similar", f"{api}/features/1", f"{catalogue}/items", f"{catalogue}/items/1"):
        httpx.get(url, timeout=30).raise_for_status()
    wanted = {("weir.serving.request_ms", r) for r in ("recommendations", "similar", "features")} | {("weir.catalogue.request_ms", r) for r in ("items", "item")}
    deadline, found = time.monotonic() + 40, set()
    while not wanted <= found and time.monotonic() < deadline:
        found = set(stack.clickhouse("SELECT DISTINCT MetricName, Attributes['route'] FROM otel.otel_metrics_histogram"))
        time.sleep(0.5)
    assert wanted <= found


def test_without_the_materializer_a_click_changes_nothing_that_is_served(stack):
    from weir.demo import follow
    from weir.stack import supervision

    api = follow.Api(stack.endpoints["api_url"])
    control = supervision.Control(stack.home)
    control.stop("features")
    try:
        before, recommended = api.features(1).get("user_activity"), api.recommendations(1)
        at_ms = _click_that_lands(stack)
        time.sleep(1)
        assert (api.features(1).get("user_activity"), api.recommendations(1)) == (before, recommended)
    finally:
        control.start("features")
    follow.until(lambda: (api.features(1).get("user_activity") or {}).get("last_event_at_ms") == at_ms, "the click", 20)
    follow.until(lambda: others_changed(recommended, api.recommendations(1), 50), "other recommendations", 20)


def _click_that_lands(stack):
    """Have user 1 click item 50, and wait for its row; return its time in ms."""
    from weir.contracts.events import EventType
    from weir.simulation import produce
    from weir.simulation.derive import Event
    from weir.telemetry import setup

    local = replace(Endpoints.local(PORT_BASE), **stack.endpoints)
    now_ms = int(time.time() * 1000)
    client = produce.producer(local.kafka_bootstrap)
    produce.one(client, Event(f"still-{now_ms}", 1, 50, EventType.CLICK, None, f"still-{now_ms}", "DE", now_ms), setup("test", otlp_url=""))
    client.flush(10)
    deadline = time.monotonic() + 20
    while not stack.clickhouse(f"SELECT count() FROM landing.user_events WHERE event_id = 'still-{now_ms}'")[0][0]:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return now_ms


def test_one_service_is_restarted_its_log_is_shown_and_the_watch_tells_of_all(running):
    before = {n: s.pid for n, s in Control(running.home).states().items()}
    running.weir("restart", "ingest")
    after = {n: s.pid for n, s in Control(running.home).states().items()}
    assert {n for n in before if before[n] != after[n]} == {"ingest"}
    lines = running.weir("logs", "ingest", "--lines", "3").stdout.splitlines()
    assert 0 < len(lines) <= 3
    written = "".join(p.read_text(errors="replace") for p in (running.home / "logs").glob("ingest.log*"))
    assert all(line in written for line in lines)
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores Ctrl-C's signal, and its children would
    with subprocess.Popen([sys.executable, "-m", "weir.cli", "status", "--watch"], env=running.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=running.home) as watch:
        signal.signal(signal.SIGINT, ignored)
        first = watch.stdout.readline()
        watch.send_signal(signal.SIGINT)
        said = watch.communicate(timeout=60)[0]
    assert f"{len(services.ORDER)} services ready" in first
    assert (watch.returncode, said.splitlines()[-1]) == (130, "weir: stopped")

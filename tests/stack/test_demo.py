"""The main job on the real stack, in the order of an operator's day. Each test goes on from where the one before left the stack."""
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
import uuid

import psutil
import pytest
from confluent_kafka import Producer
from tests.stack.conftest import PORT_BASE

pytestmark = pytest.mark.stack


def _listening():
    return {c.laddr.port for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and PORT_BASE <= c.laddr.port < PORT_BASE + 20}


def _get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.loads(answer.read())


def test_the_demo_tells_its_story_in_one_document_and_leaves_nothing_running(stack):
    document = json.loads(stack.weir("demo", "--json").stdout)
    assert len(document["recommendations_before"]) >= 5
    clicked = document["recommendations_before"][0]
    assert [i for i in document["recommendations_after"] if i != clicked] != [i for i in document["recommendations_before"] if i != clicked]
    assert document["events_in"] == document["events_in_clickhouse"] + document["events_quarantined"]
    assert document["events_in_clickhouse"] > 100_000
    assert document["events_quarantined"] == 7
    assert document["source_rows"] == document["sink_rows"] == {"users": 943, "items": 1682}
    assert 0 < document["event_to_feature_ms"] < 5000
    assert 0 < document["cdc_to_feature_ms"] < 5000
    assert _listening() == set()


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


def _bad_event(endpoints):
    """Produce one event with a country in lower case; return its place and its event id."""
    event_id, where = str(uuid.uuid4()), []
    body = {"schema_version": 1, "event_id": event_id, "user_id": 7, "item_id": 8, "event_type": "view", "session_id": "test", "country": "de",
            "occurred_at": int(time.time() * 1000)}
    producer = Producer({"bootstrap.servers": endpoints["kafka_bootstrap"]})
    producer.produce("user-events", json.dumps(body), key=b"7", on_delivery=lambda _, m: where.append(f"user-events/{m.partition()}/{m.offset()}"))
    assert producer.flush(20) == 0
    return where[0], event_id


def _until_listed(stack, place):
    deadline = time.monotonic() + 20
    while place not in {e["place"] for e in json.loads(stack.weir("quarantine", "list", "--json").stdout)}:
        assert time.monotonic() < deadline, f"{place} never came to the quarantine"
        time.sleep(0.2)


def test_a_quarantined_event_is_fixed_and_counts_once_however_often_and_by_however_many_it_is_replayed(stack):
    place, event_id = _bad_event(stack.status()["endpoints"])
    _until_listed(stack, place)
    stack.weir("quarantine", "fix", place, "--set", "country=DE", "--why", "lower case")
    command = [sys.executable, "-m", "weir.cli", "quarantine", "replay", place, "--why", "corrected"]
    both = [subprocess.Popen(command, env=stack.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    said = [p.communicate(timeout=60)[0] for p in both]
    assert 0 in {p.returncode for p in both}, said
    assert "Traceback" not in "".join(said)
    assert stack.weir("quarantine", "replay", place, "--why", "once more", check=False).returncode == 1
    landed = f"SELECT country, reject_reason FROM landing.user_events WHERE event_id = '{event_id}'"
    assert stack.clickhouse(landed) == [("DE", "")]
    shown = json.loads(stack.weir("quarantine", "show", place, "--json").stdout)
    assert (shown["state"], shown["actions"][0]["action"], shown["actions"][0]["why"]) == ("replayed", "fix", "lower case")


@pytest.mark.parametrize("produced", [True, False])
def test_a_replay_that_was_killed_is_finished_by_the_next_and_counts_once(stack, produced):
    endpoints = stack.status()["endpoints"]
    place, event_id = _bad_event(endpoints)
    _until_listed(stack, place)
    stack.weir("quarantine", "fix", place, "--set", "country=FR", "--why", "test")
    _, partition, offset = place.split("/")
    row = f"('user-events', {partition}, {offset}, now64(6), 'replay_requested', 'test', 'killed after this', '', {int(offset) + 1}, 0)"
    stack.clickhouse_command(f"INSERT INTO landing.quarantine_actions (topic, partition, offset, at, action, who, why, value, low, to_offset) VALUES {row}")
    if produced:  # what the killed replay had sent: the fixed bytes, committed, and no audit row
        fixed = json.loads(stack.weir("quarantine", "show", place, "--json").stdout)["fixed"]
        producer = Producer({"bootstrap.servers": endpoints["kafka_bootstrap"], "transactional.id": f"weir-quarantine-user-events-{partition}"})
        producer.init_transactions(20)
        producer.begin_transaction()
        producer.produce("user-events", fixed, key=b"7", partition=int(partition), headers=[("weir-quarantine-of", place.encode())])
        producer.commit_transaction(20)
    done = json.loads(stack.weir("quarantine", "replay", place, "--why", "finish", "--json").stdout)[0]
    assert (done["before"], done["verdict"]) == (produced, "accepted")
    assert stack.clickhouse(f"SELECT country, reject_reason FROM landing.user_events WHERE event_id = '{event_id}'") == [("FR", "")]


def test_views_hold_each_accepted_event_once(stack):
    landed = stack.clickhouse("SELECT count(), uniqExact(event_id) FROM landing.user_events WHERE reject_reason = ''")[0]
    assert landed[0] == landed[1]
    assert stack.clickhouse("SELECT count(), uniqExact(event_id) FROM staging.int_user_events")[0] == landed
    day = "occurred_at > now() - INTERVAL 1 DAY"  # the keyed copy by item keeps two days
    newest = stack.clickhouse(f"SELECT count(), uniqExact(event_id) FROM landing.user_events WHERE reject_reason = '' AND {day}")[0]
    assert newest[0] > 1000
    assert stack.clickhouse(f"SELECT count(), uniqExact(event_id) FROM staging.int_item_events WHERE {day}")[0] == newest
    assert stack.clickhouse("SELECT sum(interactions) FROM marts.user_history")[0][0] >= landed[1] - 10


def test_traces_metrics_and_logs_of_the_services_are_in_the_standard_tables(stack):
    wanted = {
        "otel.otel_metrics_sum": {"ingest", "features", "kafka", "connect"},  # the JVMs' by JMX
        "otel.otel_metrics_gauge": {"ingest", "kafka", "connect"},
        "otel.otel_traces": {"ingest", "features", "api"},
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

    endpoints = stack.status()["endpoints"]
    api = follow.Api(endpoints["api_url"])
    control = supervision.Control(stack.home)
    control.stop("features")
    before = api.features(1).get("user_activity")
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
    assert api.features(1).get("user_activity") == before
    control.start("features")
    follow.until(lambda: (api.features(1).get("user_activity") or {}).get("last_event_at_ms") == now_ms, "the click", 20)


@pytest.mark.parametrize("name", ["kill-ingest-worker", "kill-kafka-broker", "pause-clickhouse"])
def test_an_experiment_finds_every_acknowledged_event_once(stack, name):
    evidence = json.loads(stack.weir("chaos", "run", name, "--json").stdout)
    assert evidence["verdict"] == "yes", evidence
    counted = [o for o in evidence["observations"] if "owed" in o]
    assert counted
    assert all(o["owed"] > 500 and not o["lost"] and not o["doubled"] for o in counted)


def test_a_stack_that_is_killed_whole_comes_up_again_with_nothing_lost(stack):
    before = stack.clickhouse("SELECT count(), uniqExact(event_id) FROM landing.user_events")[0]
    pid = int((stack.home / "run" / "supervisord.pid").read_text())
    everyone = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for process in everyone:
        try:
            os.kill(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    psutil.wait_procs(everyone, timeout=10)
    stack.weir("up")
    assert stack.clickhouse("SELECT count(), uniqExact(event_id) FROM landing.user_events")[0] == before
    assert {s["state"] for s in stack.status()["services"]} == {"ready"}


def test_down_leaves_no_process_and_no_port(stack):
    stack.weir("down")
    assert _listening() == set()
    left = [p.pid for p in psutil.process_iter() if p.pid != os.getpid() and _of(p, stack.home)]
    assert left == []


def _of(process, home):
    try:
        return process.environ().get("WEIR_HOME") == str(home)
    except psutil.Error:
        return False

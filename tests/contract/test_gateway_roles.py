"""The roles of the stack: each service does its own work with gateway/roles.toml, and not another's."""
from dataclasses import replace

import httpx
import pytest
from tests.contract import gateway_server

from weir.contracts import names
from weir.contracts.endpoints import Endpoints
from weir.contracts.retention import Retention
from weir.cost import sampler
from weir.ingest import parts, schema
from weir.quality import ask, event_facts, landing, marks
from weir.quality.advance import Advance
from weir.quality.ask import Offsets
from weir.quality.event_walk import EventWalk
from weir.stack import accounts
from weir.telemetry import setup
from weir.telemetry.store import ClickHouseSink


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server, server.passwords = gateway_server.guarded(tmp_path_factory.mktemp("roles"))
    schema.apply(_url(server, "ingest"))
    yield server
    assert server.stop() == 0


def _url(server, user):
    return accounts.as_user(server.url, user, server.passwords[user])


def _status(server, user, sql):
    return httpx.post(server.url, content=sql, auth=(user, server.passwords[user]), timeout=60).status_code


def test_services_make_and_fill_their_own_tables(server):
    schema.apply(_url(server, "ingest"))
    sink = ClickHouseSink(_url(server, "otlp"))
    sink.prepare()
    sink.prepare()
    sampler.write(_url(server, "cost"), [])
    assert _status(server, "dashboard", "SELECT count() FROM ops.cost_samples") == 200
    assert _status(server, "dashboard", "SELECT count() FROM otel.otel_traces") == 200


def test_a_worker_sees_the_parts_of_every_table_behind_its_inserts(server):
    for sql in ("CREATE TABLE marts.behind (offset UInt64) ENGINE = MergeTree ORDER BY offset SETTINGS parts_to_delay_insert = 7",
                "CREATE MATERIALIZED VIEW marts.behind_view TO marts.behind AS SELECT offset FROM landing.user_events",
                "INSERT INTO marts.behind VALUES (1)"):
        assert _status(server, "admin", sql) == 200
    try:
        assert parts.Parts("marts.behind", 1, 7) in parts.Asker(_url(server, "ingest"), [names.LANDING_EVENTS])()
    finally:
        for sql in ("DROP VIEW marts.behind_view", "DROP TABLE marts.behind SYNC"):
            assert _status(server, "admin", sql) == 200


def test_the_owner_of_the_marks_checks_and_keeps_and_the_page_reads_what_it_kept(server, monkeypatch):
    assert _status(server, "admin", f"INSERT INTO {names.LANDING_CATALOGUE} (topic, partition, offset, batch, produced_at) VALUES ('item-catalogue', 0, 0, 'b', now64(3))") == 200
    monkeypatch.setattr(ask, "kafka", lambda _bootstrap, _more: {("item-catalogue", 0): Offsets(0, 1, 1)})
    owner = Advance(replace(Endpoints.local(), clickhouse_url=_url(server, "quality")))
    assert not owner.round()
    assert marks.read(_url(server, "dashboard"), "2000-01-01")["item-catalogue", 0].next == 1
    at = {("item-catalogue", 0): Offsets(0, 1, 1)}
    looked = landing.above(_url(server, "dashboard"), names.LANDING_CATALOGUE, marks.read(_url(server, "dashboard"), "2000-01-01"), at, 0, "2000-01-01")
    assert sum(looked.totals.values()) == 1


def test_the_walk_over_events_keeps_what_it_found_and_the_page_reads_it(server):
    assert _status(server, "admin", f"INSERT INTO {names.LANDING_EVENTS} (topic, event_id, produced_at, occurred_at) SELECT 'user-events', 'e', now64(3), now64(3)") == 200
    assert _status(server, "quality", f"INSERT INTO {names.CHECKED_WINDOWS} (topic, next, newest_at, checked_at) SELECT 'user-events', 1, now64(3), now64(3)") == 200
    assert EventWalk(_url(server, "quality"), setup("test", otlp_url="")).round().times.rows == 1
    assert event_facts.ask(_url(server, "dashboard")).rows == 1


def test_a_retention_set_anew_reaches_every_table_that_ingest_makes(server):
    schema.apply(_url(server, "ingest"), Retention(landing=40))
    sql = (
        "SELECT extract(engine_full, 'toIntervalDay\\\\((\\\\d+)\\\\)') AS days, groupArray(name) FROM (SELECT name, engine_full FROM system.tables"
        " WHERE database IN ('landing', 'ops') AND name != 'cost_samples' ORDER BY name) WHERE days NOT IN ('', '40') GROUP BY days ORDER BY days FORMAT JSONCompactColumns"
    )
    left = httpx.post(server.url, content=sql, auth=("admin", server.passwords["admin"]))
    assert left.json() == [["30", "33"], [["quarantine"], ["quarantine_actions"]]]
    schema.apply(_url(server, "ingest"), Retention())


def test_views_feed_where_the_worker_may_not_write(server):
    assert _status(server, "dbt", "CREATE TABLE staging.copied (event_id String) ENGINE = MergeTree ORDER BY event_id") == 200
    assert _status(server, "dbt", "CREATE MATERIALIZED VIEW staging.copied_mv TO staging.copied AS SELECT event_id FROM landing.user_events") == 200
    assert _status(server, "ingest", "INSERT INTO landing.user_events (event_id) VALUES ('e')") == 200
    assert httpx.post(server.url, content="SELECT * FROM staging.copied", auth=("features", server.passwords["features"])).text == "e\n"
    seen = httpx.post(server.url, content="SELECT count() FROM system.tables WHERE engine = 'MaterializedView' AND database = 'staging'", auth=("ingest", server.passwords["ingest"]))
    assert seen.text == "1\n"  # the worker checks every view on its tables before it inserts


@pytest.mark.parametrize(
    ("user", "sql"),
    [
        ("ingest", "INSERT INTO staging.copied VALUES ('x')"),
        ("ingest", "DROP TABLE landing.user_events"),
        ("ingest", "SELECT * FROM staging.copied"),
        ("dbt", "INSERT INTO landing.user_events (event_id) VALUES ('x')"),
        ("dbt", "DROP TABLE landing.user_events"),
        ("dbt", "SELECT * FROM otel.otel_traces"),
        ("features", "INSERT INTO landing.user_events (event_id) VALUES ('x')"),
        ("features", "CREATE TABLE marts.x (a UInt8) ENGINE = Memory"),
        ("dashboard", "TRUNCATE TABLE landing.user_events"),
        ("dashboard", "ALTER TABLE landing.user_events DELETE WHERE 1"),
        ("otlp", "SELECT * FROM landing.user_events"),
        ("quality", "INSERT INTO landing.user_events (event_id) VALUES ('x')"),
        ("quality", "INSERT INTO ops.captured_tables (name) VALUES ('x')"),
        ("dashboard", "INSERT INTO ops.checked_windows (topic) VALUES ('x')"),
        ("dashboard", "INSERT INTO ops.event_windows (topic) VALUES ('x')"),
        ("cost", "INSERT INTO otel.otel_traces (TraceId) VALUES ('x')"),
        ("analyst", "SELECT * FROM landing.user_events"),
        ("analyst", "INSERT INTO staging.copied VALUES ('x')"),
    ],
)
def test_no_service_does_anothers_work(server, user, sql):
    assert _status(server, user, sql) == 403

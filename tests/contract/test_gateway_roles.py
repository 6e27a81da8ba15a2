"""The roles of the stack: each service does its own work with gateway/roles.toml, and not another's."""
import httpx
import pytest
from tests.contract.gateway_server import ROOT, Server

from weir.cost import sampler
from weir.ingest import schema
from weir.stack import accounts
from weir.telemetry.store import ClickHouseSink


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    home = tmp_path_factory.mktemp("roles")
    passwords = accounts.passwords(home)
    accounts.prepare(home, passwords)
    server = Server(home / "data", "--users", str(ROOT / "gateway" / "roles.toml"), "--users", str(accounts.path(home))).start()
    server.passwords = passwords
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
        ("cost", "INSERT INTO otel.otel_traces (TraceId) VALUES ('x')"),
        ("analyst", "SELECT * FROM landing.user_events"),
        ("analyst", "INSERT INTO staging.copied VALUES ('x')"),
    ],
)
def test_no_service_does_anothers_work(server, user, sql):
    assert _status(server, user, sql) == 403

"""dbt's project as the analytics engineer meets it: on an empty platform, its unit tests, its docs without a network, its freshness; and that tables are bounded."""
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.oracle import engine

from weir.contracts import names
from weir.contracts.retention import AUDIT_SPARE_DAYS, Retention
from weir.ingest import guard, schema
from weir.ingest.clickhouse import ClickHouse
from weir.telemetry.store import ClickHouseSink
from weir.transform import build

PORT = engine.free_port()
DAY_S = 86_400
BEHIND = {"staging.int_user_events", "staging.int_item_events", "staging.int_active_users"}


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with engine.running(tmp_path_factory.mktemp("clickhouse"), PORT) as found:
        schema.apply(found, Retention())
        yield found


@pytest.fixture(scope="module")
def client(url):
    found = ClickHouse(url)
    yield found
    found.close()


@pytest.fixture(scope="module")
def built(url, tmp_path_factory, dbt):
    """The whole project, unit tests included, on landing tables without a row."""
    home = tmp_path_factory.mktemp("home")
    return home, build.build(engine.environment(home, PORT), dbt=dbt)


def _dbt(dbt, home, *arguments):
    """Return the exit code, what was said, and where the artifacts are."""
    environment = build.environment(engine.environment(home, PORT))
    return *dbt(environment, arguments), Path(environment["DBT_TARGET_PATH"])


def test_every_unit_test_passes(built):
    ran = [n for n in built[1].nodes if n.unique_id.startswith("unit_test.")]
    assert len(ran) >= 25
    assert [n.unique_id for n in ran if n.status != "pass"] == []


def test_nothing_comes_of_nothing(built, client):
    """The empty input of every mart; a unit test cannot say it, as the adapter cannot read an answer without rows."""
    marts = client.execute("SELECT name FROM system.tables WHERE database = 'marts'").split()
    assert set(marts) == {p.stem for p in (engine.ROOT / "dbt" / "models" / "marts").glob("*.sql")}
    assert {m: client.execute(f"SELECT count() FROM marts.{m}") for m in marts} == dict.fromkeys(marts, "0\n")


def test_the_docs_are_made_without_a_network_and_describe_every_column_there_is(built, dbt):
    code, said, target = _dbt(dbt, built[0], "docs", "generate", "--static")
    assert code == 0, said
    assert (target / "static_index.html").stat().st_size > 1_000_000
    catalog, manifest = (json.loads((target / f"{name}.json").read_text())["nodes"] for name in ("catalog", "manifest"))
    models = {k: n for k, n in manifest.items() if n["resource_type"] == "model"}
    assert [k for k, n in models.items() if not n["description"].strip() or k not in catalog] == []
    missing = [f"{k}.{c}" for k in models for c in catalog[k]["columns"] if not models[k]["columns"].get(c, {}).get("description")]
    gone = [f"{k}.{c}" for k in models for c in models[k]["columns"] if c not in catalog[k]["columns"]]
    assert (missing, gone) == ([], [])


@pytest.mark.long  # a style, and as dear as all unit tests of the models
def test_sqlfluff_finds_nothing_in_the_models(built):
    environment = build.environment(engine.environment(built[0], PORT))
    done = subprocess.run([str(Path(sys.executable).parent / "sqlfluff"), "lint", "dbt/models"], env=environment, capture_output=True, text=True, check=False, timeout=240, cwd=engine.ROOT)
    assert done.returncode == 0, done.stdout[-3000:]


def test_freshness_tells_the_old_from_the_new(built, client, dbt):
    now = int(time.time())
    for table, age_s in ((names.LANDING_EVENTS, 2 * DAY_S), (names.LANDING_CDC, 2 * DAY_S), (names.LANDING_CATALOGUE, 60)):
        client.execute(f"INSERT INTO {table} (topic, produced_at, reject_reason) VALUES ('old or new', {now - age_s}, 'malformed')")
    code, _, target = _dbt(dbt, built[0], "source", "freshness")
    found = {r["unique_id"].split(".")[-1]: r["status"] for r in json.loads((target / "sources.json").read_text())["results"]}
    assert found == {"user_events": "error", "cdc_changes": "warn", "catalogue_items": "pass"}
    assert code == 1


def _growing(client):
    """Return the tables that no key bounds, which keep every row or event that they are given: {name: how ClickHouse describes it}."""
    text = client.execute("SELECT concat(database, '.', name), engine, engine_full FROM system.tables WHERE database IN ('landing', 'otel', 'ops', 'staging')")
    fed = set(guard.fed(client, [names.LANDING_EVENTS]))
    return {name: full for name, engine, full in (line.split("\t") for line in text.splitlines()) if engine == "MergeTree" or name in fed}


def test_every_table_that_only_grows_loses_its_rows_in_time(built, client, url):
    ClickHouseSink(url).prepare()
    tables = _growing(client)
    assert {names.LANDING_EVENTS, names.LANDING_CDC, names.LEDGER, names.QUARANTINE_ACTIONS, *BEHIND, "otel.otel_logs", "otel.otel_metrics_sum"} <= set(tables)
    assert [t for t, full in tables.items() if " TTL " not in full] == []


def test_a_retention_set_anew_is_on_every_table_after_the_next_start(built, client, url, monkeypatch):
    schema.apply(url, Retention(landing=50, quarantine=40))
    monkeypatch.setenv("WEIR_RETENTION_TELEMETRY_DAYS", "9")
    ClickHouseSink(url).prepare()
    days = {t: int(re.search(r"toIntervalDay\((\d+)\)", full)[1]) for t, full in _growing(client).items()}
    assert {t: d for t, d in days.items() if t.startswith("otel.")} == dict.fromkeys([t for t in days if t.startswith("otel.")], 9)
    shorter = {names.QUARANTINE: 40, names.QUARANTINE_ACTIONS: 40 + AUDIT_SPARE_DAYS}
    assert {t: d for t, d in days.items() if t.startswith("landing.")} == {t: shorter.get(t, 50) for t in days if t.startswith("landing.")}


def test_a_row_past_its_time_goes_and_one_within_it_stays(built, client, url):
    schema.apply(url, Retention(landing=17, quarantine=17))
    for offset, days in ((1, 18), (2, 16)):
        client.execute(f"INSERT INTO {names.LANDING_CATALOGUE} (topic, offset, produced_at, reject_reason) VALUES ('aged', {offset}, {int(time.time()) - days * DAY_S}, 'malformed')")
    client.execute(f"OPTIMIZE TABLE {names.LANDING_CATALOGUE} FINAL")
    assert client.execute(f"SELECT offset FROM {names.LANDING_CATALOGUE} WHERE topic = 'aged'") == "2\n"


def test_a_history_set_anew_is_on_the_tables_that_stand_after_the_next_build_and_takes_what_is_past_it(built, client, dbt):
    """What was produced past the days goes, with its day; an old event that was produced today stays in the history, and its day goes all the same, until a longer history keeps it again.

    They are of different months, since parts go whole.
    """
    columns = "topic, offset, user_id, item_id, event_id, event_type, country, occurred_at, produced_at"
    for offset, happened, produced in ((901, 130, 130), (902, 90, 0), (903, 39, 39), (904, 0, 0)):
        times = ", ".join(str(int(time.time()) - days * DAY_S) for days in (happened, produced))
        client.execute(f"INSERT INTO {names.LANDING_EVENTS} ({columns}) VALUES ('aged', {offset}, {offset}, 1, 'aged{offset}', 'click', 'SE', {times})")
    for table in ("staging.int_user_events", "staging.int_active_users"):  # as a version without this bound made them
        client.execute(f"ALTER TABLE {table} REMOVE TTL")
        client.execute(f"ALTER TABLE {table} RESET SETTING ttl_only_drop_parts")
    within = {}
    for days, events in ((40, "902 903 904"), (100, "902 903 904")):
        environment = engine.environment(built[0], PORT) | {"WEIR_RETENTION_HISTORY_DAYS": str(days)}
        build.build(environment, ("--select", "int_user_events", "int_active_users", "--resource-type", "model"), dbt=dbt)
        tables = {table: full for table, full in _growing(client).items() if table in BEHIND}
        kept = {table: re.search(r"TTL .*toIntervalDay\((\d+)\)", full)[1] for table, full in tables.items()}
        assert kept == dict.fromkeys(BEHIND, str(days)) | {"staging.int_item_events": "2"}
        assert [table for table, full in tables.items() if not re.search(r"ttl_only_drop_parts = \W*1", full)] == []
        for table in kept:
            client.execute(f"ALTER TABLE {table} MATERIALIZE TTL SETTINGS mutations_sync = 2")
            client.execute(f"OPTIMIZE TABLE {table} FINAL")
        assert client.execute("SELECT user_id FROM staging.int_user_events FINAL WHERE event_id LIKE 'aged%' ORDER BY user_id").split() == events.split()
        members = client.execute("SELECT arrayJoin(bitmapToArray(groupBitmapMergeState(users))) AS u FROM staging.int_active_users ORDER BY u").split()
        within[days] = {"901", "902", "903", "904"} & set(members)
    assert within == {40: {"903", "904"}, 100: {"902", "903", "904"}}


@pytest.mark.parametrize(("days", "least"), [("29", 30), pytest.param("two years", 30, marks=pytest.mark.long)])
def test_dbt_refuses_a_history_that_landing_outlasts(built, dbt, monkeypatch, days, least):
    monkeypatch.setenv("WEIR_RETENTION_HISTORY_DAYS", days)
    code, said, _ = _dbt(dbt, built[0], "parse")
    assert code != 0
    assert f"WEIR_RETENTION_HISTORY_DAYS is '{days}': set it to a number of days from {least} on" in said

"""What the path says each stage reads and writes is what the files of that stage name."""
import re
from pathlib import Path

import pytest
import yaml

from weir.contracts import names
from weir.contracts.cdc import CdcTable
from weir.contracts.path import PATH, PROFILES, SHOP, with_added

ROOT = Path(__file__).resolve().parents[3]
STAGE = {stage.name: stage for stage in PATH}
ROUTES = yaml.safe_load((ROOT / "ingest" / "routes.yaml").read_text())


def _models(*folders):
    return [(folder, path) for folder in folders for path in sorted((ROOT / "dbt" / "models" / folder).glob("*.sql"))]


def test_ingest_reads_the_topics_of_its_routes_and_the_bulk_load_and_writes_their_tables():
    ingest = STAGE["ingest"]
    assert set(ingest.reads) == {*ROUTES, PROFILES}
    assert set(ingest.writes) == {route["table"] for route in ROUTES.values()} | {names.LANDING_PROFILE_EXPORTS, names.QUARANTINE, names.LEDGER}
    made = set(re.findall(r"CREATE TABLE IF NOT EXISTS (landing\.\w+)", "".join(p.read_text() for p in (ROOT / "ingest" / "ddl").glob("*.sql"))))
    assert set(ingest.writes) <= made


def test_transform_reads_dbts_sources_and_writes_a_table_for_each_model():
    called = {match for _, path in _models("staging", "intermediate", "marts") for match in re.findall(r"source\('(\w+)', '(\w+)'\)", path.read_text())}
    schema = yaml.safe_load((ROOT / "dbt" / "dbt_project.yml").read_text())["models"]["weir"]
    assert set(STAGE["transform"].reads) == {".".join(name) for name in called}
    assert sorted(STAGE["transform"].writes) == sorted(f"{schema[folder]['+schema']}.{path.stem}" for folder, path in _models("staging", "intermediate", "marts"))


def test_features_reads_the_marts_that_the_feature_repository_names():
    named = {table for path in (ROOT / "feature_repo").glob("*.py") for table in re.findall(r'table="(marts\.\w+)"', path.read_text())}
    assert {name for name in STAGE["features"].reads if name.startswith(f"{names.DB_MARTS}.")} == named


def test_connect_writes_what_debezium_captures_and_the_source_the_topics_that_no_connector_does():
    captured = tuple(f"{names.CDC_PREFIX}.{table.removeprefix('postgres:')}" for table in SHOP)
    assert STAGE["connect"].writes == captured
    assert set(STAGE["source"].writes) == {*SHOP, *(set(ROUTES) - set(captured)), PROFILES}


@pytest.mark.parametrize("stage", PATH, ids=lambda stage: stage.name)
def test_a_stage_reads_only_what_an_earlier_one_writes_and_names_no_whole_database(stage):
    before = {name for earlier in PATH[: PATH.index(stage)] for name in earlier.writes}
    assert set(stage.reads) <= before
    assert len(set(stage.reads)) == len(stage.reads)
    assert {*stage.reads, *stage.writes} & set(names.DATABASES) == set()


def test_an_added_table_stands_in_each_stage_that_it_passes():
    found = {s.name: s for s in with_added([CdcTable("orders", "public.orders", "shop.public.orders", "keyed.orders__1", "keyed.orders")])}
    assert found["source"].writes[-1] == found["connect"].reads[-1] == "postgres:public.orders"
    assert found["connect"].writes[-1] == found["ingest"].reads[-1] == "shop.public.orders"
    assert found["transform"].writes[-1] == "keyed.orders__1"
    assert with_added([]) == PATH

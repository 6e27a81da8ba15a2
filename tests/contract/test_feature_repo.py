"""feature_repo/ says in Feast's words what weir.contracts.features says: views, entities, types, sources, lifetimes."""
import importlib.util
from pathlib import Path

import pytest
import yaml

from weir.contracts.features import FEAST_PROJECT, FEATURE_VIEWS

REPO = Path(__file__).resolve().parents[2] / "feature_repo"


@pytest.fixture(scope="module")
def definitions():
    from feast import FeatureView

    spec = importlib.util.spec_from_file_location("definitions", REPO / "definitions.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {v.name: v for v in vars(module).values() if isinstance(v, FeatureView)}, module


def _type(dtype):
    return dtype.to_value_type().name


def test_every_view_is_defined_and_no_other(definitions):
    assert set(definitions[0]) == {v.name for v in FEATURE_VIEWS}


@pytest.mark.parametrize("contract", FEATURE_VIEWS, ids=lambda v: v.name)
def test_a_view_has_the_contracts_entity_features_source_and_lifetime(definitions, contract):
    view = definitions[0][contract.name]
    assert view.entities == [contract.entity]
    assert {f.name: _type(f.dtype) for f in view.schema if f.name != contract.entity} == {n: str(t) for n, t in contract.features}
    assert view.batch_source.get_table_query_string() == f"marts.{contract.mart}"
    assert view.batch_source.timestamp_field == "event_timestamp"
    assert view.ttl.total_seconds() == contract.ttl_s


def test_the_service_is_all_that_the_api_reads_of_a_user(definitions):
    service = definitions[1].recommendations
    assert {p.name for p in service.feature_view_projections} == {v.name for v in FEATURE_VIEWS if v.entity == "user_id"}


def test_the_store_file_names_our_project_redis_and_clickhouse_and_sends_nothing_home():
    store = yaml.safe_load((REPO / "feature_store.yaml").read_text())
    assert (store["project"], store["online_store"]["type"], store["offline_store"]["type"]) == (FEAST_PROJECT, "redis", "clickhouse")
    assert store["entity_key_serialization_version"] == 3
    assert store["telemetry"] is False

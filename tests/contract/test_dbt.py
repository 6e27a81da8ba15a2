"""What dbt's folder and the contracts say of the same thing, held together."""
from pathlib import Path

import yaml

from weir.contracts.events import EVENT_WEIGHT
from weir.contracts.features import FEATURE_VIEWS
from weir.contracts.names import LANDING_CATALOGUE, LANDING_CDC, LANDING_EVENTS, LANDING_PROFILE_EXPORTS

DBT = Path(__file__).resolve().parents[2] / "dbt"


def test_the_weights_of_the_marts_are_the_weights_of_the_contract():
    found = yaml.safe_load((DBT / "dbt_project.yml").read_text())["vars"]
    assert {k: v for k, v in found.items() if k.startswith("weight_")} == {f"weight_{kind}": w for kind, w in EVENT_WEIGHT.items()}


def test_every_feature_view_has_its_mart():
    assert [v.mart for v in FEATURE_VIEWS if not (DBT / "models" / "marts" / f"{v.mart}.sql").exists()] == []


def test_the_sources_are_the_landing_tables_of_the_contract():
    source = yaml.safe_load((DBT / "models" / "sources.yml").read_text())["sources"][0]
    assert {f"{source['schema']}.{t['name']}" for t in source["tables"]} == {LANDING_EVENTS, LANDING_CDC, LANDING_CATALOGUE, LANDING_PROFILE_EXPORTS}

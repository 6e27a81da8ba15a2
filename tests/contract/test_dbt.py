"""What dbt's folder and the contracts say of the same thing, held together."""
import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

from weir.contracts.events import EVENT_WEIGHT
from weir.contracts.features import FEATURE_VIEWS
from weir.contracts.names import LANDING_CATALOGUE, LANDING_CDC, LANDING_EVENTS, LANDING_PROFILE_EXPORTS
from weir.transform import impact

DBT = Path(__file__).resolve().parents[2] / "dbt"


def test_the_weights_of_the_marts_are_the_weights_of_the_contract():
    found = yaml.safe_load((DBT / "dbt_project.yml").read_text())["vars"]
    assert {k: v for k, v in found.items() if k.startswith("weight_")} == {f"weight_{kind}": w for kind, w in EVENT_WEIGHT.items()}


def test_every_feature_view_has_its_mart():
    assert [v.mart for v in FEATURE_VIEWS if not (DBT / "models" / "marts" / f"{v.mart}.sql").exists()] == []


def test_the_sources_are_the_landing_tables_of_the_contract():
    source = yaml.safe_load((DBT / "models" / "sources.yml").read_text())["sources"][0]
    assert {f"{source['schema']}.{t['name']}" for t in source["tables"]} == {LANDING_EVENTS, LANDING_CDC, LANDING_CATALOGUE, LANDING_PROFILE_EXPORTS}


def _models(folder):
    return {m["name"]: m for p in sorted((DBT / "models" / folder).glob("*.yml")) for m in yaml.safe_load(p.read_text()).get("models", ())}


def test_every_mart_has_an_enforced_contract_with_each_column_typed_and_described():
    marts = _models("marts")
    assert set(marts) == {p.stem for p in (DBT / "models" / "marts").glob("*.sql")}
    for name, mart in marts.items():
        assert mart["config"]["contract"]["enforced"] is True, name
        assert [c["name"] for c in mart["columns"] if not (c.get("data_type") and c.get("description"))] == [], name
        assert mart["description"].strip(), name


def test_every_mart_that_reckons_has_a_unit_test():
    tested = {t["model"] for t in yaml.safe_load((DBT / "models" / "marts" / "unit_tests.yml").read_text())["unit_tests"]}
    assert set(_models("marts")) - tested == set()


def test_every_view_that_fires_on_inserts_has_a_unit_test_in_its_own_file():
    """The adapter runs them as it does any model's: the query over the rows given, without the view."""
    firing = [p for p in (DBT / "models").rglob("*.sql") if "materialized='materialized_view'" in p.read_text()]
    assert firing
    assert [p.name for p in firing if not yaml.safe_load(p.with_suffix(".yml").read_text()).get("unit_tests")] == []


def test_every_mart_says_what_state_it_keeps():
    assert [name for name, mart in _models("marts").items() if "State: " not in mart["description"]] == []


def test_every_source_that_flows_is_watched_for_freshness():
    source = yaml.safe_load((DBT / "models" / "sources.yml").read_text())["sources"][0]
    watched = [t["name"] for t in source["tables"] if t.get("freshness", source["freshness"])]
    assert watched == ["user_events", "cdc_changes", "catalogue_items"]


# A view that fires on inserts adds what is inserted and never takes back: over rows that are updated or deleted it must keep one row a key.
AGGREGATES = re.compile(r"\bGROUP\s+BY\b|\b(sum|count|avg|min|max|uniq\w*|group\w+|quantile\w*|arg(Min|Max)|any\w*)(State|If|Merge|SimpleState)?\s*\(|(Aggregating|Summing)MergeTree", re.IGNORECASE)


def refused(sql):
    """Say whether a model is an insert-triggered aggregate over rows that change."""
    plain = re.sub(r"\s*=\s*", "=", sql.replace('"', "'"))
    changing = re.search(r"source\('landing',\s*'(cdc_changes|catalogue_items|user_profile_exports)'\)|source\('captured'|\bcaptured\.|ref\('(stg_|int_users|int_items)", plain)
    return bool("materialized='materialized_view'" in plain and changing and AGGREGATES.search(sql))


def test_no_view_that_fires_on_inserts_aggregates_rows_that_change():
    wrong = "{{ config(materialized='materialized_view', engine='SummingMergeTree()') }} SELECT country, 1 AS n FROM {{ source('landing', 'cdc_changes') }}"
    assert refused(wrong)
    assert refused("{{ config(materialized='materialized_view') }} SELECT country, count() AS n FROM {{ ref('stg_users') }} GROUP BY country")
    assert refused('{{ config(materialized = "materialized_view") }} SELECT country, count() AS n FROM {{ ref("stg_users") }} GROUP BY country')
    assert refused("{{ config(materialized='materialized_view') }} SELECT sum(amount) AS n FROM {{ source('captured', 'orders') }}")
    assert refused("{{ config(materialized='materialized_view') }} SELECT sum(amount) AS n FROM captured.orders__1")
    assert not refused("{{ config(materialized='view') }} SELECT country, count() AS n FROM {{ ref('stg_users') }} FINAL GROUP BY country")
    assert [p.name for p in sorted((DBT / "models").rglob("*.sql")) if refused(p.read_text())] == []


def test_dbt_by_hand_writes_below_weir_home_wherever_it_is_started(tmp_path):
    started, home = tmp_path / "elsewhere", tmp_path / "home"
    started.mkdir()
    before = {p: p.stat().st_mtime_ns for p in DBT.rglob("*")}
    env = {k: v for k, v in os.environ.items() if not k.startswith("DBT_")} | {"WEIR_HOME": str(home), "WEIR_ROOT": str(DBT.parent), "PYTHONPATH": str(DBT.parent / "src")}
    done = subprocess.run([sys.executable, "-m", "weir.cli", "run", "dbt", "parse"], cwd=started, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-1000:]
    assert (home / "dbt" / "by-hand" / "target" / "manifest.json").exists()
    assert (home / "dbt" / "by-hand" / "logs" / "dbt.log").exists()
    assert list(started.iterdir()) == []
    assert {p: p.stat().st_mtime_ns for p in DBT.rglob("*")} == before
    assert impact.manifest(home, DBT.parent)["nodes"]

"""What a column reaches, on a manifest cut down to what is read: only what names it, takes all columns, or is built on what names it."""
import json

import pytest

from weir.errors import Undecided
from weir.transform.impact import Impact, manifest, reach


def model(name, code, schema="marts"):
    return {"resource_type": "model", "name": name, "relation_name": f"`{schema}`.`{name}`", "raw_code": code}


NODES = {
    "stg": model("stg_users", "SELECT JSONExtract(doc, 'age', 'Int32') AS age, country", "staging"),
    "int": model("int_users", "SELECT * FROM {{ ref('stg_users') }}"),
    "prof": model("user_profile", "SELECT user_id, age, country FROM {{ ref('int_users') }}"),
    "top": model("on_profile", "SELECT user_id, band FROM {{ ref('user_profile') }}"),
    "other": model("daily", "SELECT country -- by age once\nFROM {{ ref('int_users') }}"),
    "test": {"resource_type": "test", "name": "t", "raw_code": "age"},
}
MANIFEST = {
    "nodes": NODES, "sources": {},
    "child_map": {"stg": ["int", "test"], "int": ["prof", "other"], "prof": ["top", "exp"], "top": [], "other": ["exp2"]},
    "exposures": {"exp": {"name": "api", "type": "application", "depends_on": {"nodes": ["prof"]}}, "exp2": {"name": "board", "type": "dashboard", "depends_on": {"nodes": ["other"]}}},
}


def test_a_column_hits_what_names_it_and_what_is_built_on_that_and_not_its_neighbours():
    assert reach(MANIFEST, "staging.stg_users", "age") == Impact(("int_users", "on_profile", "stg_users", "user_profile"), ("user_profile.age",), ("api (application)",))


def test_another_column_hits_its_own_dashboard_too():
    found = reach(MANIFEST, "staging.stg_users", "country")
    assert "daily" in found.models
    assert found.exposures == ("api (application)", "board (dashboard)")
    assert str(found).startswith("hits models daily, ")


def test_a_table_that_no_model_reads_hits_nothing():
    assert str(reach(MANIFEST, "captured.orders", "amount")) == "hits no dbt model"


def test_a_keyed_table_that_is_a_source_of_dbt_is_followed():
    document = MANIFEST | {"sources": {"src": {"relation_name": "`captured`.`orders`"}}, "nodes": {"m": model("m", "SELECT amount FROM x")}, "child_map": {"src": ["m"], "m": []}, "exposures": {}}
    assert reach(document, "captured.orders", "amount").models == ("m",)
    assert reach(document, "captured.orders", "note").models == ()


def test_without_a_manifest_it_is_not_known_and_the_newest_is_read(tmp_path):
    with pytest.raises(Undecided):
        manifest(tmp_path, tmp_path)
    for age, folder in enumerate((tmp_path / "home" / "dbt" / "target", tmp_path / "root" / "dbt" / "target")):
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(json.dumps({"age": age}))
        import os

        os.utime(folder / "manifest.json", (100 + age, 100 + age))
    assert manifest(tmp_path / "home", tmp_path / "root") == {"age": 1}

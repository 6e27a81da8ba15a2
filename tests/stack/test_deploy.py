"""`./weir deploy` on the loaded stack while events land: no event is missed or doubled in the new tables, and nothing is left beside."""
import json
import subprocess
import sys

import pytest
from tests.stack.conftest import ROOT

pytestmark = pytest.mark.stack
EVENTS = 20_000  # at 800 a second for longer than a deploy takes
READERS = {"int_user_events": "marts.user_activity", "int_item_events": "marts.item_activity", "stg_users": "staging.int_users"}


@pytest.mark.long  # each kind while rows land: tests/contract/test_deploy.py, with dbt itself: tests/contract/test_deploy_dbt.py
@pytest.mark.parametrize("models", [("int_user_events",), ("int_item_events", "stg_users")])
def test_keyed_models_are_deployed_under_load_and_every_event_is_once_in_each(running, models):
    load = subprocess.Popen([sys.executable, "-m", "weir.cli", "load", "--rate", "800", "--events", str(EVENTS), "--seed", "20", "--users", "2000", "--items", "1000"], env=running.env, cwd=ROOT,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        told = {model: json.loads(running.weir("deploy", model, "--json").stdout) for model in models}
    finally:
        _, said = load.communicate(timeout=240)
    assert load.returncode == 0, said[-2000:]
    for model, found in told.items():
        assert (found["changed"], found["proof"]["missing"], found["proof"]["different"], found["lone"]) == (False, 0, 0, 0), model
        assert found["held_ms"] is not None
        assert found["proof"]["owed_hash"] == found["proof"]["there_hash"]
        assert READERS[model] in found["readers"]
    assert running.clickhouse("SELECT name FROM system.tables WHERE startsWith(name, 'shadow__')") == []
    done = running.weir("verify", "events", "--json", check=False)
    views = {v["table"]: v for v in json.loads(done.stdout)["views"]}
    assert done.returncode == 0, views
    assert views["staging.int_user_events"]["judged"] >= EVENTS
    if "stg_users" in models:
        assert running.weir("reconcile", "--table", "users", "--once", "--json", check=False).returncode == 0

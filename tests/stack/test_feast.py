"""Feast's own commands, SDK and server, unmodified, on the stack: what they answer is what the API serves and what ClickHouse's marts hold."""
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime

import pytest
from tests.stack.conftest import PORT_BASE

pytestmark = pytest.mark.stack
SERVE_PORT = PORT_BASE + 50

SDK = """
import json, sys
from datetime import UTC, datetime
import pandas as pd
from feast import FeatureStore
store = FeatureStore(repo_path=sys.argv[1])
features = store.get_feature_service("recommendations")
online = store.get_online_features(features=features, entity_rows=[{"user_id": u} for u in (1, 2, 10_000_000)]).to_dict()
entities = pd.DataFrame({"user_id": [1, 2], "event_timestamp": [datetime.now(UTC)] * 2})
offline = store.get_historical_features(entity_df=entities, features=features).to_df().sort_values("user_id")
print(json.dumps({"online": online, "offline": json.loads(offline.drop(columns="event_timestamp").to_json(orient="records"))}))
"""


def _served(stack, user_id):
    url = f"{stack.endpoints['api_url']}/features/{user_id}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        views = json.loads(answer.read())["features"]
    return {name: value for view in views.values() if view for name, value in view.items()}


def _sdk(stack, tmp_path):
    script = tmp_path / "sdk.py"
    script.write_text(SDK)
    done = stack.weir("run", "python", str(script), str(stack.root / "feature_repo"))
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_apply_and_materialize_incremental_change_nothing_that_is_served(running):
    before = [_served(running, u) for u in (1, 2, 3)]
    running.weir("run", "feast", "apply")
    done = running.weir("run", "feast", "materialize-incremental", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"))
    assert "user_activity" in done.stdout + done.stderr
    assert [_served(running, u) for u in (1, 2, 3)] == before
    assert all(b.get("interactions") for b in before)


def test_the_sdk_reads_online_and_offline_what_the_api_serves(running, tmp_path):
    found = _sdk(running, tmp_path)
    online = [{k: v[i] for k, v in found["online"].items()} for i in range(3)]
    for row, offline in zip(online, found["offline"], strict=False):
        served = _served(running, row["user_id"])
        assert row["interactions"] > 0
        for name, value in served.items():
            if name in row:
                assert row[name] == pytest.approx(value), name
        for name in ("interactions", "unique_items", "rating_avg", "session_id", "recent_item_ids", "preferred_genre", "genres"):
            assert offline[name] == pytest.approx(row[name]), name
        mart = running.clickhouse(f"SELECT interactions, unique_items FROM marts.user_history WHERE user_id = {row['user_id']}")
        assert mart == [(row["interactions"], row["unique_items"])]
    assert {v for k, v in online[2].items() if k != "user_id"} == {None}  # a user that nobody knows


def test_feast_serve_answers_what_the_sdk_does(running, tmp_path):
    command = [sys.executable, "-m", "weir.cli", "run", "feast", "serve", "-h", "127.0.0.1", "-p", str(SERVE_PORT), "--no-access-log"]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, env=running.env, stdout=log, stderr=log)
    try:
        body = json.dumps({"feature_service": "recommendations", "entities": {"user_id": [1, 2]}}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{SERVE_PORT}/get-online-features", data=body, headers={"Content-Type": "application/json"})
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    document = json.loads(answer.read())
                break
            except (urllib.error.URLError, ConnectionError):
                assert time.monotonic() < deadline, (tmp_path / "log").read_text()[-2000:]
                assert server.poll() is None, (tmp_path / "log").read_text()[-2000:]
                time.sleep(0.3)
    finally:
        server.terminate()
        server.wait(timeout=20)
    columns = dict(zip(document["metadata"]["feature_names"], (r["values"] for r in document["results"]), strict=True))
    served = [_served(running, u) for u in (1, 2)]
    assert columns["interactions"] == [s["interactions"] for s in served]
    assert columns["preferred_genre"] == [s["preferred_genre"] for s in served]

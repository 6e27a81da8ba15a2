"""A service that answers while a part of it has stopped is shown as degraded, with why, and is left alone."""
import json
from pathlib import Path

import pytest

from weir.cli import watching
from weir.quality import board
from weir.stack import external, services, settings, watch
from weir.stack.states import ServiceState
from weir.stack.watch import Watcher, degraded

PAGE = Path(__file__).resolve().parents[3] / "dashboards" / "app_pages" / "overview.py"


def test_a_service_whose_lane_stopped_is_degraded_and_says_what_to_do():
    state, why = degraded("ingest", "ready", ("landing.user_events stopped: 3 rows are missing",))
    assert state == "degraded"
    assert "landing.user_events stopped: 3 rows are missing" in why
    assert "./weir logs ingest" in why
    row = ServiceState("ingest", state, 7, "http://127.0.0.1:1", why)
    assert watching.trouble_lines([row, ServiceState("api", "ready", 8, "")]) == [f" ingest is degraded: {why}"]


def test_a_service_that_does_not_answer_is_not_called_degraded():
    assert degraded("ingest", "unhealthy", ("x",)) == ("unhealthy", "")
    assert degraded("ingest", "ready", ()) == ("ready", "")


def test_a_degraded_service_is_not_restarted_and_counts_as_one_that_was_ready():
    watcher = Watcher()
    for at in range(3 * watch.MISSES):
        assert watcher.due([ServiceState("ingest", "degraded", 7, "", "x")], float(at)) == []
    acted = [watcher.due([ServiceState("ingest", "unhealthy", 7, "")], 100.0) for _ in range(watch.MISSES)]
    assert acted == [[]] * (watch.MISSES - 1) + [[("ingest", "restart")]]


@pytest.mark.parametrize(("there", "word"), [(True, external.ANSWERS), (False, external.SILENT)])
def test_what_the_watcher_writes_has_a_row_for_each_external_service_without_its_password_and_the_page_has_a_colour_for_it(tmp_path, monkeypatch, there, word):
    (tmp_path / "weir.toml").write_text('[endpoints]\nredis_url = "redis://:hushhush@redis.example:6379/0"\n')
    (tmp_path / "run").mkdir()
    configured = settings.load({"WEIR_HOME": str(tmp_path), "WEIR_ROOT": str(tmp_path), "WEIR_PORT_BASE": "30000"})
    monkeypatch.setattr(external.probe, "answers", lambda *_: there)
    rows = watch.everything(services.build(configured), configured)
    watch.write(rows, tmp_path)
    shown = {r["name"]: r for r in board.services(tmp_path)}
    assert set(shown) == set(services.ORDER)
    assert shown["redis"] == {"name": "redis", "state": word, "pid": 0, "endpoint": "redis://redis.example:6379/0", "why": ""}
    assert json.dumps(word) + ": " in PAGE.read_text()
    assert [name for name, _ in Watcher().due(rows, 1e6) if name == "redis"] == []

"""A stack that runs is not asked to be another one: what it was started with is known, and no password with it."""
import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from weir.cli import outcome
from weir.cli.app import app
from weir.errors import SettingsError
from weir.stack import external, lifecycle, running, settings, supervision


@pytest.fixture
def configured(tmp_path):
    (tmp_path / "home" / "run").mkdir(parents=True)
    return settings.load({"WEIR_HOME": str(tmp_path / "home"), "WEIR_ROOT": str(tmp_path), "WEIR_PORT_BASE": "30000"})


def _with(configured, **endpoints):
    return replace(configured, endpoints=replace(configured.endpoints, **endpoints))


def test_a_stack_that_runs_at_other_ports_is_told_before_anything_waits_for_it(configured):
    running.note(replace(configured, port_base=17000))
    with pytest.raises(SettingsError, match="WEIR_PORT_BASE 17000 instead of 30000"):
        running.check(configured)
    running.check(replace(configured, port_base=17000))


def test_a_settings_file_changed_under_a_running_stack_is_refused_by_key_and_not_believed(configured, monkeypatch):
    running.note(configured)
    monkeypatch.setattr(supervision.Control, "alive", lambda _: True)
    monkeypatch.setattr(external, "wait", lambda *_: pytest.fail("a new address was waited for"))
    monkeypatch.setattr(lifecycle._Bringing, "run", lambda _: pytest.fail("services were asked for"))
    with pytest.raises(SettingsError, match=r"started with another redis_url than weir\.toml names now.*\./weir down first") as refused:
        lifecycle.up(_with(configured, redis_url="redis://:hushhush@redis.example:6379/0"), lambda *_: None)
    assert "\n" not in str(refused.value)
    assert "hushhush" not in str(refused.value)


def test_the_same_settings_are_the_same_and_a_stack_without_a_note_is_let_be(configured):
    running.check(configured)
    running.note(configured)
    running.check(configured)
    assert running.changed(_with(configured, kafka_bootstrap="a:1", redis_url="redis://b:2/0")) == ["kafka_bootstrap", "redis_url"]
    noted = running._endpoints(configured.home)
    noted.write_text(json.dumps({k: v for k, v in json.loads(noted.read_text()).items() if k != "kafka_client"}))  # by a version that did not know it
    assert running.changed(configured) == []


def test_no_password_is_written_down_and_nobody_else_reads_what_is(configured):
    running.note(_with(configured, clickhouse_url="http://me:hushhush@127.0.0.1:1"))
    written = [p for p in (configured.home / "run").iterdir() if "hushhush" in p.read_text()]
    assert written == []
    assert (configured.home / "run" / "endpoints.json").stat().st_mode & 0o077 == 0


def test_what_was_written_down_goes_with_the_stack(configured):
    running.note(configured)
    lifecycle.down(configured, lambda *_: None)
    assert not (configured.home / "run" / "endpoints.json").exists()
    running.check(_with(configured, redis_url="redis://elsewhere:1/0"))


def test_the_status_says_that_the_services_use_other_endpoints_than_it_shows(configured, monkeypatch, tmp_path):
    running.note(_with(configured, redis_url="redis://before.example:6379/0"))
    monkeypatch.setattr(outcome, "cause_of_silence", str)
    for name, value in {"WEIR_HOME": str(configured.home), "WEIR_ROOT": str(tmp_path), "WEIR_PORT_BASE": "30000"}.items():
        monkeypatch.setenv(name, value)
    assert "started with another redis_url than weir.toml names now: ./weir down first" in " ".join(CliRunner().invoke(app, ["status"]).output.split())

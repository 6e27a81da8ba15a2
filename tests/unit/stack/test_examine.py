"""The doctor names what is missing with how to get it."""
import pwd
import socket
import subprocess

import pytest

from weir.connect import nameless
from weir.errors import DiskFull
from weir.stack import examine, external, lifecycle, settings, supervision


def _findings(tmp_path, base="30000"):
    return examine.examine(settings.load({"WEIR_HOME": str(tmp_path / "home"), "WEIR_ROOT": str(tmp_path), "WEIR_PORT_BASE": base}))


def test_an_empty_home_lacks_the_data_set_and_each_finding_says_how_to_get_it(tmp_path):
    missing = [f for f in _findings(tmp_path) if not f.ok]
    assert any("data set" in f.what and f.state == "missing" for f in missing)
    assert all(f.remedy for f in missing)


def test_what_up_fetches_by_itself_and_what_only_a_test_needs_stop_nobody(tmp_path, monkeypatch):
    monkeypatch.setattr(examine.shutil, "which", lambda _: None)
    monkeypatch.delenv("WEIR_CHROMIUM", raising=False)
    found = {f.what.split(":")[0]: f for f in _findings(tmp_path)}
    jars, browser = found["the jars"], found["a browser for the dashboard's test"]
    assert (jars.ok, jars.state, browser.ok, browser.state) == (True, "to fetch", True, "to fetch")
    assert "WEIR_MAVEN_URL" in jars.remedy


def test_a_uid_without_a_name_is_told_with_what_to_do(tmp_path, monkeypatch):
    def unknown(_):
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(nameless.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1))
    told = [f for f in _findings(tmp_path) if "has no entry in the user database" in f.what]
    assert [f.ok for f in told] == [False]
    assert "/etc/passwd" in told[0].remedy


def test_a_taken_port_is_named_with_service_and_process(tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        told = " ".join(f"{f.state} {f.what}" for f in _findings(tmp_path, str(port - 12)) if f.state == "taken")
    assert f"dashboard's {port} is taken by" in told
    assert "(pid " in told
    assert "missing" not in told


def _free(monkeypatch, free):
    monkeypatch.setattr(examine.shutil, "disk_usage", lambda _: type("Usage", (), {"free": free})())


@pytest.mark.parametrize(("free", "enough"), [(lifecycle.DISK_BYTES, True), (lifecycle.DISK_BYTES - 1, False)])
def test_the_doctor_and_a_start_ask_for_the_same_room_on_the_disk(tmp_path, monkeypatch, free, enough):
    _free(monkeypatch, free)
    assert [f.ok for f in _findings(tmp_path) if f.what.startswith("disk: ")] == [enough]
    if enough:
        lifecycle._check_disk(tmp_path)
    else:
        with pytest.raises(DiskFull):
            lifecycle._check_disk(tmp_path)


@pytest.mark.parametrize(("running", "state", "said"), [(False, "low", "1.0 GB available of 4 wanted"), (True, "ok", "1.0 GB available beside the stack of this home")])
def test_little_memory_is_told_and_stops_nobody_and_what_the_own_stack_takes_is_not_missed(tmp_path, monkeypatch, running, state, said):
    monkeypatch.setattr(examine.psutil, "virtual_memory", type("Memory", (), {"available": 1 << 30}))
    monkeypatch.setattr(supervision.Control, "alive", lambda _: running)
    assert [(f.ok, f.state, f.what) for f in _findings(tmp_path) if f.what.startswith("memory: ")] == [(True, state, f"memory: {said}")]


@pytest.mark.parametrize("there", [True, False])
def test_an_external_service_is_named_with_its_answer_and_one_that_is_silent_stops_a_start(tmp_path, monkeypatch, there):
    (tmp_path / "weir.toml").write_text('[endpoints]\nredis_url = "redis://:hushhush@redis.example:6379/0"\n')
    monkeypatch.setattr(external.probe, "answers", lambda *_: there)
    (found,) = [f for f in _findings(tmp_path) if f.what.startswith("redis")]
    assert (found.ok, found.state) == (there, "ok" if there else "silent")
    assert found.what == f"redis at redis://redis.example:6379/0: {external.ANSWERS if there else external.SILENT}"
    assert "correct redis_url in weir.toml" in found.remedy

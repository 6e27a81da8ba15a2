"""The doctor names what is missing with how to get it."""
import pwd
import socket
import subprocess

from weir.connect import nameless
from weir.stack import examine, settings


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

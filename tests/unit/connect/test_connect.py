"""Locks, secrets and the connector's state, without a process."""
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from weir.connect import jars
from weir.connect.postgres import read_or_create_secret
from weir.connect.register import state
from weir.errors import ContractViolation, SettingsError


def test_a_secret_is_made_once_whoever_asks_and_only_its_owner_reads_it(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: read_or_create_secret(tmp_path, "x"), range(40)))
    assert len(found) == 1
    assert len(found.pop()) >= 24
    assert (tmp_path / "secrets" / "x").stat().st_mode & 0o077 == 0
    assert [p.name for p in (tmp_path / "secrets").iterdir()] == ["x"]


def test_every_locked_jar_has_a_folder_a_coordinate_and_a_sum():
    found = jars.parse(jars.lock_path().read_text())
    assert {j.folder for j in found} == {"kafka", "debezium", "agents"}
    assert {j.version for j in found if j.artifact in {"kafka-clients", "connect-runtime", "kafka_2.13"}} == {"4.3.1"}
    assert all(int(j.sha256, 16) >= 0 for j in found)


def test_a_broken_line_of_the_lock_is_named():
    with pytest.raises(SettingsError, match="line 2"):
        jars.parse("# x\nkafka a:b 12\n")


def test_a_jar_with_another_sum_is_refused_and_not_kept(tmp_path, monkeypatch):
    jar = jars.parse(f"kafka a:b:1 {'0' * 64}")[0]
    monkeypatch.setattr(jars, "_download", lambda _jar, path: path.write_bytes(b"x") and "1" * 64)
    with pytest.raises(ContractViolation, match="another SHA-256"):
        jars._fetch_one(jar, tmp_path / "b-1.jar")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_task_is_seen_although_its_connector_runs():
    document = {"connector": {"state": "RUNNING"}, "tasks": [{"id": 0, "state": "FAILED", "trace": "slot is gone\n\tat x"}]}
    assert state(document) == ("FAILED", "slot is gone")
    assert state({"connector": {"state": "RUNNING"}, "tasks": []}) == ("STARTING", "")
    assert state({"connector": {"state": "RUNNING"}, "tasks": [{"state": "RUNNING"}]}) == ("RUNNING", "")


def test_the_jvms_load_the_agent_once_its_jar_is_there_and_then_make_no_archive(tmp_path):
    from weir.connect import java

    def flags():
        return java.argv(tmp_path, "kafka", heap_mb=64, quick_start=True, main="a.Main", arguments=("x",), flags=java.agent(tmp_path))

    before = flags()
    (tmp_path / "jars" / "agents").mkdir(parents=True)
    jar = tmp_path / "jars" / "agents" / "opentelemetry-javaagent-9.jar"
    jar.touch()
    after = flags()
    assert not [f for f in before if f.startswith("-javaagent")]
    assert f"-javaagent:{jar}" in after
    assert ([f for f in before if "SharedArchive" in f] != [], [f for f in after if "SharedArchive" in f]) == (True, [])
    for flag in after:
        if flag.startswith(("-Dotel.javaagent.configuration-file=", "-Dotel.jmx.config=")):
            assert Path(flag.split("=", 1)[1]).exists()

"""Locks, secrets and the connector's state, without a process."""
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from weir.connect import jars
from weir.connect.postgres import read_or_create_secret
from weir.connect.register import state
from weir.errors import ContractViolation, SettingsError, Unavailable


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
    monkeypatch.setattr(jars, "_download", lambda _jar, path, _meter: path.write_bytes(b"x") and "1" * 64)
    with pytest.raises(ContractViolation, match="another SHA-256"):
        jars._fetch_one(jar, tmp_path / "b-1.jar", jars._Meter())
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def one_jar(tmp_path, monkeypatch):
    """A lock of one jar, a registry that serves it; returns the jar's path, the fetch, and what was downloaded."""
    lock, asked = tmp_path / "jars.lock", []
    lock.write_text(f"kafka a:b:1 {hashlib.sha256(b'right').hexdigest()}\n")

    def download(jar, path, _meter):
        asked.append(jar.filename)
        path.write_bytes(b"right")
        return hashlib.sha256(b"right").hexdigest()

    monkeypatch.setattr(jars, "lock_path", lambda: lock)
    monkeypatch.setattr(jars, "_download", download)
    return tmp_path / "jars" / "kafka" / "b-1.jar", lambda: jars.fetch(tmp_path), asked


def test_a_jar_that_is_there_with_other_bytes_is_fetched_anew(one_jar):
    path, fetch, asked = one_jar
    fetch()
    fetch()
    assert asked == ["b-1.jar"]
    path.write_bytes(b"wrong")
    os.utime(path, (1, 1))
    fetch()
    assert path.read_bytes() == b"right"
    assert asked == ["b-1.jar"] * 2


def test_a_jar_is_summed_once_and_again_when_it_changed(one_jar, monkeypatch):
    path, fetch, _ = one_jar
    summed, real = [], jars._sum
    monkeypatch.setattr(jars, "_sum", lambda p: summed.append(p) or real(p))
    for _ in range(3):
        fetch()
    assert summed == [path]
    os.utime(path, (1, 1))
    fetch()
    assert summed == [path, path]
    (path.parent.parent / jars.SEEN).write_text("no JSON")
    fetch()
    assert summed == [path] * 3


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


def _lock_of(tmp_path, monkeypatch, count):
    import hashlib

    lock = tmp_path / "jars.lock"
    lock.write_text("".join(f"kafka a:j{i}:1 {hashlib.sha256(str(i).encode()).hexdigest()}\n" for i in range(count)))
    monkeypatch.setattr(jars, "lock_path", lambda: lock)


def test_two_homes_that_share_a_folder_fetch_at_once_and_each_jar_is_whole(tmp_path, monkeypatch):
    import hashlib
    import time

    _lock_of(tmp_path, monkeypatch, 12)
    used = []

    def slowly(jar, temporary, _meter):
        used.append(temporary)
        text = jar.artifact[1:].encode()
        with temporary.open("wb") as file:
            file.write(b"half")
            file.flush()
            time.sleep(0.01)
            file.seek(0)
            file.truncate()
            file.write(text)
        return hashlib.sha256(text).hexdigest()

    monkeypatch.setattr(jars, "_download", slowly)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: jars.fetch(tmp_path), range(2)))
    assert len(used) == len(set(used))
    folder = tmp_path / "jars" / "kafka"
    assert {p.name: p.read_text() for p in folder.iterdir()} == {f"j{i}-1.jar": str(i) for i in range(12)}


def test_a_fetch_that_is_stopped_does_not_wait_for_the_others_and_keeps_nothing_half(tmp_path, monkeypatch):
    import threading

    _lock_of(tmp_path, monkeypatch, 30)
    let_go, saw_the_end = threading.Event(), []

    def fails_or_hangs(jar, temporary, meter):
        temporary.write_bytes(b"half")
        if jar.artifact == "j0":
            raise Unavailable("j0 could not be fetched")
        let_go.wait(20)
        saw_the_end.append(meter.ended.is_set())
        raise Unavailable("stopped")

    monkeypatch.setattr(jars, "_download", fails_or_hangs)
    with pytest.raises(Unavailable, match="j0"):
        jars.fetch(tmp_path)
    let_go.set()
    for thread in threading.enumerate():
        if thread.name.startswith("ThreadPoolExecutor"):
            thread.join(20)
    assert set(saw_the_end) == {True}
    assert len(saw_the_end) < 20  # the rest was not begun
    assert list((tmp_path / "jars" / "kafka").iterdir()) == []


def test_a_dead_repository_is_told_in_a_sentence_that_names_the_jar(tmp_path, monkeypatch):
    _lock_of(tmp_path, monkeypatch, 1)
    monkeypatch.setenv("WEIR_MAVEN_URL", "http://127.0.0.1:1/m")
    with pytest.raises(Unavailable, match=r"j0-1\.jar could not be fetched.*needs a network"):
        jars.fetch(tmp_path)


def test_progress_tells_how_many_how_fast_and_how_long():
    assert jars.line_of_progress(40, 110, 80_000_000, 8.0) == "40 of 110 fetched · 10.0 MB/s · 14 s to go"
    assert "not known yet" in jars.line_of_progress(0, 110, 0, 2.0)

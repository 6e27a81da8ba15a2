"""Backups made of a real gateway while it is written to, and put back; and a real lane on the restored tables with Kafka's commits of later."""
import dataclasses
import json
import shutil
import stat
import time
from collections import Counter
from pathlib import Path

import pytest
from tests.contract.gateway_server import Server

from weir.contracts import names
from weir.contracts.endpoints import Endpoints
from weir.errors import Terminal, Unavailable
from weir.ingest import schema
from weir.ingest.clickhouse import ClickHouse
from weir.ingest.decode import DECODERS
from weir.ingest.lane import Lane, Limits
from weir.ingest.record import Record
from weir.ingest.rejoin import Rejoin
from weir.stack import backup, restore, supervision
from weir.stack.settings import StackSettings

TOPIC = names.TOPIC_USER_EVENTS
AT_MS = int(time.time() * 1000)


def _settings(home, port=1):
    home.mkdir(exist_ok=True)
    endpoints = dataclasses.replace(Endpoints.local(20000, "x"), clickhouse_url=f"http://127.0.0.1:{port}")
    return StackSettings(home, home, 20000, endpoints, frozenset(), home)


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def server(home):
    home.mkdir()
    server = Server(home / "clickhouse").start()
    server.text("CREATE DATABASE d ENGINE = Atomic")
    server.text("CREATE TABLE d.t (a UInt64) ENGINE = MergeTree ORDER BY a")
    server.text("INSERT INTO d.t SELECT number FROM numbers(1000)")
    yield server
    if server.process.poll() is None:
        server.stop()


def test_a_backup_of_a_running_gateway_is_restored_into_an_empty_home(server, home, tmp_path):
    path, manifest = backup.make(_settings(home, server.port), tmp_path / "to", whole=False)
    server.text("INSERT INTO d.t VALUES (5000)")
    assert (manifest.cut, manifest.parts, manifest.engine) == ("hot", ("clickhouse",), server.text("SELECT version()").strip())
    assert backup.check(path) == manifest
    assert not list((home / "clickhouse" / "snapshots").glob("*"))
    other = _settings(tmp_path / "other")
    assert restore.restore(other, str(path)) == (manifest, [])
    second = Server(tmp_path / "other" / "clickhouse").start()
    assert second.text("SELECT count(), max(a) FROM d.t") == "1000\t999\n"
    assert second.stop() == 0


def test_a_stopped_gateways_folder_is_backed_up_as_it_lies(server, home):
    assert server.stop() == 0
    path, manifest = backup.make(_settings(home), None, whole=False)
    assert (manifest.cut, path.parent) == ("cold", home / "backups")
    assert [p for p, _ in backup.known(path.parent)] == [path]


def test_existing_data_is_never_overwritten_and_set_aside_only_when_told(server, home):
    settings = _settings(home, server.port)
    path, _ = backup.make(settings, None, whole=False)
    server.text("INSERT INTO d.t VALUES (5000)")
    assert server.stop() == 0
    with pytest.raises(Terminal, match=r"holds data already: clickhouse.*--replace"):
        restore.restore(settings, "latest")
    assert server.start().text("SELECT count() FROM d.t") == "1001\n"
    assert server.stop() == 0
    _, aside = restore.restore(settings, path.name, replace=True)
    assert server.start().text("SELECT count() FROM d.t") == "1000\n"
    assert server.stop() == 0
    server.path = home / aside[0]
    assert server.start().text("SELECT count() FROM d.t") == "1001\n"


def test_nothing_is_restored_under_a_running_stack(server, home, monkeypatch):
    path, _ = backup.make(_settings(home, server.port), None, whole=False)
    monkeypatch.setattr(supervision.Control, "alive", lambda _self: True)
    with pytest.raises(Terminal, match=r"the stack at .* runs\. \./weir down first"):
        restore.restore(_settings(home), str(path), replace=True)
    with pytest.raises(Terminal, match="a whole backup is of a stack that is down"):
        backup.make(_settings(home), None, whole=True)


def test_a_damaged_backup_is_told_and_changes_nothing(server, home, tmp_path):
    path, _ = backup.make(_settings(home, server.port), None, whole=False)
    victim = max((p for p in (path / "data").rglob("*.bin")), key=lambda p: p.stat().st_size)
    content = bytearray(victim.read_bytes())
    content[-1] ^= 1
    victim.write_bytes(bytes(content))
    other = _settings(tmp_path / "other")
    for act in (lambda: backup.check(path), lambda: restore.restore(other, str(path))):
        with pytest.raises(Terminal, match=rf"damaged: clickhouse/.*{victim.name} is not what was written"):
            act()
    victim.unlink()
    with pytest.raises(Terminal, match="is missing"):
        backup.check(path)
    assert [p.name for p in other.home.iterdir()] == ["run"]
    (path / "files.jsonl").write_text("")
    assert backup.known(path.parent) == [(path, None)]


class StopError(Exception):
    pass


def test_an_interrupted_backup_has_no_name_and_leaves_nothing(server, home, tmp_path):
    def stop(_progress):
        raise StopError

    with pytest.raises(StopError):
        backup.make(_settings(home, server.port), tmp_path / "to", whole=False, tell=stop)
    assert [p.name for p in (tmp_path / "to").iterdir()] == [".lock"]
    (tmp_path / "to" / "weir-x.partial").mkdir()  # of one that was killed
    path, _ = backup.make(_settings(home, server.port), tmp_path / "to", whole=False)
    assert sorted(p.name for p in (tmp_path / "to").iterdir()) == [".lock", path.name]


def test_an_interrupted_restore_is_ended_by_the_same_command_and_the_stack_does_not_start_before(server, home, tmp_path, monkeypatch):
    path, _ = backup.make(_settings(home, server.port), None, whole=False)
    other = _settings(tmp_path / "other")

    def stop(_progress):
        raise StopError

    with pytest.raises(StopError):
        restore.restore(other, str(path), tell=stop)
    restore.check_finished(other.home)  # nothing is left of it
    with monkeypatch.context() as patch:
        patch.setattr(restore, "_place", lambda *_: (_ for _ in ()).throw(StopError()))
        with pytest.raises(StopError):
            restore.restore(other, str(path))
    with pytest.raises(Terminal, match="was interrupted at its end"):
        restore.check_finished(other.home)
    restore.restore(other, str(path))
    restore.check_finished(other.home)
    second = Server(other.home / "clickhouse").start()
    assert second.text("SELECT count() FROM d.t") == "1000\n"
    assert second.stop() == 0


@pytest.mark.parametrize(("changes", "said"), [({"engine": "27.1.1.1"}, "was opened by ClickHouse 27.1.1.1"), ({"layout": 2}, "has layout 2"), ({"format": 9}, "backup format 9")])
def test_a_backup_of_a_newer_version_is_refused_in_a_sentence(server, home, tmp_path, changes, said):
    path, _ = backup.make(_settings(home, server.port), None, whole=False)
    file = path / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(Terminal, match=said):
        restore.restore(_settings(tmp_path / "other"), str(path))


def test_passwords_are_in_a_whole_backup_alone_and_only_its_owner_may_read_it(server, home, tmp_path):
    (home / "secrets").mkdir(mode=0o700)
    (home / "secrets" / "postgres").write_text("hunter2")
    (home / "users.toml").write_text("hashes")
    (home / "kafka").mkdir()
    with (home / "kafka" / "index").open("wb") as sparse:
        sparse.truncate(10 << 20)
    settings = _settings(home, server.port)
    small, _ = backup.make(settings, tmp_path / "to", whole=False)
    assert not [p for p in small.rglob("*") if p.is_file() and (b"hunter2" in p.read_bytes() or p.name in {"users.xml", "users.toml"})]
    assert server.stop() == 0
    whole, manifest = backup.make(settings, tmp_path / "to", whole=True)
    assert manifest.parts == ("clickhouse", "kafka", "secrets", "users.toml")
    assert stat.S_IMODE(whole.stat().st_mode) == 0o700
    assert {stat.S_IMODE(p.stat().st_mode) for p in whole.rglob("*") if p.is_file() and p.parent != whole} == {0o600}
    assert (whole / "data" / "kafka" / "index").stat().st_blocks < 100
    other = _settings(tmp_path / "other")
    restore.restore(other, str(whole))
    assert (other.home / "secrets" / "postgres").read_text() == "hunter2"
    assert (other.home / "kafka" / "index").stat().st_size == 10 << 20


def test_a_gateway_that_does_not_answer_is_told(server, home):
    with pytest.raises(Unavailable, match="ClickHouse does not answer"):
        backup.make(_settings(home, 1), None, whole=False)


# --- and ingest -----------------------------------------------------------------------------------------------------------------------


class Kafka:
    """A topic of three partitions with one event in each offset, and a group's commits, which no restore takes back."""

    def __init__(self, length):
        self.length, self.commits = length, {}
        self.records = {(TOPIC, p): [self._event(p, o) for o in range(length)] for p in range(3)}

    @staticmethod
    def _event(partition, offset):
        event = {"event_id": f"{partition}-{offset}", "user_id": 1, "item_id": 1, "event_type": "click", "session_id": "s", "country": "DE",
                 "occurred_at": AT_MS, "schema_version": 1}
        body = json.dumps(event).encode() if offset % 7 else b"no event"
        return Record(TOPIC, partition, offset, AT_MS, None, body, "")

    def commit(self, entries):
        self.commits |= entries

    def committed(self, partitions):
        return {p: self.commits.get(p, (0, "")) for p in partitions}

    def bounds(self, partitions):
        return dict.fromkeys(partitions, (0, self.length))

    def read(self, ranges):
        return [r for one in ranges for r in self.records[one.topic, one.partition][one.first : one.last + 1]]


class KilledError(Exception):
    pass


def _run(kafka, url, upto, dies_at=""):
    """Run a lane, as a new member, until every partition was read to before `upto`, or it dies at a named point."""
    def reach(point):
        if point == dies_at:
            raise KilledError

    sink = ClickHouse(url)
    lane = Lane(names.LANDING_EVENTS, DECODERS["user_event"], kafka, sink, limits=Limits(rows=40, age_s=0), reach=reach, rejoined=Rejoin(names.LANDING_EVENTS, kafka, sink))
    try:
        at = lane.assigned(list(kafka.records))
        while any(offset < upto for offset in at.values()):
            batch = []
            for p, offset in at.items():
                batch += kafka.records[p][offset : min(upto, offset + 11 + p[1])]
                at[p] = max(offset, min(upto, offset + 11 + p[1]))
            lane.take(batch)
        while lane._buffer:
            lane.take([])
        lane.finish()
    finally:
        sink.close()


@pytest.mark.parametrize("dies_at", ["", "after_declare", "after_insert"])
def test_after_a_restore_ingest_neither_loses_nor_doubles(home, tmp_path, dies_at):
    home.mkdir()
    server = Server(home / "clickhouse").start()
    settings = _settings(home, server.port)
    schema.apply(server.url)
    kafka = Kafka(400)
    _run(kafka, server.url, 150)
    backup.make(settings, None, whole=False)
    try:
        _run(kafka, server.url, 300, dies_at)
    except KilledError:
        assert dies_at
    assert server.stop() == 0
    restore.restore(settings, "latest", replace=True)
    server.start()
    assert server.text(f"SELECT count() FROM {names.LANDING_EVENTS}") == "450\n"
    restore.tell_ingest(home, server.url)
    assert not (home / "clickhouse" / restore.MARK).exists()
    _run(kafka, server.url, 400)
    _counts(server)
    _run(kafka, server.url, 400)  # once more: nothing is read again
    _counts(server)
    assert server.stop() == 0


def _counts(server):
    rows = server.text(f"SELECT partition, offset FROM {names.LANDING_EVENTS}").splitlines()
    assert Counter(Counter(rows).values()) == {1: 1200}
    assert len(rows) == 1200
    assert server.text(f"SELECT sum(rows), sum(rejected) FROM {names.LEDGER}") == f"1200\t{3 * 58}\n"
    assert server.text(f"SELECT count(), uniqExact(partition, offset) FROM {names.QUARANTINE}") == f"{3 * 58}\t{3 * 58}\n"


def test_a_lost_data_folder_is_filled_again_from_kafka(home):
    home.mkdir()
    server = Server(home / "clickhouse").start()
    schema.apply(server.url)
    kafka = Kafka(400)
    _run(kafka, server.url, 300)
    server.kill()
    shutil.rmtree(home / "clickhouse")
    server.start()
    schema.apply(server.url)
    _run(kafka, server.url, 400)
    _counts(server)
    assert server.stop() == 0


def test_the_restore_refuses_paths_that_leave_the_backup(server, home, tmp_path):
    path, manifest = backup.make(_settings(home, server.port), None, whole=False)
    evil = json.dumps({"path": "../evil", "mode": 0o600, "uid": 0, "gid": 0, "size_bytes": 0, "sha256": "x"})
    (path / "files.jsonl").write_text(evil + "\n")
    import hashlib

    digest = hashlib.sha256((path / "files.jsonl").read_bytes()).hexdigest()
    (path / "manifest.json").write_text(json.dumps(dataclasses.asdict(manifest) | {"list_sha256": digest}))
    with pytest.raises(Terminal, match=r"it names \.\./evil"):
        restore.restore(_settings(tmp_path / "other"), str(path))
    assert not Path(tmp_path / "evil").exists()

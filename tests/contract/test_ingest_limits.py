"""The real gateway at its limits, and a real lane before it: a full disk, too many parts, an insert that takes too long. Each batch is counted once."""
import contextlib
import io
import os
import shutil
import subprocess
import time
from dataclasses import dataclass, field

import pyarrow as pa
import pytest
from tests.contract.gateway_server import Server, wait_until

from weir.contracts import names
from weir.errors import DiskFull, Transient
from weir.gateway.spool import FILE_BYTES
from weir.ingest import clickhouse, parts, pressure, schema
from weir.ingest.batch import DAY_MS
from weir.ingest.clickhouse import ClickHouse
from weir.ingest.decode import user_events
from weir.ingest.lane import Lane, Limits
from weir.ingest.record import Record
from weir.ingest.simulation.run import Quiet
from weir.ingest.worker import RETRY_S, Edges, LaneThread

TOPIC = names.TOPIC_USER_EVENTS


@dataclass
class Topic:
    """One partition and its group, in memory; also the end of the worker: when all is landed, or at the `stops`-th halt, where `halted` is asked."""

    records: list = field(default_factory=list)
    committed_at: dict = field(default_factory=dict)
    halts: list = field(default_factory=list)
    make_room: object = None
    lane: object = None
    trouble: str = ""
    next: int = 0

    def produce(self, count, size):
        """Append records that no contract takes: they fill landing and quarantine alike."""
        now_ms = int(time.time() * 1000) // DAY_MS * DAY_MS
        at = len(self.records)
        self.records += [Record(TOPIC, 0, at + n, now_ms, None, os.urandom(size).hex().encode(), "") for n in range(count)]

    def join(self, on_assign, on_revoke):
        self.assign = on_assign

    def fetch(self, limit, timeout_s):
        if self.assign:
            assign, self.assign = self.assign, None
            self.next = assign([(TOPIC, 0)])[TOPIC, 0]
        found = self.records[self.next:self.next + 300]
        self.next += len(found)
        return found

    def commit(self, entries):
        self.committed_at.update(entries)

    def committed(self, partitions):
        return {p: self.committed_at.get(p, (0, "")) for p in partitions}

    def read(self, ranges):
        return [r for r in self.records for g in ranges if g.first <= r.offset <= g.last]

    def stay(self):
        pass

    close = stay

    def is_set(self):
        return self.committed_at.get((TOPIC, 0)) == (len(self.records), "")

    def wait(self, timeout):
        self.halts.append((self.lane.stats.state, timeout))
        self.make_room()


@pytest.fixture
def small(tmp_path):
    """A gateway whose folder is a disk of 120 MB of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if not shutil.which("mount") or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=120m", "tmpfs", str(disk)], capture_output=True, check=False).returncode:
        pytest.skip("a disk that can be filled is a tmpfs of the test's own, and this user may not mount one")
    server = Server(disk / "engine")
    try:
        server.start()
        schema.apply(server.url)
        yield server
        assert server.stop() == 0
    finally:
        if server.process and server.process.poll() is None:
            server.kill()
        wait_until(lambda: subprocess.run(["umount", str(disk)], capture_output=True, check=False).returncode == 0)


def fill(server, leave):
    """Leave so many bytes free on the server's disk."""
    (server.path.parent / "other").unlink(missing_ok=True)
    with (server.path.parent / "other").open("wb", buffering=0) as other:
        while (left := free(server) - leave) > 0:  # looked at each time: the engine merges and deletes meanwhile
            with contextlib.suppress(OSError):
                other.write(b"x" * min(left, 1 << 20))


def free(server):
    """Return how many bytes are free on the server's disk."""
    found = os.statvfs(server.path.parent)
    return found.f_bavail * found.f_frsize


def test_a_full_disk_stops_the_lane_loudly_and_each_record_is_counted_once_when_there_is_room_again(small):
    topic = Topic()
    topic.make_room = (small.path.parent / "other").unlink
    edges = Edges(lambda _group, _topics: topic, lambda: ClickHouse(small.url), lambda _store, _table: None, ended=topic, limits=Limits(rows=300, age_s=0.0))
    topic.lane = LaneThread(names.LANDING_EVENTS, user_events, [TOPIC], edges, Quiet())
    for leave in (6 << 20, 2500 << 10, 1800 << 10, 1200 << 10, 700 << 10, 300 << 10, 0):  # so the room ends in another table or another part of the path
        topic.produce(6 * 300, 700)
        fill(small, leave)
        before = len(topic.halts)
        topic.lane.run()
        assert len(topic.halts) == before + 1, leave
        state, pause_s = topic.halts[-1]
        assert (state.split(": ")[0], pause_s) == ("stopped", RETRY_S)
        assert "disk is full. make room" in state
        held = [small.text(f"SELECT count(), uniqExact(offset) FROM landing.{t} FORMAT TSV").split() for t in ("user_events", "quarantine")]
        assert held == [[str(len(topic.records))] * 2] * 2, leave
        assert small.text("SELECT sum(rows) FROM landing.ingest_ledger FORMAT TSV").strip() == str(len(topic.records))
    assert topic.lane.stats.replays == len(topic.halts)
    assert [p for p in small.path.rglob("*.data") if p.parent.name != "store"] == [], "the gateway left a request's body on the disk"


def test_the_gateway_says_of_a_full_disk_what_clickhouse_says(small):
    """Of a body that does not fit (the gateway's own file), and of a part that does not (the engine's reservation)."""
    small.text("CREATE TABLE default.t (s String) ENGINE = MergeTree ORDER BY tuple()")
    client = ClickHouse(small.url)
    said = []
    for size in (FILE_BYTES + (2 << 20), 4 << 20):  # the first is more than the gateway keeps in memory
        fill(small, 3 << 20)
        answer = small.post("INSERT INTO default.t FORMAT TSV", os.urandom(size // 2).hex().encode() + b"\n")
        assert (answer.headers.get("X-ClickHouse-Exception-Code"), "NOT_ENOUGH_SPACE" in answer.text) == ("243", True), size
        said.append("There is no room on the disk for the request" in answer.text)
    assert said == [True, False]
    fill(small, 0)
    text = pa.table({"s": [os.urandom(1 << 20).hex()]})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, text.schema) as writer:
        writer.write_table(text)
    with pytest.raises(DiskFull):
        client.insert("default.t", ["s"], sink.getvalue(), "token", "q")
    (small.path.parent / "other").unlink()
    assert small.text("SELECT count() FROM default.t").strip() == "0"
    client.close()


@pytest.fixture
def tables(server):
    server.text("CREATE DATABASE IF NOT EXISTS l ENGINE = Atomic")
    columns = "(topic String, partition UInt16, offset UInt64, batch String, reject_reason String) ENGINE = MergeTree ORDER BY offset SETTINGS non_replicated_deduplication_window = 100"
    server.text(f"CREATE TABLE l.t {columns}, parts_to_throw_insert = 3, parts_to_delay_insert = 3")
    server.text(f"CREATE TABLE l.target {columns}")
    yield server
    server.text("DROP DATABASE l SYNC")


def thin_of(server):
    from weir.ingest.simulation.run import thin

    def decoder(records, batch):
        return thin(records, batch).select(["topic", "partition", "offset", "batch", "reject_reason"])

    topic = Topic()
    waits = []
    lane = Lane("l.t", decoder, topic, ClickHouse(server.url), limits=Limits(rows=10, age_s=0.0), wait=waits.append)
    lane.assigned([(TOPIC, 0)])
    return lane, topic, waits


def counts(server, *tables):
    return [server.text(f"SELECT count(), uniqExact(offset) FROM {t} FORMAT TSV").split() for t in tables]


def test_too_many_parts_are_waited_for_under_the_same_token(tables):
    tables.text("SYSTEM STOP MERGES l.t")
    lane, topic, waits = thin_of(tables)
    topic.produce(60, 4)
    lane.between_tries = lambda: tables.text("SYSTEM START MERGES l.t") + tables.text("OPTIMIZE TABLE l.t FINAL") if len(waits) % 3 == 0 else None
    for at in range(0, 60, 10):
        lane.take(topic.records[at:at + 10])
    lane.finish()
    assert len(waits) >= 3
    assert lane.stats.state.startswith("waiting: ClickHouse refused with code 252 TOO_MANY_PARTS (HTTP 500): a table has too many parts")
    assert counts(tables, "l.t") == [["60", "60"]]


def test_an_insert_over_its_time_is_an_exception_and_the_same_batch_is_counted_once(tables, monkeypatch):
    monkeypatch.setitem(clickhouse.INSERT_SETTINGS, "max_execution_time", "1")
    tables.text("CREATE MATERIALIZED VIEW l.v TO l.target AS SELECT topic, partition, offset, batch, reject_reason FROM l.t WHERE sleepEachRow(0.25) = 0")
    client = ClickHouse(tables.url)
    client_insert, refused = client.insert, []

    def insert(*arguments):
        try:
            client_insert(*arguments)
        except Transient as error:
            refused.append(error.message)
            raise

    client.insert = insert
    lane, topic, _ = thin_of(tables)
    lane.sink = client
    topic.produce(10, 4)
    lane.between_tries = lambda: tables.text("DROP VIEW l.v") + tables.text(
        "CREATE MATERIALIZED VIEW l.v TO l.target AS SELECT topic, partition, offset, batch, reject_reason FROM l.t")
    lane.take(topic.records)
    lane.finish()
    assert refused == ["ClickHouse refused with code 159 TIMEOUT_EXCEEDED (HTTP 408)"]
    assert counts(tables, "l.t", "l.target") == [["10", "10"]] * 2
    client.close()


def test_a_lane_before_a_table_with_many_parts_is_slowed_and_recovers_when_they_are_merged(tables):
    tables.text("CREATE MATERIALIZED VIEW l.v TO l.target AS SELECT topic, partition, offset, batch, reject_reason FROM l.t")
    tables.text("ALTER TABLE l.target MODIFY SETTING parts_to_delay_insert = 20")
    tables.text("ALTER TABLE l.t MODIFY SETTING parts_to_throw_insert = 3000, parts_to_delay_insert = 1000")
    tables.text("SYSTEM STOP MERGES l.target")
    lane, topic, _ = thin_of(tables)
    ask = parts.Asker(tables.url, ["l.t"])
    lane.parts = ask
    now = [0.0]
    lane.clock = lambda: now[0]
    topic.produce(400, 4)
    slowed_at = 0
    for at in range(0, 400, 10):
        now[0] += 1.0  # of virtual time, so only the pace decides
        lane.take(topic.records[at:at + 10])
        if not slowed_at and lane.pace.why:
            slowed_at = at
            assert "l.target has 10 parts in a partition, and ClickHouse delays inserts from 20 on" in lane.pace.why
    assert {p.table: p.bound for p in ask()} == {"l.t": 1000, "l.target": 20}
    assert 0 < max(p.most for p in ask() if p.table == "l.target") < 20, "it was not slowed enough to stay below what ClickHouse delays at"
    tables.text("SYSTEM START MERGES l.target")
    tables.text("OPTIMIZE TABLE l.target FINAL")
    for _ in range(60):
        now[0] += 1.0
        lane.take([])
    assert lane.pace == pressure.UNHURRIED
    lane.finish()
    assert counts(tables, "l.t", "l.target") == [["400", "400"]] * 2

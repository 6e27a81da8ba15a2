"""The gateway is killed with inserts in flight, again and again; what was acknowledged is there, and what had no answer counts once.

Half of the kills fall at random, the others at six points in turn: three where the gateway's own process ends itself, told by its trail, and three that are seen
from outside on the disk, in the engine's own work. The journal is this process's own. An insert without an answer is repeated under its token after the restart; then the table, the insert-triggered
sums behind it and the keyed copy must each be exactly what the journal says, by count and by a sum that is independent of order.
WEIR_TEST_KILLS sets how many times (12; `./weir test --long` does 1,000), WEIR_TEST_SEED the seed.
"""
import collections
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from tests.contract.gateway_server import Server

from weir.gateway.engine import CRASH_AT, POINTS, TRAIL

KILLS = int(os.environ.get("WEIR_TEST_KILLS", "12"))
SEED = int(os.environ.get("WEIR_TEST_SEED", str(random.SystemRandom().randrange(1 << 30))))
WRITERS = 3
SEEN = {"part": "d.events", "token": "d.events", "part of a view": "d.copy"}  # of which table's folder: a part that is being written, a deduplication log that grew
AT = (*POINTS, *SEEN)
WINDOW = "SETTINGS non_replicated_deduplication_window = 10000"

DDL = (
    "CREATE DATABASE d ENGINE = Atomic",
    f"CREATE TABLE d.events (id UInt64, batch UInt64, value UInt64) ENGINE = MergeTree ORDER BY id {WINDOW}",
    f"CREATE TABLE d.sums (batch UInt64, n UInt64, total UInt64) ENGINE = SummingMergeTree ORDER BY batch {WINDOW}",
    f"CREATE TABLE d.copy (id UInt64, value UInt64) ENGINE = MergeTree ORDER BY id {WINDOW}",
    f"CREATE TABLE d.chained (n UInt64) ENGINE = SummingMergeTree ORDER BY tuple() {WINDOW}",
    "CREATE MATERIALIZED VIEW d.to_sums TO d.sums AS SELECT batch, count() AS n, sum(value) AS total FROM d.events GROUP BY batch",
    "CREATE MATERIALIZED VIEW d.to_copy TO d.copy AS SELECT id, value FROM d.events",
    "CREATE MATERIALIZED VIEW d.to_chained TO d.chained AS SELECT count() AS n FROM d.copy",
)


class Writer(threading.Thread):
    """Inserts batches until there is no answer; then `open` holds the (token, body) that had none."""

    def __init__(self, server, journal, numbers, opened):
        super().__init__(daemon=True)
        self._server, self._journal, self._numbers, self.open = server, journal, numbers, opened
        self.fault = None

    def run(self):
        while True:
            try:
                batch = next(self._numbers)
            except StopIteration:
                return
            rows = [(batch * 10_000 + i, batch, batch * 7 + i) for i in range(1 + batch % 400)]
            body = "".join(f"{i}\t{b}\t{v}\n" for i, b, v in rows).encode()
            self._journal[batch] = rows
            self.open[batch] = body
            try:
                answer = send(self._server, batch, body)
            except httpx.HTTPError:
                return
            if answer.status_code != 200:
                self.fault = answer.text
                return
            del self.open[batch]


def send(server, batch, body):
    url = {"query": "INSERT INTO d.events FORMAT TSV", "insert_deduplication_token": f"batch-{batch}", "max_insert_threads": "1"}
    return httpx.post(server.url, params=url, content=body, timeout=30)


class Numbers:
    """Batch numbers, one after another, for all the writers; none once stopped."""

    def __init__(self):
        self._next, self._lock, self.stopped = 0, threading.Lock(), False

    def __next__(self):
        with self._lock:
            if self.stopped:
                raise StopIteration
            self._next += 1
            return self._next


def _expected(journal):
    rows = [row for batch in journal.values() for row in batch]
    return len(rows), sum(r[0] for r in rows), sum(r[2] for r in rows)


def _verdict(server, journal):
    """Return what is not as the journal says, by table."""
    count, ids, values = _expected(journal)
    wrong = {}
    for name, sql, expected in (
        ("events", "SELECT count(), sum(id), sum(value), uniqExact(id) FROM d.events", (count, ids, values, count)),
        ("copy", "SELECT count(), sum(id), sum(value), uniqExact(id) FROM d.copy", (count, ids, values, count)),
        ("sums", "SELECT sum(n), sum(total), uniqExact(batch) FROM d.sums", (count, values, len(journal))),
        ("chained", "SELECT sum(n) FROM d.chained", (count,)),
    ):
        found = tuple(int(x) for x in server.text(sql).split())
        if found != expected:
            wrong[name] = {"found": found, "expected": expected}
    return wrong


def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class Folder:
    """A table's folder: `part` is there while an insert's part is being written, `token` once a deduplication log is longer than it was."""

    def __init__(self, server, table):
        self.path = Path(server.text(f"SELECT data_paths[1] FROM system.tables WHERE concat(database, '.', name) = '{table}' FORMAT RawBLOB").strip())
        self._before = self._log()

    def _log(self):
        return sum(p.stat().st_size for p in self.path.glob("deduplication_logs/*"))

    def seen(self, what):
        if what == "token":
            return self._log() > self._before
        return any(entry.name.startswith("tmp_insert_") for entry in os.scandir(self.path))


def seen_and_killed(server, folder, where):
    """Kill the gateway as soon as it is seen at work; return whether it was."""
    what, deadline = where.split()[0], time.monotonic() + 30
    while time.monotonic() < deadline:
        if folder.seen(what):
            server.process.send_signal(signal.SIGKILL)
            server.process.wait(10)
            return True
    return False


def told(path):
    """Return the point that the trail of a process that ended itself tells last."""
    return path.read_text().split()[-1]


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path / "gateway").start()
    for sql in DDL:
        server.text(sql)
    yield server
    assert server.stop() == 0


def test_after_every_kill_each_table_is_what_the_journal_says(server):
    say(f"seed {SEED}, kills {KILLS}")
    chance, journal, in_flight, hits = random.Random(SEED), {}, 0, collections.Counter()  # noqa: S311 - no secret: where a kill falls
    numbers, opened, trail = Numbers(), {}, server.path.parent / "trail"
    places = [AT[kill // 2 % len(AT)] if kill % 2 else "random" for kill in range(KILLS)]
    for kill, where in enumerate(places):
        folder = Folder(server, SEEN[where]) if where in SEEN else None
        writers = [Writer(server, journal, numbers, opened) for _ in range(WRITERS)]
        numbers.stopped = False
        for writer in writers:
            writer.start()
        if where in POINTS:
            server.process.wait(60)
            hits[where] += told(trail) == where
        else:
            time.sleep(0.05 + chance.random() * 0.4)  # where in an insert the kill falls is left to chance
            if folder is None:
                server.kill()
            else:
                hits[where] += seen_and_killed(server, folder, where)
        numbers.stopped = True
        for writer in writers:
            writer.join(40)
        assert [w.fault for w in writers if w.fault] == []
        in_flight += bool(opened)
        trail.unlink(missing_ok=True)
        after = places[kill + 1] if kill + 1 < KILLS else ""
        # what is repeated first passes the points too: WRITERS at most
        server.start(**({CRASH_AT: f"{after}:{WRITERS + 1 + chance.randrange(9)}", TRAIL: str(trail)} if after in POINTS else {}))
        for batch, body in list(opened.items()):
            answer = send(server, batch, body)
            assert answer.status_code == 200, answer.text
            del opened[batch]
        assert _verdict(server, journal) == {}, f"after kill {kill + 1} of seed {SEED}, {where}"
        if kill % 50 == 49:
            say(f"{kill + 1} kills, {in_flight} with an insert in flight, {dict(hits)}")
    say(f"{len(journal)} batches, {in_flight} of {KILLS} kills with an insert in flight, at the points {dict(hits)}")
    assert hits == collections.Counter(p for p in places if p != "random"), "a kill missed its point"
    assert in_flight >= KILLS * 0.9, "too few kills fell into an insert to prove anything"
    server.text("OPTIMIZE TABLE d.sums FINAL")
    assert _verdict(server, journal) == {}


def test_the_count_would_notice_a_double_and_a_loss(server):
    journal = {1: [(1, 1, 7)], 2: [(2, 2, 14)]}
    for batch, rows in journal.items():
        assert send(server, batch, "".join(f"{i}\t{b}\t{v}\n" for i, b, v in rows).encode()).status_code == 200
    assert _verdict(server, journal) == {}
    server.text("INSERT INTO d.events VALUES (1, 1, 7)")  # no token: nothing says that it is a repetition
    assert set(_verdict(server, journal)) == {"events", "copy", "sums", "chained"}
    assert set(_verdict(server, journal | {3: [(3, 3, 21), (4, 3, 28)]})) == {"events", "copy", "sums", "chained"}


@pytest.mark.parametrize("where", ["table", "view"])
def test_a_token_without_its_part_is_repaired_at_start(server, where):
    """The crash hole, made by hand: the engine wrote the token and was killed before the part was in its place."""
    body = b"1\t1\t7\n2\t1\t8\n"
    assert send(server, 1, body).status_code == 200
    table = {"table": "events", "view": "copy"}[where]
    path = server.text(f"SELECT path FROM system.parts WHERE database = 'd' AND table = '{table}' AND active FORMAT RawBLOB").strip()
    server.kill()
    Path(path).rename(server.path / "taken-away")
    server.start()
    assert server.text(f"SELECT count() FROM d.{table}") == "0\n"
    assert send(server, 1, body).status_code == 200
    counts = server.text("SELECT (SELECT count() FROM d.events), (SELECT count() FROM d.copy), (SELECT sum(n) FROM d.sums)")
    assert counts == "2\t2\t2\n"

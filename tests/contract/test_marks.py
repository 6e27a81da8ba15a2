"""The verdict over landing tables of the embedded engine: bounded by what is new, and not blind to what happens below the marks."""
import json
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from tests.contract.gateway_server import Server

from weir import quality
from weir.contracts import names
from weir.contracts.endpoints import Endpoints
from weir.ingest import schema
from weir.quality import ask, gaps, marks
from weir.quality.advance import Advance
from weir.quality.ask import Offsets
from weir.quality.judge import Verdict
from weir.quality.pipeline import Connector, Pipeline, Slot
from weir.quality.windows import WINDOW_ROWS

TOPIC, PARTITIONS, BATCH = names.TOPIC_USER_EVENTS, 12, 50_000
HISTORY = 12_600_000  # in three thirds, each more than a look counts (landing.LOOK_RECORDS), so that each has to be marked first
DAY = timedelta(days=1)


class _Kafka:
    """Stands for Kafka: the offsets of each partition, and the gaps that hold records (None: cannot be told)."""

    def __init__(self):
        self.ends, self.begin, self.holds = {}, 0, 0

    def offsets(self, _bootstrap, _more=()):
        return {(t, p): Offsets(0, 0, None) for t, n in names.PARTITIONS.items() for p in range(n)} | {
            (TOPIC, p): Offsets(self.begin, end, end) for p, end in self.ends.items()}

    def __call__(self, _bootstrap):
        return self

    def records(self, _key, wanted):
        return {} if self.holds is None else dict.fromkeys(wanted, self.holds)

    def close(self):
        pass


class World:
    """Landing tables as ingest leaves them, and a verdict and an owner of marks over them."""

    def __init__(self, server, folder, patch):
        self.server, self.folder, self.kafka = server, folder, _Kafka()
        self.endpoints = replace(Endpoints.local(), clickhouse_url=server.url)
        patch.setattr(ask, "kafka", self.kafka.offsets)
        patch.setattr(ask, "postgres", lambda _dsn: {"users": 1, "items": 1})
        patch.setattr(ask, "document", lambda _url: {})
        patch.setattr(gaps._KNOWN, "_reader", self.kafka)
        for table in (*names.LANDINGS, names.QUARANTINE, names.LEDGER, names.CHECKED_WINDOWS):
            server.text(f"TRUNCATE TABLE {table}")
        self.noon = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - 4 * DAY
        self.ahead_s = 0.0

    def land(self, first, after, at=None, partitions=PARTITIONS, spread_ms=0):
        """Land offsets first to below after of each partition, in batches within a day."""
        at = f"toDateTime64('{f'{at or self.noon:%Y-%m-%d %H:%M:%S.%f}'[:-3]}', 3, 'UTC')"
        produced = f"{at} + toIntervalMillisecond({spread_ms} * (o - {first}) / {after - first})"
        answer = self.server.post(
            f"INSERT INTO {names.LANDING_EVENTS} (topic, partition, offset, batch, produced_at, event_type, occurred_at) SELECT '{TOPIC}', number % {partitions} AS p,"
            f" {first} + intDiv(number, {partitions}) AS o, concat(toString(p), '/{first}/', toString(intDiv(o, {BATCH}))), {produced}, 'view',"
            f" {produced} FROM numbers({(after - first) * partitions}) SETTINGS max_insert_threads = 1", timeout=300)
        assert answer.status_code == 200, answer.text
        for p in range(partitions):
            self.kafka.ends[p] = max(after, self.kafka.ends.get(p, 0))

    def lose(self, partition, offset, table=names.LANDING_EVENTS):
        self.server.text(f"ALTER TABLE {table} DELETE WHERE partition = {partition} AND offset = {offset} SETTINGS mutations_sync = 2")

    def double(self, partition, offset):
        self.server.text(f"INSERT INTO {names.LANDING_EVENTS} SELECT * FROM {names.LANDING_EVENTS} WHERE partition = {partition} AND offset = {offset}")

    def advance(self):
        """Let the owner of the marks work until nothing is waiting."""
        owner = Advance(self.endpoints, gaps.Gaps(self.kafka), clock=lambda: time.time() + self.ahead_s)
        while owner.round():
            pass

    def look(self):
        now_ms = int((time.time() + self.ahead_s) * 1000)
        about = Pipeline(Slot("reserved", active=True, retained_bytes=0, left_bytes=None), Connector("RUNNING", "RUNNING"), (), ())
        return quality.verdict(self.endpoints, self.folder, about=about, now_ms=now_ms)

    def rows_read(self, action):
        """Return what `action` returns, and how many rows all of the engine's queries read for it."""
        seen, post = [], httpx.post

        def counted(*given, **named):
            answer = post(*given, **named)
            seen.append(int(json.loads(answer.headers.get("X-ClickHouse-Summary", "{}")).get("read_rows", 0)))
            return answer

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(httpx, "post", counted)
            found = action()
        assert len(seen) > 10
        return found, sum(seen)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    made = Server(tmp_path_factory.mktemp("clickhouse")).start()
    schema.apply(made.url)
    for name in ("int_users", "int_items"):
        made.text(f"CREATE TABLE staging.{name} ENGINE = MergeTree ORDER BY x AS SELECT 1 AS x")
    made.text(f"CREATE TABLE staging.int_user_events ENGINE = MergeTree PARTITION BY toYYYYMM(occurred_at) ORDER BY offset AS SELECT offset, occurred_at FROM {names.LANDING_EVENTS}")
    yield made
    made.stop()


@pytest.fixture
def world(server, tmp_path, monkeypatch):
    return World(server, tmp_path, monkeypatch)


@pytest.fixture
def small(world):
    """Two days' history, checked."""
    world.land(0, 2_000)
    world.land(2_000, 3_000, world.noon + DAY)
    world.advance()
    assert (world.look().verdict, world.look().reasons) == (Verdict.YES, ())
    return world


def test_a_look_at_a_long_history_reads_what_is_new_and_still_sees_a_loss_and_a_doubling_below_the_mark(world):
    each = HISTORY // PARTITIONS // 3
    read = []
    for n in range(3):
        world.land(n * each, (n + 1) * each, world.noon + n * DAY, spread_ms=80_000_000)
        before = world.look()
        assert before.verdict is Verdict.UNKNOWN
        assert any("wait for their check" in r for r in before.reasons)
        world.advance()
        after, rows = world.rows_read(world.look)
        assert (after.verdict, after.reasons, sum(p.landed_rows for p in after.partitions)) == (Verdict.YES, (), PARTITIONS * each * (n + 1))
        read.append(rows)
    world.land(3 * each, 3 * each + 1000, world.noon + 3 * DAY)
    again, rows = world.rows_read(world.look)
    assert (again.verdict, sum(p.landed_rows for p in again.partitions)) == (Verdict.YES, PARTITIONS * (3 * each + 1000))
    assert max(*read, rows) < HISTORY / 100, (read, rows)  # a granule of each part and partition, however long the history: 90,000 at most here, or none by chance
    world.lose(3, 777)
    assert any("1 rows fewer" in r for r in world.look().reasons)
    world.double(4, each)
    report, rows = world.rows_read(world.look)
    assert report.verdict is Verdict.NO
    assert any("1 rows fewer" in r and "1 rows more" in r for r in report.reasons)
    assert rows < WINDOW_ROWS, rows  # of the days that differ, not of the history


def test_rows_that_land_late_are_found_in_the_day_of_their_record(small):
    small.land(3_000, 3_100)  # of the first day, above the mark
    assert (small.look().verdict, small.look().reasons) == (Verdict.YES, ())
    small.advance()
    assert small.look().verdict is Verdict.YES


def test_a_loss_and_a_doubling_of_one_day_are_told_by_the_next_re_check(small):
    small.lose(3, 777)
    small.double(4, 888)
    assert small.look().verdict is Verdict.YES  # the stated blind spot
    small.ahead_s = marks.RECHECK_S + 60
    small.advance()
    report = small.look()
    assert report.verdict is Verdict.NO
    assert sorted(r.split(":")[0] for r in report.reasons) == [f"{TOPIC}/3", f"{TOPIC}/4"]
    assert any("rows are doubled" in r for r in report.reasons)


def test_a_loss_and_a_doubling_of_two_days_are_told_at_once(small):
    small.lose(3, 777)
    small.double(4, 2_500)
    assert small.look().verdict is Verdict.NO


def test_a_row_lost_above_the_mark_is_a_no_and_stays_one_below_it_until_it_is_back(small):
    small.land(3_000, 3_100, small.noon + DAY)
    small.lose(5, 3_050)
    small.server.text(f"ALTER TABLE {names.LEDGER} UPDATE rows = rows - 1 WHERE partition = 5 AND first_offset = 3000 SETTINGS mutations_sync = 2")
    small.kafka.holds = None
    assert any("Kafka could not tell" in r for r in small.look().reasons)
    small.advance()
    assert small.look().verdict is Verdict.UNKNOWN  # no mark passes what is not known
    small.kafka.holds = 1
    assert any("records are lost" in r for r in small.look().reasons)
    small.advance()
    report = small.look()
    assert (report.verdict, [r for r in report.reasons if "records are lost" in r and "offsets 3000 to 3099" in r] != []) == (Verdict.NO, True)
    small.kafka.holds = 0  # it was a marker after all, or the row is back
    small.advance()
    assert small.look().verdict is Verdict.YES


def test_markers_are_no_loss_above_a_mark_and_below_it(small):
    small.land(3_001, 3_100, small.noon + DAY)  # offset 3000 of each partition is a marker
    assert small.look().verdict is Verdict.YES
    small.advance()
    small.ahead_s = marks.RECHECK_S + 60
    small.advance()
    report = small.look()
    assert (report.verdict, {p.mark for p in report.partitions if p.topic == TOPIC}) == (Verdict.YES, {3_100})


def test_a_ledger_that_lost_a_batch_below_the_mark_is_told_by_the_next_re_check(small):
    small.server.text(f"ALTER TABLE {names.LEDGER} DELETE WHERE partition = 6 AND first_offset = 2000 SETTINGS mutations_sync = 2")
    small.ahead_s = marks.RECHECK_S + 60
    small.advance()
    assert any(r.startswith(f"{TOPIC}/6:") and "ledger" in r for r in small.look().reasons)


def test_a_check_older_than_two_re_checks_is_unknown_and_retention_of_old_days_is_no_loss(small):
    small.ahead_s = marks.STALE_S + 60
    assert any("h old" in r for r in small.look().reasons)
    small.ahead_s = 20 * DAY.total_seconds()
    small.server.text(f"ALTER TABLE {names.LANDING_EVENTS} DROP PARTITION '{small.noon:%Y-%m-%d}'")
    assert (small.look().verdict, small.look().reasons) == (Verdict.YES, ())


def test_a_window_that_is_gone_makes_the_verdict_unknown_and_not_yes(small):
    small.server.text(f"INSERT INTO {names.CHECKED_WINDOWS} (topic, partition, first, next, days, checked_at, newest_at, written_at)"
                      f" VALUES ('{TOPIC}', 7, 3100, 3200, map(), now64(3), now64(3), now64(6))")
    assert any(r.startswith(f"{TOPIC}/7:") and "is gone" in r for r in small.look().reasons)
    small.server.text(f"TRUNCATE TABLE {names.CHECKED_WINDOWS}")
    small.advance()
    assert small.look().verdict is Verdict.YES


def test_rows_of_a_topic_that_kafka_has_no_more_are_counted_above_the_marks_and_then_below(small):
    small.server.text(f"INSERT INTO {names.LANDING_CDC} (topic, partition, offset, batch, produced_at) SELECT 'shop.public.gone', 0, 1, 'b', now64(3)")
    assert (small.look().verdict, small.look().reasons) == (Verdict.YES, ())
    small.advance()
    assert (small.look().verdict, marks.read(small.server.url, "2000-01-01")["shop.public.gone", 0].next) == (Verdict.YES, 2)
    small.lose(0, 1, names.LANDING_CDC)
    assert small.look().verdict is Verdict.NO


def test_looks_while_batches_land_never_see_a_loss_or_a_doubling(small):
    ended, failed = threading.Event(), []

    def produce():
        at = 3_000
        while not ended.is_set():
            try:
                small.land(at, at + 300, datetime.now(UTC))
                at += 300
            except AssertionError as error:  # told below
                failed.append(error)

    thread = threading.Thread(target=produce)
    thread.start()
    try:
        found = [r for n in range(16) for r in (small.look().reasons if n % 8 else (small.advance(), ())[1])]
    finally:
        ended.set()
        thread.join()
    assert (found, failed) == ([], [])

"""A range decoded again over the real lane, the embedded ClickHouse and librdkafka's mock broker: every table is what lands today, once, whatever lands, fails or is killed meanwhile."""
import contextlib
import json
import shutil
import threading
import time
from pathlib import Path

import pytest
from tests.contract.event_world import ACTIVE, ITEM, USER, World
from tests.contract.gateway_server import wait_until

from weir.contracts import names
from weir.errors import ContractViolation, DiskFull, Transient, Unavailable
from weir.ingest import decode
from weir.ingest.clickhouse import ClickHouse
from weir.ingest.record import Record
from weir.replay import behind, decoded, ranges
from weir.replay import plan as planning
from weir.replay.plan import Planner
from weir.replay.run import Replay
from weir.topics.reader import Reader
from weir.transform.warehouse import Warehouse

LIVE = names.LANDING_EVENTS
TRIES = 3  # of an exchange, where there are five (weir.replay.run.EXCHANGES): each waits
CHANGED = 22  # of what Events.old lands by default
COLUMNS = "topic, partition, offset, produced_at, event_id, user_id, item_id, event_type, occurred_at, country"


class Events:
    """The world, and events of it that an earlier contract judged otherwise: it took ratings from 0.1 to 4."""

    def __init__(self, folder):
        self.world, self.made = World(folder, events=400), 0

    def event(self, **more):
        self.made += 1
        now_ms = int(time.time() * 1000)
        return {"schema_version": 1, "event_id": f"m{self.made:06}", "user_id": 1000 + self.made % 90, "item_id": self.made % 7 + 1, "event_type": "rate", "rating": 3.0, "session_id": "s",
                "country": ("DE", "SE")[self.made % 2], "occurred_at": now_ms - self.made * 100, **more}

    def produce(self, *events):
        self.world.produce([{"key": bytes([n % 2]), "value": json.dumps(e).encode()} for n, e in enumerate(events)])

    def old(self, *events):
        """Land events under the earlier contract; by default eight that today's quarantines, eight that both take, and fourteen that today's takes alone."""
        with earlier_contract():
            self.produce(*(events or [self.event(rating=(0.2, 3.0, 4.5, 4.5)[n % 4]) for n in range(30)]))
            self.world.ingest()

    def verdict(self):
        told = self.world.verify().document()
        return told["verdict"], {v["table"]: v["verdict"] for v in told["views"] if v["verdict"] != "yes"}

    def text(self, sql):
        return self.world.server.text(sql).strip()

    def place(self, event_id):
        return tuple(map(int, self.text(f"SELECT partition, offset FROM {LIVE} WHERE event_id = '{event_id}' OR position(raw, '{event_id}') > 0 ORDER BY offset LIMIT 1").split()))


@contextlib.contextmanager
def earlier_contract():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode, "RATING_MIN", 0.1)
        patch.setattr(decode, "RATING_MAX", 4.0)
        yield


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    made = Events(tmp_path_factory.mktemp("replay"))
    yield made
    made.world.close()


@pytest.fixture
def replay(events):
    """Run a replay, of everything by default; nothing may stay beside."""
    open_ones = []

    def replaying(first=("0",), after=(), warehouse=Warehouse, client=ClickHouse, **how):
        world = events.world
        parts = warehouse(world.server.url), client(world.server.url), Reader(world.bootstrap, names.ingest_group(LIVE))
        open_ones.extend(parts)
        try:
            return Replay(Planner(parts[0], parts[2], ranges.asked(first, after, "", "")), parts[1], world.scratch, **how).run()
        finally:
            assert events.text("SELECT name FROM system.tables WHERE startsWith(name, 'shadow__')") == ""
            assert list(world.scratch.iterdir()) == []

    yield replaying
    for part in open_ones:
        part.close()


def test_a_range_becomes_what_lands_today_and_every_table_behind_follows(events, replay):
    events.old()
    assert events.verdict()[0] == "no"  # landed otherwise than today's contract says
    ends = events.text(f"SELECT max(offset) + 1 FROM {LIVE} GROUP BY partition ORDER BY partition").split()
    part = replay((f"0:{int(ends[0]) - 9}",), (f"0:{int(ends[0]) - 3}",))
    assert part.changes == 6
    assert set(part.changed[0]) == {"now_accepted", "now_quarantined"}
    assert part.partitions[0].records == 6
    assert list(part.partitions) == [0]
    told = replay()
    assert told.changes == CHANGED - 6
    assert set(told.tables) >= {LIVE, names.QUARANTINE, USER, ITEM, ACTIVE}
    assert all(n > 0 for n in told.recomputed.values())
    assert events.verdict() == ("yes", {})
    again = replay()
    assert (again.changes, again.tables, again.held_ms) == (0, {}, 0.0)
    assert [p.hash for p in again.partitions.values()] == [p.hash for p in told.partitions.values()]


def test_what_lands_while_it_runs_is_neither_lost_nor_doubled(events, replay):
    events.old()
    ended, sent = threading.Event(), []

    def produce():
        while not ended.is_set():
            made = [events.event(rating=(0.2, 3.0)[n % 2]) for n in range(20)]
            events.produce(*made)
            sent.extend(e["event_id"] for e in made if e["rating"] == 3.0)
            time.sleep(0.02)

    producing = threading.Thread(target=produce)
    with events.world.running() as lane:
        producing.start()
        try:
            batches = lane.stats.batches
            assert wait_until(lambda: lane.stats.batches > batches + 3)
            told, before = replay(), len(sent)
            assert wait_until(lambda: len(sent) > before + 40)
        finally:
            ended.set()
            producing.join()
    assert told.changes == CHANGED
    assert events.verdict() == ("yes", {})
    found = events.text(f"SELECT event_id FROM {USER} WHERE event_id >= '{sent[0]}' ORDER BY event_id").split()  # without FINAL: none came twice
    assert found == sorted(sent)


# Of the long ones, 0 (nothing was exchanged yet) is held by test_stopped_at_any_step_it_leaves_the_live_tables_and_nothing_beside; the others are before and after the one that stays: fewer or more of
# the same exchanges done.
@pytest.mark.parametrize("step", [11, *(pytest.param(n, marks=pytest.mark.long) for n in (0, 3, 9, 13, 14))])
def test_killed_in_the_exchange_it_is_run_again_and_does_what_is_left(events, replay, step):
    class Dies(Warehouse):
        def together(self, statements):
            assert len(statements) >= 15
            if step:
                super().together(statements[:step])
            raise KeyboardInterrupt

    events.old()
    with pytest.raises(KeyboardInterrupt):
        replay(warehouse=Dies)
    events.produce(events.event(), events.event())
    events.world.ingest()
    assert replay().changes == CHANGED
    assert events.verdict() == ("yes", {})


def test_rows_that_are_missing_or_doubled_in_the_landing_table_are_as_in_kafka_again(events, replay):
    world = events.world
    world.change(f"ALTER TABLE {LIVE} DELETE WHERE partition = 0 AND offset IN (3, 4)")
    world.change(f"INSERT INTO {LIVE} SELECT * FROM {LIVE} WHERE partition = 1 AND offset = 5 SETTINGS insert_deduplicate = 0")
    told = replay()
    assert {p: dict(kinds) for p, kinds in told.changed.items()} == {0: {"was_missing": 2}, 1: {"was_doubled": 1}}
    assert events.verdict() == ("yes", {})


def members(events):
    return events.text(f"SELECT countIf(u = 777), countIf(u = 778) FROM (SELECT DISTINCT arrayJoin(bitmapToArray(users)) AS u FROM {ACTIVE})").split()


def test_what_another_record_owes_stays_behind_and_what_none_owes_goes(events, replay):
    twice, once = events.event(rating=0.2, user_id=777), events.event(rating=0.2, user_id=778)
    events.old(twice, once, twice)  # partition 0 has it twice
    partition, first = events.place(twice["event_id"])
    assert members(events) == ["1", "1"]
    assert replay((f"{partition}:{first}",), (f"{partition}:{first + 1}",)).changes == 1
    assert members(events) == ["1", "1"]
    assert events.text(f"SELECT count() FROM {USER} FINAL WHERE user_id = 777") == "1"
    assert replay().changes == 2
    assert members(events) == ["0", "0"]
    assert events.text(f"SELECT count() FROM {USER} WHERE user_id IN (777, 778)") == "0"


@pytest.mark.long
def test_a_set_of_a_day_whose_landing_rows_are_gone_keeps_its_members_which_these_may_owe(events, replay):
    long_ago = int(time.time() * 1000) - 60 * 86_400_000
    events.old(events.event(rating=0.2, user_id=777, occurred_at=long_ago), events.event(rating=0.2, user_id=778))  # the first is of a load of history
    assert members(events) == ["1", "1"]
    assert replay().changes == 2
    assert members(events) == ["1", "0"]
    assert events.verdict() == ("yes", {})


@pytest.mark.long
def test_history_that_landing_no_longer_has_stays_behind(events, replay):
    events.world.change(f"INSERT INTO {USER} SELECT 4242, now64(3) - 5, 'history', 1, 'view', NULL, 's', 'DE', now64(3) - INTERVAL 40 DAY")
    events.old()
    assert USER in replay().tables
    assert events.text(f"SELECT count() FROM {USER} WHERE event_id = 'history'") == "1"


def test_a_table_of_sums_is_refused_when_the_range_changes_what_it_counts_and_not_before(events, replay):
    world = events.world
    world.change("CREATE TABLE staging.sums (day Date, n UInt64) ENGINE = SummingMergeTree ORDER BY day SETTINGS non_replicated_deduplication_window = 10000")
    world.change(f"CREATE MATERIALIZED VIEW staging.sums_mv TO staging.sums AS SELECT toDate(occurred_at) AS day, count() AS n FROM {LIVE} WHERE reject_reason = '' AND rating < 1 GROUP BY day")
    try:
        events.old(events.event(rating=4.5))
        assert replay().changes == 1
        events.old(events.event(rating=0.2))
        with pytest.raises(ContractViolation, match=r"staging\.sums is no keyed table.*drop sums_mv, replay"):
            replay()
        assert events.text(f"SELECT count() FROM {LIVE} WHERE reject_reason = '' AND rating < 0.5") == "1"  # the live table serves on
    finally:
        world.change("DROP VIEW staging.sums_mv SYNC")
        world.change("DROP TABLE staging.sums SYNC")
    assert replay().changes == 1


def test_what_an_operator_has_settled_is_taken_in_only_when_asked_for(events, replay):
    record = events.event(rating=4.5)
    events.old(record)
    partition, offset = events.place(record["event_id"])
    events.text(f"INSERT INTO {names.QUARANTINE_ACTIONS} (topic, partition, offset, at, action) SELECT '{names.TOPIC_USER_EVENTS}', {partition}, {offset}, now64(6), 'discard'")
    with pytest.raises(ContractViolation, match=r"1 records that would be accepted now were replayed or discarded.*--handled-too"):
        replay()
    assert replay(handled=True).changes == 1


# The long ones end just before the two that stay, at which more stands beside.
@pytest.mark.parametrize("where", ["verifying against Kafka", *(pytest.param(w, marks=pytest.mark.long) for w in (f"building {USER}", "decoding", "copying the rest of its days"))])
def test_stopped_at_any_step_it_leaves_the_live_tables_and_nothing_beside(events, replay, where):
    def stop(at):
        if at.step == where:
            raise KeyboardInterrupt

    events.old()
    before = events.text(f"SELECT count(), countIf(reject_reason != ''), sum(cityHash64(event_id, batch)) FROM {LIVE}")
    with pytest.raises(KeyboardInterrupt):
        replay(report=stop)
    assert events.text(f"SELECT count(), countIf(reject_reason != ''), sum(cityHash64(event_id, batch)) FROM {LIVE}") == before
    assert replay().changes == CHANGED


class Loses(ClickHouse):
    """Loses a row of what is inserted beside."""

    def insert(self, table, columns, arrow_stream, token, query_id):
        super().insert(table, columns, arrow_stream, token, query_id)
        self.execute(f"ALTER TABLE {table} DELETE WHERE offset = 7 SETTINGS mutations_sync = 2")


def test_a_row_lost_beside_is_told_and_nothing_is_exchanged(events, replay):
    events.old()
    with pytest.raises(ContractViolation, match=r"is not what Kafka holds of user-events/\d: 1 missing of"):
        replay(client=Loses)
    assert replay().changes == CHANGED


def test_a_row_lost_behind_is_told_by_the_recompute_and_by_the_clone(events, replay, monkeypatch):
    events.old()
    build = behind.Behind.build

    def losing(which):
        def built(self, rest):
            build(self, rest)
            if self.table.is_keyed:
                self.warehouse.run(f"ALTER TABLE {self.beside} DELETE WHERE event_id = (SELECT min(event_id) FROM {self.beside} WHERE event_id {which} (SELECT event_id FROM {self.new})) SETTINGS mutations_sync = 2")
        return built

    for which, says in (("IN", "recomputed outside ClickHouse"), ("NOT IN", "keys of staging.* that stay")):
        monkeypatch.setattr(behind.Behind, "build", losing(which))
        with pytest.raises(ContractViolation, match=says):
            replay()
    monkeypatch.undo()
    assert replay().changes == CHANGED


@pytest.mark.parametrize("slow", [1, pytest.param(TRIES + 1, marks=pytest.mark.long)])
def test_a_slow_insert_puts_the_exchange_off_and_gives_it_up_only_after_some_tries(events, replay, monkeypatch, slow):
    class Busy(Warehouse):
        tries = 0

        def together(self, statements):
            Busy.tries += 1
            if Busy.tries > slow:
                return super().together(statements)
            inserting = threading.Thread(target=self.run, args=("INSERT INTO FUNCTION null('a UInt8') SELECT sleepEachRow(0.5) FROM numbers(2) SETTINGS max_block_size = 1",))
            events.produce(events.event(rating=0.2), events.event())
            events.world.ingest()
            inserting.start()
            try:
                assert wait_until(lambda: events.text("SELECT count() FROM system.processes WHERE query_kind = 'Insert'") == "1")
                return super().together(statements)
            finally:
                inserting.join()

    monkeypatch.setattr("weir.transform.warehouse.HOLD_S", 0.1)
    monkeypatch.setattr("weir.replay.run.PAUSE_S", 0.0)
    monkeypatch.setattr("weir.replay.run.EXCHANGES", TRIES)
    events.old()
    if slow > TRIES:
        with pytest.raises(Transient, match=f"nothing was exchanged, {TRIES} times.*have not ended in 0.1 s.*the live tables serve on"):
            replay(warehouse=Busy)
        slow = 0  # and the next finds none
    assert replay(warehouse=Busy if slow else Warehouse).changes == CHANGED
    assert Busy.tries == (slow + 1 if slow else TRIES)
    assert events.verdict() == ("yes", {})


@pytest.mark.long
def test_a_row_that_comes_below_what_was_copied_ends_it_before_the_exchange(events, replay):
    class Odd(Warehouse):
        def together(self, statements):
            self.run(f"INSERT INTO {LIVE} ({COLUMNS}) SELECT {COLUMNS.replace('offset', '1 AS offset')} FROM {LIVE} WHERE partition = 0 ORDER BY offset DESC LIMIT 1")
            return super().together(statements)

    events.old()
    with pytest.raises(ContractViolation, match="rows came where none were expected"):
        replay(warehouse=Odd)
    assert replay().changes == CHANGED + 1  # the odd one goes too
    assert events.verdict() == ("yes", {})


def test_a_replay_that_cannot_begin_says_what_to_do(events, replay, monkeypatch):
    class Foreign(Warehouse):
        def holds(self):
            return False

    with pytest.raises(ContractViolation, match="is not Weir's gateway"):
        replay(warehouse=Foreign)
    with pytest.raises(ContractViolation, match="no record that has landed is in the range"):
        replay(("800000",))
    monkeypatch.setattr(planning, "SPARE", 1e9)
    with pytest.raises(DiskFull, match="make room there, or take a smaller range"):
        replay()
    monkeypatch.undo()
    events.text("CREATE TABLE staging.shadow__int_made (a Int64) ENGINE = ReplacingMergeTree ORDER BY a COMMENT 'verified by a deploy, to be exchanged'")
    try:
        with pytest.raises(ContractViolation, match=r"the exchange of int_made was begun.*\./weir deploy int_made ends it"):
            Planner(Warehouse(events.world.server.url), Reader(events.world.bootstrap, "g"), ranges.asked(["0"], [], "", "")).plan()
    finally:
        events.text("DROP TABLE staging.shadow__int_made SYNC")


def test_a_topic_that_was_made_anew_and_has_grown_past_the_commit_is_refused_and_nothing_is_exchanged(events, replay, monkeypatch):
    landed, read = f"SELECT count(), sum(cityHash64(*)) FROM {LIVE}", decoded.chunks

    def anew(*asked):
        for first, after, records in read(*asked):
            yield first, after, [Record(r.topic, r.partition, r.offset, r.timestamp_ms + 1000, r.key, r.value, r.traceparent) if r.offset in {7, 9} else r for r in records]

    before = events.text(landed)
    monkeypatch.setattr(decoded, "chunks", anew)
    with pytest.raises(ContractViolation, match=r"4 records that landed have another time than Kafka has at their offsets, from user-events/0/7 on: the topic was made anew"):
        replay()
    assert events.text(landed) == before
    monkeypatch.undo()
    assert replay().changes == 0


def test_a_dry_run_says_what_would_be_replaced_and_changes_nothing(events):
    world = events.world
    reader, warehouse = Reader(world.bootstrap, names.ingest_group(LIVE)), Warehouse(world.server.url)
    try:
        plan = Planner(warehouse, reader, ranges.asked(["0:5"], ["0:25"], "", "")).plan()
    finally:
        reader.close()
        warehouse.close()
    assert (plan.rows, list(plan.spans)) == ({0: 20}, [0])
    assert plan.copied == int(events.text(f"SELECT count() FROM {LIVE}")) - 20
    assert 0 < plan.disk_bytes < plan.free_bytes
    assert plan.seconds > 0
    assert set(plan.tables) == {LIVE, names.QUARANTINE, names.LEDGER, USER, ITEM, ACTIVE}
    assert events.text("SELECT name FROM system.tables WHERE startsWith(name, 'shadow__')") == ""


def test_an_insert_beside_that_is_refused_for_a_moment_is_tried_again(events, replay, monkeypatch):
    class Busy(ClickHouse):
        tries = 0

        def insert(self, *given):
            Busy.tries += 1
            if Busy.tries % 2:
                raise Unavailable("busy")
            super().insert(*given)

    monkeypatch.setattr(decoded, "PAUSE_S", 0.0)
    assert replay(client=Busy).changes == 0
    assert Busy.tries >= 4


PARTS = "system.parts WHERE (database, table) IN (('landing', 'user_events'), ('landing', 'ingest_ledger'), ('staging', 'int_user_events'))"


@pytest.mark.parametrize(("left", "user"), [("all", 7001), ("the empty part", 7002), pytest.param("nothing", 7003, marks=pytest.mark.long)])  # with none of them left the engine has nothing to remove
def test_a_batch_that_is_repeated_after_the_exchange_counts_once_also_after_the_gateway_was_killed(events, replay, left, user):
    """`left`: of the parts that were replaced, after the engine's cleaner began or ended. It takes the empty one last, by which the exchange covers them all."""
    world, token = events.world, f"a batch of {user}"
    records = [Record(names.TOPIC_USER_EVENTS, 0, 900_000 + 10 * user + n, int(time.time() * 1000), None, json.dumps(events.event(user_id=user)).encode(), "") for n in range(5)]
    table = decode.user_events(records, token)

    def insert():
        client = ClickHouse(world.server.url)
        client.insert(LIVE, list(table.column_names), decode.arrow_stream(table), token, f"open-{time.monotonic()}")
        client.close()

    def counts():
        return [events.text(f"SELECT count() FROM {t} WHERE {w}") for t, w in ((LIVE, f"batch = '{token}'"), (names.LEDGER, f"batch = '{token}'"), (USER, f"user_id = {user}"))]

    events.old()
    insert()
    assert replay().tables
    insert()
    assert counts() == ["5", "1", "5"]
    covers = {Path(path) for path in events.text(f"SELECT path FROM {PARTS} AND NOT active AND rows = 0").split()}
    replaced = {Path(path) for path in events.text(f"SELECT path FROM {PARTS} AND NOT active").split()} - covers
    assert len({path.parent for path in covers}) == 3
    assert {(path / "count.txt").read_text() for path in covers} == {"0"}
    world.server.kill()
    for path in {"all": set(), "the empty part": replaced, "nothing": replaced | covers}[left]:
        shutil.rmtree(path, ignore_errors=True)
    world.server.start()
    assert wait_until(lambda: events.text(f"SELECT count() FROM {PARTS} AND active AND rows = 0") == "0", 40)  # the engine would remove them a moment after its start, and the tokens
    insert()
    assert counts() == ["5", "1", "5"]

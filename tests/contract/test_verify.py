"""`verify events` over the real ingest lane, the embedded ClickHouse and librdkafka's mock broker: what is planted is told, where it is, and nothing else."""
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from tests.contract.event_world import ACTIVE, ITEM, USER, World, faults
from tests.contract.gateway_server import wait_until

from weir.contracts import names
from weir.errors import ContractViolation, Unavailable
from weir.ingest.decode import DECODERS
from weir.ingest.verify import run as verify_run
from weir.ingest.verify.run import Verification, verify
from weir.ingest.worker import LaneThread, real, routes
from weir.simulation import load
from weir.telemetry import setup
from weir.topics.reader import Reader


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = World(tmp_path_factory.mktemp("verify"))
    yield made
    made.close()


def test_what_landed_once_is_verified_to_the_last_record(world):
    outcome = world.verify()
    found = outcome.document()
    assert faults(outcome) == set()
    assert found["verdict"] == "yes", found
    total = found["total"]
    assert (total["landed"], total["quarantined"], total["deduplicated"]) == (world.produced - world.drawn.bad, world.drawn.bad, world.drawn.repeated)
    assert world.drawn.bad > 10 < world.drawn.repeated
    assert {v["table"]: v["verdict"] for v in found["views"]} == dict.fromkeys((USER, ITEM, ACTIVE, names.QUARANTINE, names.LEDGER), "yes")
    assert all(v["judged"] > 10 or v["table"] == names.LEDGER for v in found["views"])
    assert list(world.scratch.iterdir()) == []


@pytest.fixture
def unmerged(world):
    """No merge ends between two looks, of which one would count the superseded rows and the other not."""
    world.change("SYSTEM STOP MERGES")
    yield
    world.change("SYSTEM START MERGES")


@pytest.mark.usefixtures("unmerged")
def test_small_chunks_and_many_buckets_tell_the_same(world, monkeypatch):
    whole = world.verify().document()
    monkeypatch.setattr(verify_run, "CHUNK_ROWS", 300)
    monkeypatch.setattr(verify_run.spill, "BUCKET_ROWS", 200)
    told = []
    parts = verify(world.bootstrap, world.server.url, world.scratch, told.append).document()
    assert {**parts, "seconds": 0} == {**whole, "seconds": 0}
    assert 0.9 < told[-1].done / told[-1].total < 1.1  # a set counts as its members


def planted(world, sql):
    before = faults(world.verify())
    world.change(sql)
    after = world.verify()
    assert after.verdict() == "no"
    return faults(after) - before


def test_a_planted_loss_is_told_where_it_is(world):
    offset, _ = world.row(nth=3)
    found = planted(world, f"ALTER TABLE {names.LANDING_EVENTS} DELETE WHERE partition = 0 AND offset = {offset}")
    assert {f for f in found if f[0] == names.LANDING_EVENTS} == {(names.LANDING_EVENTS, 0, "missing", int(offset), int(offset))}


def test_a_planted_duplicate_is_told_where_it_is(world):
    offset, _ = world.row(nth=10)
    found = planted(world, f"INSERT INTO {names.LANDING_EVENTS} SELECT * FROM {names.LANDING_EVENTS} WHERE partition = 0 AND offset = {offset} SETTINGS insert_deduplicate = 0")
    assert {f for f in found if f[0] == names.LANDING_EVENTS} == {(names.LANDING_EVENTS, 0, "doubled", int(offset), int(offset))}


def test_a_planted_reordering_is_told_where_it_is(world):
    a, _ = world.row(partition=1, nth=20)
    b, _ = world.row(partition=1, nth=24)
    columns = ("event_id", "user_id", "item_id", "event_type", "rating", "session_id", "country", "occurred_at", "produced_at")
    changes = []
    for column in columns[:-1]:
        of = {o: f"(SELECT {column} FROM {names.LANDING_EVENTS} WHERE partition = 1 AND offset = {o} LIMIT 1)" for o in (a, b)}
        changes.append(f"{column} = if(offset = {a}, {of[b]}, {of[a]})")
    found = planted(world, f"ALTER TABLE {names.LANDING_EVENTS} UPDATE {', '.join(changes)} WHERE partition = 1 AND offset IN ({a}, {b})")
    assert {f for f in found if f[0] == names.LANDING_EVENTS} == {(names.LANDING_EVENTS, 1, "different", int(o), int(o)) for o in (a, b)}


@pytest.mark.parametrize(("table", "nth"), [(USER, 40), (ITEM, 41)])
def test_a_row_lost_behind_the_landing_table_is_told_by_its_record(world, table, nth):
    offset, event_id = world.row(nth=nth, where=f"reject_reason = '' AND event_id IN (SELECT event_id FROM {ITEM})")
    assert planted(world, f"ALTER TABLE {table} DELETE WHERE event_id = '{event_id}'") == {(table, 0, "missing", int(offset), int(offset))}


@pytest.mark.parametrize(("table", "nth"), [(USER, 50), (ITEM, 51)])
def test_a_row_fed_twice_behind_the_landing_table_is_told_though_reading_merges_it_away(world, table, nth):
    offset, event_id = world.row(nth=nth, where=f"reject_reason = '' AND event_id IN (SELECT event_id FROM {ITEM})")
    found = planted(world, f"INSERT INTO {table} SELECT * FROM {table} WHERE event_id = '{event_id}' SETTINGS insert_deduplicate = 0")
    assert found == {(table, 0, "doubled", int(offset), int(offset))}


def test_a_user_who_is_lost_from_a_set_or_made_up_in_one_is_told(world):
    _, event_id = world.row(nth=45, where="reject_reason = '' AND occurred_at > now() - 3000")
    user, country = world.client.execute(f"SELECT user_id, country FROM {names.LANDING_EVENTS} WHERE event_id = '{event_id}' LIMIT 1").split()
    landed = {int(o) for o in world.client.execute(f"SELECT offset FROM {names.LANDING_EVENTS} WHERE user_id = {user} AND country = '{country}'").split()}
    world.change("CREATE TABLE staging.kept ENGINE = MergeTree ORDER BY tuple() AS SELECT * FROM staging.int_active_users")
    before = faults(world.verify())
    world.change("TRUNCATE TABLE staging.int_active_users")
    lacking = f"SELECT day, country, arrayJoin(bitmapToArray(users)) AS u FROM staging.kept WHERE NOT (country = '{country}' AND u = {user})"
    world.change(f"INSERT INTO staging.int_active_users SELECT day, country, groupBitmapState(u) FROM ({lacking}) GROUP BY day, country")
    told = faults(world.verify()) - before
    assert {f[:3] for f in told} == {(ACTIVE, 0, "missing")} or {f[:3] for f in told} == {(ACTIVE, 1, "missing")}
    assert {o for f in told for o in range(f[3], f[4] + 1)} <= landed
    world.change("INSERT INTO staging.int_active_users SELECT * FROM staging.kept")
    assert faults(world.verify()) == before  # however often a member is put in
    for day in ("today()", "today() - 200"):
        world.change(f"INSERT INTO staging.int_active_users SELECT {day}, 'SE', groupBitmapState(toUInt64(987654))")
    assert faults(world.verify()) - before == {(ACTIVE, "unknown", 1)}  # of long ago it may be a record that the TTL took
    world.change("TRUNCATE TABLE staging.int_active_users")
    world.change("INSERT INTO staging.int_active_users SELECT * FROM staging.kept")
    world.change("DROP TABLE staging.kept SYNC")


def test_what_the_landing_tables_ttl_took_is_no_fault(world):
    before = faults(world.verify())
    world.change(f"INSERT INTO {USER} SELECT * REPLACE (now64(3) - INTERVAL 40 DAY AS produced_at, 'outlived' AS event_id) FROM {USER} LIMIT 1")
    assert faults(world.verify()) == before


def test_a_row_changed_behind_the_landing_table_is_told(world):
    offset, event_id = world.row(nth=60)
    found = planted(world, f"ALTER TABLE {USER} UPDATE session_id = 'another' WHERE event_id = '{event_id}'")
    assert found == {(USER, 0, "different", int(offset), int(offset))}


def test_a_row_that_never_landed_is_unknown_wherever_it_stands(world):
    sql = f"INSERT INTO {USER} SELECT * REPLACE ('made-up' AS event_id) FROM {USER} LIMIT 1"
    before = {v.name: v.tally.count("unknown") for v in world.verify().views}
    world.change(sql)
    assert {v.name: v.tally.count("unknown") - before[v.name] for v in world.verify().views} == {USER: 1, ITEM: 0, ACTIVE: 0, names.QUARANTINE: 0, names.LEDGER: 0}


def test_a_quarantine_row_and_a_ledger_row_that_are_lost_are_told(world):
    offset, _ = world.row(partition=1, nth=2, where="reject_reason != ''")
    assert planted(world, f"ALTER TABLE {names.QUARANTINE} DELETE WHERE partition = 1 AND offset = {offset}") == {(names.QUARANTINE, 1, "missing", int(offset), int(offset))}
    first, last = world.client.execute(f"SELECT first_offset, last_offset FROM {names.LEDGER} WHERE partition = 1 ORDER BY first_offset LIMIT 1").split()
    assert planted(world, f"ALTER TABLE {names.LEDGER} DELETE WHERE partition = 1 AND first_offset = {first}") == {(names.LEDGER, 1, "missing", int(first), int(last))}


def test_rows_past_the_topics_end_and_of_partitions_it_does_not_have_are_unknown(world):
    for partition, offset in ((1, 900_000), (77, 5)):
        world.change(f"INSERT INTO {names.LANDING_EVENTS} SELECT * REPLACE ({partition} AS partition, {offset} AS offset) FROM {names.LANDING_EVENTS} LIMIT 1")
    try:
        found = {f for f in faults(world.verify()) if f[2] == "unknown" and f[0] == names.LANDING_EVENTS}
        assert found == {(names.LANDING_EVENTS, 1, "unknown", 900_000, 900_000), (names.LANDING_EVENTS, 77, "unknown", 5, 5)}
    finally:
        world.change(f"ALTER TABLE {names.LANDING_EVENTS} DELETE WHERE offset = 900000 OR partition = 77")


class Younger(Reader):
    """The topic after retention took what is below `low` of partition 0; `late`: it takes it only once reading has begun."""

    def __init__(self, *arguments, low, late):
        super().__init__(*arguments)
        self.low, self.late = low, late

    def bounds(self, topic, partition):
        low, end = super().bounds(topic, partition)
        return (low if partition or self.late else self.low), end

    def read(self, ranges):
        (_, partition), (first, _) = next(iter(ranges.items()))
        if partition == 0 and first < self.low:
            self.late = False
            raise ContractViolation("no longer in Kafka")
        return super().read(ranges)


@pytest.mark.parametrize("late", [False, True])
def test_what_retention_took_is_judged_by_the_ledger(world, late):
    offset = int(world.row(nth=570 + late)[0])
    first, last = map(int, world.client.execute(
        f"SELECT first_offset, last_offset FROM {names.LEDGER} WHERE partition = 0 AND first_offset <= {offset} AND last_offset >= {offset} LIMIT 1").split())

    def run():
        reader = Younger(world.bootstrap, names.ingest_group(names.LANDING_EVENTS), low=last + 1, late=late)
        try:
            return Verification(world.client, reader, world.scratch).run()
        finally:
            reader.close()

    before = run()
    assert first > 0
    assert before.landing.tally.count("expired", 0) >= last - 5  # some were taken away by the tests above
    assert before.bounds[0].low == last + 1
    world.change(f"ALTER TABLE {names.LANDING_EVENTS} DELETE WHERE partition = 0 AND offset = {offset}")
    after = run()
    assert after.landing.tally.count("missing", 0) - before.landing.tally.count("missing", 0) == 1
    world.change("CREATE TABLE IF NOT EXISTS landing.kept ENGINE = MergeTree ORDER BY tuple() AS SELECT * FROM landing.ingest_ledger")
    world.change(f"ALTER TABLE {names.LEDGER} DELETE WHERE partition = 0 AND first_offset = {first}")
    assert run().landing.tally.count("unknown", 0) >= last - first  # no batch tells of them, but perhaps that of the planted duplicate
    world.change(f"INSERT INTO {names.LEDGER} SELECT * FROM landing.kept WHERE partition = 0 AND first_offset = {first}")


def test_a_table_behind_without_a_recompute_and_one_with_another_column_are_unknown(world):
    world.change("CREATE TABLE staging.sums (user_id Int64, n UInt64) ENGINE = SummingMergeTree ORDER BY user_id")
    world.change(f"CREATE MATERIALIZED VIEW staging.sums_mv TO staging.sums AS SELECT user_id, count() AS n FROM {names.LANDING_EVENTS} GROUP BY user_id")
    world.change(f"ALTER TABLE {ITEM} ADD COLUMN more Int64")
    try:
        found = {v.name: (v.verdict(), v.reason) for v in world.verify().views}
        assert found["staging.sums"][0] == "unknown"
        assert "recompute" in found["staging.sums"][1]
        assert found[ITEM] == ("unknown", "its columns are not those of the recompute: more")
    finally:
        world.change("DROP VIEW staging.sums_mv SYNC")
        world.change("DROP TABLE staging.sums SYNC")
        world.change(f"ALTER TABLE {ITEM} DROP COLUMN more")


def test_a_broker_that_goes_midway_leaves_the_rest_unknown(world):
    class Gone(Reader):
        def read(self, ranges):
            if next(iter(ranges))[1] == 1:
                raise Unavailable("gone")
            return super().read(ranges)

    reader = Gone(world.bootstrap, names.ingest_group(names.LANDING_EVENTS))
    try:
        outcome = Verification(world.client, reader, world.scratch).run()
    finally:
        reader.close()
    at = outcome.bounds[1]
    assert outcome.landing.tally.document(1)["ranges"]["unknown"] == [[at.low, at.committed - 1]]
    assert "gone" in outcome.landing.reason
    assert all(v.tally.count("unknown") == 0 and "landing" in v.reason for v in outcome.views)


def test_live_ingest_beside_a_verification_is_no_fault(world):
    before = faults(world.verify())
    ended = threading.Event()

    def more():
        rng = np.random.default_rng(77)
        for _ in range(80):  # 8,000 events: the mock broker keeps 5 MB a partition
            world.produce(load.chunk(rng, load.Shape(users=50, items=40), 100, 0, int(time.time() * 1000)).records)
            if ended.wait(0.05):
                return

    producing = threading.Thread(target=more)
    decoder, topics = routes()[names.LANDING_EVENTS]
    lane = LaneThread(names.LANDING_EVENTS, DECODERS[decoder], topics, real(world.bootstrap, world.server.url), setup("test", otlp_url=""))
    lane.start()
    producing.start()
    try:
        assert wait_until(lambda: lane.stats.batches > 3)
        found = [faults(world.verify()) for _ in range(3)]
    finally:
        ended.set()
        producing.join()
        lane.ended.set()
        lane.join(20)
    assert [each - before for each in found] == [set()] * 3


def test_nothing_judged_is_unknown(world):
    reader = Reader(world.bootstrap, "a-group-that-never-committed")
    try:
        assert Verification(world.client, reader, Path(world.scratch)).run().verdict() != "yes"
    finally:
        reader.close()

"""What ingest believes of ClickHouse, asked of the embedded engine behind the gateway; the simulation's engine has to agree."""
import os
import random
import re
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pyarrow as pa
import pytest

from weir.contracts import names
from weir.errors import ContractViolation, Terminal
from weir.ingest import guard, schema
from weir.ingest.clickhouse import ClickHouse
from weir.ingest.decode import arrow_stream, user_events
from weir.ingest.intent import Range, of
from weir.ingest.lane import landed_rows
from weir.ingest.record import Record
from weir.ingest.simulation.clickhouse import Engine
from weir.ingest.simulation.world import Script, World

ROOT = Path(__file__).resolve().parents[2]
LANDING = (names.LANDING_EVENTS, names.LANDING_CDC, names.LANDING_CATALOGUE)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "weir.gateway", "--path", str(tmp_path_factory.mktemp("engine")), "--port", str(port)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, cwd=ROOT,
    )
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 40
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/ping").text == "Ok.\n":
                break
        except httpx.HTTPError:
            time.sleep(0.1)
    schema.apply(url)
    client = ClickHouse(url)
    yield client
    client.close()
    process.terminate()
    assert process.wait(20) == 0


@pytest.mark.parametrize("table", LANDING)
def test_the_ddl_holds_what_the_claim_rests_on(server, table):
    assert guard.check(server, [table, names.QUARANTINE, names.LEDGER]) is None


@pytest.mark.parametrize("table", [*LANDING, names.QUARANTINE, names.LEDGER])
@pytest.mark.parametrize("setting", ["non_replicated_deduplication_window", *guard.DURABLE])
def test_a_worker_refuses_a_server_where_one_setting_of_a_table_is_off(server, table, setting):
    server.execute(f"ALTER TABLE {table} MODIFY SETTING {setting} = 0")
    try:
        with pytest.raises(ContractViolation, match=rf"{table}.*{setting}"):
            guard.check(server, [table if table in LANDING else LANDING[0]])
    finally:
        server.execute(f"ALTER TABLE {table} MODIFY SETTING {setting} = {10000 if 'window' in setting else 1}")


def test_a_worker_refuses_a_view_added_without_a_window_even_behind_another(server):
    server.execute("CREATE DATABASE IF NOT EXISTS added ENGINE = Atomic")
    server.execute("CREATE TABLE added.a (user_id Int64) ENGINE = MergeTree ORDER BY user_id SETTINGS non_replicated_deduplication_window = 10000")
    server.execute("CREATE MATERIALIZED VIEW added.v TO added.a AS SELECT user_id FROM landing.user_events")
    server.execute("CREATE MATERIALIZED VIEW added.computed REFRESH EVERY 1 HOUR ENGINE = MergeTree ORDER BY user_id AS SELECT user_id FROM landing.user_events")
    try:
        assert guard.check(server, [names.LANDING_EVENTS]) is None
        server.execute("CREATE MATERIALIZED VIEW added.w ENGINE = MergeTree ORDER BY user_id AS WITH 1 AS one SELECT user_id FROM added.a AS q")
        with pytest.raises(ContractViolation, match=r"which added\.w fills"):
            guard.check(server, [names.LANDING_EVENTS])
        assert guard.check(server, [names.LANDING_CDC]) is None
    finally:
        server.execute("DROP DATABASE added SYNC")


def block(batch, rows):
    return arrow_stream(pa.table({
        "partition": pa.array([p for p, _, _ in rows], pa.uint16()), "offset": pa.array([o for _, o, _ in rows], pa.uint64()),
        "batch": pa.array([batch] * len(rows)), "reject_reason": pa.array([r for _, _, r in rows]),
    }))


@pytest.mark.parametrize("seed", range(6))
def test_the_simulations_engine_counts_as_the_server_does(server, seed):
    rng = random.Random(seed)  # noqa: S311 - repeatable on purpose
    window, view_window = rng.choice([(1000, 1000), (2, 2), (1000, 0), (0, 0), (3, 1)])
    server.execute("CREATE DATABASE IF NOT EXISTS sim ENGINE = Atomic")
    columns = "(partition UInt16, offset UInt64, batch String, reject_reason String) ENGINE = MergeTree ORDER BY offset SETTINGS non_replicated_deduplication_window ="
    for name, blocks in (("landing", window), ("ledger", window), ("quarantine", window), ("view", view_window)):
        server.execute(f"CREATE TABLE sim.{name} {columns} {blocks}")
    for name, condition in (("ledger", "1"), ("quarantine", "reject_reason != ''"), ("view", "reject_reason = ''")):
        server.execute(f"CREATE MATERIALIZED VIEW sim.to_{name} TO sim.{name} AS SELECT * FROM sim.landing WHERE {condition}")
    engine = Engine(World(random.Random(0), Script({})), window=window, view_window=view_window)  # noqa: S311 - draws nothing
    batches = {f"b{n}": [(0, 10 * n + i, "malformed" if rng.random() < 0.3 else "") for i in range(rng.randint(1, 4))] for n in range(4)}
    try:
        for step in range(14):
            batch = rng.choice(sorted(batches))
            server.insert("sim.landing", ["partition", "offset", "batch", "reject_reason"], block(batch, batches[batch]), batch, f"q{seed}-{step}")
            engine.apply(batch, batch, batches[batch])
            for target in engine.targets:
                found = dict(tuple(map(int, line.split("\t"))) for line in server.execute(f"SELECT offset, count() FROM sim.{target.name} GROUP BY offset").splitlines())
                assert found == {o: n for (_, o), n in target.rows.items()}, (step, target.name, window, view_window)
    finally:
        server.execute("DROP DATABASE sim SYNC")


def test_a_view_that_throws_is_an_exception_and_the_same_batch_heals(server):
    server.execute("CREATE DATABASE IF NOT EXISTS sim ENGINE = Atomic")
    columns = "(partition UInt16, offset UInt64, batch String, reject_reason String) ENGINE = MergeTree ORDER BY offset SETTINGS non_replicated_deduplication_window = 100"
    server.execute(f"CREATE TABLE sim.landing {columns}")
    server.execute(f"CREATE TABLE sim.view {columns}")
    server.execute("CREATE TABLE sim.gate (a Int8) ENGINE = MergeTree ORDER BY a")
    server.execute("CREATE MATERIALIZED VIEW sim.to_view TO sim.view AS SELECT * FROM sim.landing WHERE throwIf(batch = 'b' AND (SELECT count() FROM sim.gate) = 0) = 0")
    data = block("b", [(0, 1, ""), (0, 2, "")])
    try:
        with pytest.raises(Terminal):
            server.insert("sim.landing", ["partition", "offset", "batch", "reject_reason"], data, "t", "q1")
        server.execute("INSERT INTO sim.gate VALUES (1)")
        for n in range(3):
            server.insert("sim.landing", ["partition", "offset", "batch", "reject_reason"], data, "t", f"q2{n}")
        assert [server.execute(f"SELECT count(), uniqExact(offset) FROM sim.{t}").strip() for t in ("landing", "view")] == ["2\t2"] * 2
    finally:
        server.execute("DROP DATABASE sim SYNC")


def test_too_many_partitions_of_one_block_is_not_worth_a_repeat(server):
    server.execute("CREATE DATABASE IF NOT EXISTS sim ENGINE = Atomic")
    server.execute("CREATE TABLE sim.t (partition UInt16, offset UInt64, batch String, reject_reason String) ENGINE = MergeTree PARTITION BY offset ORDER BY offset")
    try:
        with pytest.raises(Terminal, match="single INSERT block"):
            server.insert("sim.t", ["partition", "offset", "batch", "reject_reason"], block("b", [(0, o, "") for o in range(101)]), "t", "q")
    finally:
        server.execute("DROP DATABASE sim SYNC")


EACH = 9000  # more than a granule (8,192 rows) in each partition
NOW_MS = int(time.time() * 1000)  # rows past their TTL would go with the first merge


def records_of(partition):
    return [Record(names.TOPIC_USER_EVENTS, partition, n, NOW_MS, None, b"", "") for n in range(EACH)]


def landed(server, partitions):
    """Land one batch a partition; return the batches' intents."""
    intents = []
    for partition in range(partitions):
        records = records_of(partition)
        intents.append(of(records))
        table = user_events(records, intents[-1].token)
        server.insert(names.LANDING_EVENTS, list(table.column_names), arrow_stream(table), intents[-1].token, f"landed-{partition}")
    return intents


def counted(server, intent):
    sql, topics = landed_rows(names.LANDING_EVENTS, intent)
    return int(server.execute(sql, batch=intent.token, **topics)), server.execute(f"EXPLAIN indexes = 1 {sql}", batch=intent.token, **topics)


def test_the_rows_of_a_batch_are_counted_along_the_primary_key(server):
    intents = landed(server, 4)
    server.execute(f"OPTIMIZE TABLE {names.LANDING_EVENTS} FINAL")
    count, plan = counted(server, intents[1])
    assert count == EACH
    assert "PrimaryKey" in plan
    granules = re.findall(r"Granules: (\d+)/(\d+)", plan)
    assert granules
    read, all_of_them = map(int, granules[-1])
    assert (read <= 2, all_of_them >= 4) == (True, True), plan
    r = intents[1].ranges[0]
    part = replace(intents[1], ranges=(Range(r.topic, r.partition, 5, 14, 10), Range(r.topic, 2, 0, EACH, EACH)))
    sql, topics = landed_rows(names.LANDING_EVENTS, part)
    assert int(server.execute(sql, batch=intents[1].token, **topics)) == 10
    assert int(server.execute(sql, batch="another", **topics)) == 0


def test_a_window_set_to_nothing_and_back_makes_a_lost_batch_insertable_again(server):
    """What docs/decisions/0001 says under 'after an unclean stop': the landing table forgets, and the tables behind it do not."""
    intents = landed(server, 4)
    server.execute(f"ALTER TABLE {names.LANDING_EVENTS} DELETE WHERE batch = '{intents[1].token}' SETTINGS mutations_sync = 1")
    landed(server, 4)
    assert counted(server, intents[1])[0] == 0, "the token outlived the rows"
    for blocks in (0, 10_000):
        server.execute(f"ALTER TABLE {names.LANDING_EVENTS} MODIFY SETTING non_replicated_deduplication_window = {blocks}")
    for _ in range(2):
        table = user_events(records_of(1), intents[1].token)
        server.insert(names.LANDING_EVENTS, list(table.column_names), arrow_stream(table), intents[1].token, "again")
    assert counted(server, intents[1])[0] == EACH
    assert int(server.execute(f"SELECT sum(rows) FROM {names.LEDGER}")) == 4 * EACH, "the ledger kept its own tokens"

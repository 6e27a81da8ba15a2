"""A keyed model is exchanged for a changed one: every row that lands meanwhile is in the new table, a deploy that fails or is killed at any step loses nothing. dbt's part is played by SQL here."""
import contextlib
import threading

import pytest
from tests.contract.gateway_server import wait_until

from weir.contracts import names
from weir.errors import ContractViolation, Terminal, UnknownName
from weir.ingest import schema
from weir.transform import build, progress, proof, shadow
from weir.transform.deploy import Deploy
from weir.transform.warehouse import LOG_COMMENT, Warehouse

ENGINE = "ENGINE = ReplacingMergeTree ORDER BY (user_id, event_id) SETTINGS non_replicated_deduplication_window = 10000"
OLD = "SELECT user_id, event_id, item_id, rating FROM landing.user_events WHERE reject_reason = ''"
NEW = "SELECT user_id, event_id, item_id * 2 AS item_id, rating, concat('u', toString(user_id)) AS who FROM landing.user_events WHERE reject_reason = ''"


@pytest.fixture(scope="module")
def url(server):
    schema.apply(server.url)
    server.text(f"CREATE DATABASE IF NOT EXISTS {names.DB_STAGING} ENGINE = Atomic")
    server.text(f"CREATE DATABASE IF NOT EXISTS {names.DB_MARTS} ENGINE = Atomic")
    return server.url


@pytest.fixture
def warehouse(url):
    found = Warehouse(url)
    yield found
    found.close()


@pytest.fixture
def land(server, url):
    """Land events and return their ids; they are new ones each time."""
    server.text("TRUNCATE TABLE landing.user_events")
    at = iter(range(1_000_000))

    def landing(count, **more):
        made = [next(at) for _ in range(count)]
        rows = ", ".join(f"('{names.TOPIC_USER_EVENTS}', {n % 3}, {n}, 'b', now64(3), 'e{n:06}', {n % 50}, {n % 7}, 'view', now64(3), {'NULL' if n % 2 else n % 5})" for n in made)
        server.text(f"INSERT INTO landing.user_events (topic, partition, offset, batch, produced_at, event_id, user_id, item_id, event_type, occurred_at, rating) VALUES {rows}", **more)
        return made

    return landing


@pytest.fixture
def model(server, url, land):
    """A standing model with a view of readers on it; what is left of it goes."""
    name = "int_made"

    def clear():
        for table in server.text("SELECT concat(database, '.', name) FROM system.tables WHERE database IN ('staging', 'marts') ORDER BY endsWith(engine, 'View') DESC").split():
            server.text(f"DROP TABLE {table} SYNC")

    clear()
    server.text(f"CREATE TABLE staging.{name} (user_id Int64, event_id String, item_id Int64, rating Nullable(Float32)) {ENGINE}")
    server.text(f"CREATE MATERIALIZED VIEW staging.{name}_mv TO staging.{name} AS {OLD}")
    server.text(f"CREATE VIEW marts.readers AS SELECT user_id, count() AS events FROM staging.{name} FINAL GROUP BY user_id")
    yield name
    clear()


def dbt(server, query=NEW, columns="user_id Int64, event_id String, item_id Int64, rating Nullable(Float32), who String", engine=ENGINE, spoil=""):
    """Return what builds as dbt does: the view first, then, once no insert that began without it runs (catch_up.sql), what had landed; under the live name only what is missing."""
    def builds(_environment, _arguments, target="target", **_more):
        if target == "shadow":
            server.text(f"CREATE TABLE staging.shadow__int_made ({columns}) {engine}")
            server.text(f"CREATE MATERIALIZED VIEW staging.shadow__int_made_mv TO staging.shadow__int_made AS {query}")
            with contextlib.closing(Warehouse(server.url)) as house:
                proof.settle(house)
            server.text(f"INSERT INTO staging.shadow__int_made {query} {spoil and f'AND {spoil}'} SETTINGS insert_deduplicate = 0")
        else:
            server.text(f"INSERT INTO staging.int_made SELECT * FROM ({query}) WHERE event_id NOT IN (SELECT event_id FROM staging.int_made) SETTINGS insert_deduplicate = 0")
            server.text("ALTER TABLE staging.int_made MODIFY COMMENT 'caught up'")
    return builds


@pytest.fixture
def deploy(server, warehouse, model, monkeypatch):
    def deploying(house=warehouse, history="refuse", **how):
        monkeypatch.setattr(build, "build", dbt(server, **how))
        return Deploy(house, {}, model, history).run()
    return deploying


def beside(server):
    return server.text("SELECT name FROM system.tables WHERE startsWith(name, 'shadow__')")


def held(server, model="int_made"):
    return [int(e[1:]) for e in server.text(f"SELECT event_id FROM staging.{model} FINAL ORDER BY event_id").split()]


def test_nothing_is_missed_or_mixed_while_rows_land_and_readers_read(server, model, land, deploy):
    sent, seen, ended = land(100), [], threading.Event()

    def write():
        while not ended.is_set():
            sent.extend(land(3))

    def read():
        while not ended.is_set():
            seen.append(server.text("SELECT (SELECT sum(events) FROM marts.readers), (SELECT countIf(item_id % 2 = 1) FROM staging.int_made)").split())

    threads = [threading.Thread(target=target) for target in (write, read)]
    for thread in threads:
        thread.start()
    try:
        assert wait_until(lambda: len(seen) > 5)
        told = deploy()
        before, reads = len(sent), len(seen)
        assert wait_until(lambda: len(sent) > before + 10 and len(seen) > reads + 2)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert held(server) == sorted(sent)
    assert server.text("SELECT count() FROM staging.int_made") == f"{len(sent)}\n"  # without FINAL: none came twice
    assert server.text("SELECT count() FROM staging.int_made WHERE item_id % 2 = 1 OR who != concat('u', toString(user_id))") == "0\n"
    counts = [int(events) for events, _ in seen]
    assert counts[0] >= 100
    assert counts == sorted(counts)  # never empty, never behind
    assert told.held_ms is not None
    assert (told.changed, told.proof.missing, told.proof.different, told.proof.owed_hash) == (True, 0, 0, told.proof.there_hash)
    assert told.readers == ("marts.readers",)
    assert told.proof.keys >= 100
    assert set(told.proof.through["landing.user_events"]) == {f"{names.TOPIC_USER_EVENTS}[{p}]" for p in range(3)}
    assert beside(server) == ""


@pytest.mark.parametrize("step", range(5))
def test_killed_at_any_step_of_the_exchange_it_is_run_again_and_what_landed_meanwhile_is_there(server, url, model, land, deploy, step):
    """Both die: the gateway has done the first steps only, and whoever asked is gone."""
    class Killed(Warehouse):
        def together(self, statements):
            assert len(statements) == 4
            if step:
                super().together(statements[:step])
            raise KeyboardInterrupt

    sent = land(50)
    dying = Killed(url)
    with pytest.raises(KeyboardInterrupt):
        deploy(dying)
    dying.close()
    sent += land(7)
    assert set(held(server)) <= set(sent)
    assert len(held(server)) >= 50  # behind at worst, never empty
    told = deploy()
    assert told.ended_earlier
    assert held(server) == sent
    assert server.text("SELECT count() FROM staging.int_made WHERE item_id % 2 = 1") == "0\n"
    assert beside(server) == ""
    sent += land(2)
    assert held(server) == sent


@pytest.mark.parametrize("version", ["", "version"])
def test_what_landed_in_a_killed_exchange_is_brought_though_the_next_deploy_is_refused(server, url, model, land, deploy, version):
    class Killed(Warehouse):
        def together(self, statements):
            super().together(statements[:2])  # the new table has the name, and no view
            raise KeyboardInterrupt

    more = {"query": NEW.replace(" AS who", " AS who, offset AS version"), "engine": ENGINE.replace("MergeTree", f"MergeTree({version})"),
            "columns": "user_id Int64, event_id String, item_id Int64, rating Nullable(Float32), who String, version UInt64"}
    sent = land(30)
    dying = Killed(url)
    with pytest.raises(KeyboardInterrupt):
        deploy(dying, **more)
    dying.close()
    sent += land(4)
    assert len(held(server)) == 30
    with pytest.raises(ContractViolation, match="1 keys are missing"):
        deploy(**more, spoil="event_id != 'e000003'")
    assert held(server) == sent
    assert server.text("SELECT count() FROM staging.int_made WHERE item_id % 2 = 1") == "0\n"
    assert server.text("SELECT count() FROM staging.int_made") == "34\n"
    sent += land(2)
    assert (held(server), beside(server)) == (sent, "")


def test_what_a_ttl_takes_is_not_owed(server, model, land, deploy):
    how = {"query": "SELECT user_id, event_id, toDateTime(produced_at) AS at FROM landing.user_events WHERE 1", "columns": "user_id Int64, event_id String, at DateTime",
           "engine": "ENGINE = ReplacingMergeTree ORDER BY (user_id, event_id) TTL at + INTERVAL 2 DAY SETTINGS non_replicated_deduplication_window = 10000, ttl_only_drop_parts = 1"}
    land(10)
    server.text("INSERT INTO landing.user_events (topic, partition, offset, produced_at, event_id, user_id) "
                "SELECT 'user-events', 0, 1000 + number, now64(3) - INTERVAL 3 DAY, concat('o', toString(number)), 1 FROM numbers(5)")
    told = deploy(**how, history="drop")
    assert (told.proof.keys, told.proof.missing) == (10, 0)
    server.text("OPTIMIZE TABLE staging.int_made FINAL")
    assert deploy(**how, history="drop").proof.keys == 10
    with pytest.raises(ContractViolation, match="1 keys are missing"):
        deploy(**how, history="drop", spoil="event_id != 'e000003'")


def test_another_models_deploy_waits_for_the_exchange_that_was_begun(server, url, model, land, deploy, warehouse):
    server.text(f"CREATE TABLE staging.int_other (user_id Int64, event_id String) {ENGINE}")
    server.text("CREATE MATERIALIZED VIEW staging.int_other_mv TO staging.int_other AS SELECT user_id, event_id FROM landing.user_events")
    land(5)
    server.text(f"CREATE TABLE staging.shadow__int_made AS staging.int_made COMMENT '{shadow.VERIFIED}'")
    server.text("CREATE MATERIALIZED VIEW staging.shadow__int_made_mv TO staging.shadow__int_made AS SELECT user_id, event_id FROM landing.user_events")
    with pytest.raises(ContractViolation, match=r"int_made was begun and not ended.*\./weir deploy int_made"):
        Deploy(warehouse, {}, "int_other").run()


@pytest.mark.parametrize(("how", "says"), [
    ({"spoil": "event_id != 'e000003'"}, "1 keys are missing, 0 rows"),
    ({"query": NEW.replace("concat('u', toString(user_id))", "toString(generateUUIDv4())")}, "0 keys are missing, 20 rows"),
    ({"columns": "user_id Int64, event_id String, rating Nullable(Float32)", "query": "SELECT user_id, event_id, rating FROM landing.user_events WHERE 1",
      "engine": "ENGINE = MergeTree ORDER BY event_id"}, "no keyed table any more"),
    ({"columns": "event_id String, who String", "query": "SELECT event_id, 'w' AS who FROM landing.user_events WHERE 1", "engine": "ENGINE = ReplacingMergeTree ORDER BY event_id"},
     "marts.readers cannot read the new int_made"),
    ({"columns": "user_id String, event_id String", "query": "SELECT toString(user_id) AS user_id, event_id FROM landing.user_events WHERE 1"}, "would no longer give user_id Int64"),
])
def test_what_is_not_right_is_refused_and_the_old_one_serves_on(server, model, land, deploy, how, says):
    sent = land(20)
    with pytest.raises(ContractViolation, match=says):
        deploy(**how)
    assert beside(server) == ""
    sent += land(2)
    assert held(server) == sent
    assert server.text("SELECT sum(events) FROM marts.readers") == "22\n"


def test_a_build_that_fails_leaves_nothing_and_the_next_sweeps_what_a_killed_one_left(server, model, land, deploy):
    sent = land(5)
    with pytest.raises(AssertionError, match="Unknown table expression"):
        deploy(query="SELECT user_id, event_id, FROM WHERE")
    assert beside(server) == ""
    server.text(f"CREATE TABLE staging.shadow__int_made (a Int64) {ENGINE.replace('(user_id, event_id)', 'a')}")
    server.text("CREATE TABLE staging.shadow__int_made__missing (a Int64) ENGINE = MergeTree ORDER BY a")
    assert not deploy().ended_earlier
    assert (held(server), beside(server)) == (sent, "")


def test_rows_that_retention_took_from_landing_are_refused_copied_or_dropped_as_asked(server, model, land, deploy):
    gone = land(10)
    server.text("TRUNCATE TABLE landing.user_events")
    sent = land(5)
    plain = {"query": OLD.replace("item_id,", "item_id * 2 AS item_id,"), "columns": "user_id Int64, event_id String, item_id Int64, rating Nullable(Float32)"}
    with pytest.raises(ContractViolation, match=r"10 keys of staging\.int_made are not in the landing tables any more"):
        deploy(**plain)
    with pytest.raises(ContractViolation, match=r"the standing staging\.int_made has no who"):
        deploy(history="copy")
    assert (held(server), beside(server)) == (gone + sent, "")
    told = deploy(history="copy", **plain)
    assert (told.lone, told.history, held(server)) == (10, "copied", gone + sent)
    told = deploy(history="drop")
    assert (told.lone, told.history, held(server)) == (10, "dropped", sent)


def test_of_a_versioned_table_the_newest_row_is_owed_and_an_older_one_that_was_merged_away_is_not_missed(server, model, land, deploy):
    query = "SELECT user_id, event_id, offset AS version FROM landing.user_events WHERE 1"
    how = {"query": query, "columns": "user_id Int64, event_id String, version UInt64", "engine": "ENGINE = ReplacingMergeTree(version) ORDER BY user_id SETTINGS non_replicated_deduplication_window = 10000"}
    land(120)
    assert deploy(**how).proof.keys == 50
    server.text("OPTIMIZE TABLE staging.int_made FINAL")
    assert server.text("SELECT count() FROM staging.int_made") == "50\n"
    land(60)
    server.text("OPTIMIZE TABLE staging.int_made FINAL")
    told = deploy(**how)
    assert (told.changed, told.proof.keys, told.proof.missing) == (False, 50, 0)
    with pytest.raises(ContractViolation, match="5 keys are missing"):
        deploy(**how, spoil="offset < 175")


def test_what_is_no_keyed_model_is_named(server, model, warehouse):
    with pytest.raises(UnknownName, match="Did you mean int_made"):
        Deploy(warehouse, {}, "int_mad").run()
    server.text("CREATE TABLE staging.int_sums (day Date, n UInt64) ENGINE = SummingMergeTree ORDER BY day")
    server.text("CREATE MATERIALIZED VIEW staging.int_sums_mv TO staging.int_sums AS SELECT toDate(produced_at) AS day, count() AS n FROM landing.user_events GROUP BY day")
    with pytest.raises(ContractViolation, match="no keyed table"):
        Deploy(warehouse, {}, "int_sums").run()


def test_a_view_that_fires_on_inserts_into_the_table_is_refused(server, model, land, deploy):
    land(3)
    server.text(f"CREATE TABLE staging.chained (user_id Int64, event_id String) {ENGINE}")
    server.text("CREATE MATERIALIZED VIEW staging.chained_mv TO staging.chained AS SELECT user_id, event_id FROM staging.int_made")
    with pytest.raises(ContractViolation, match=r"staging\.chained_mv fires on inserts"):
        deploy()


def test_a_server_that_cannot_hold_inserts_gets_the_steps_one_by_one_and_is_caught_up_after(server, url, model, land, deploy):
    class Plain(Warehouse):
        def together(self, statements):
            for number, statement in enumerate(statements):
                self.run(statement)
                if number == 1:
                    sent.extend(land(4))  # exchanged, and no view feeds the new table yet

    sent = land(10)
    plain = Plain(url)
    told = deploy(plain)
    plain.close()
    assert told.held_ms is None
    assert held(server) == sent


def test_an_insert_that_runs_while_the_proof_notes_what_is_owed_is_waited_for(server, model, land, deploy, monkeypatch):
    """Its row is in the landing table, and comes to the table beside while the proof waits."""
    def waits(_warehouse):
        server.text(f"INSERT INTO staging.shadow__int_made {NEW} AND event_id = 'e000003' SETTINGS insert_deduplicate = 0")

    land(10)
    monkeypatch.setattr(proof, "settle", waits)
    assert deploy(spoil="event_id != 'e000003'").proof.keys == 10


def test_what_is_waited_for_is_every_insert_into_a_landing_table_that_runs(server, url, model, land, warehouse):
    def insert():
        server.text("INSERT INTO landing.user_events (topic, offset, produced_at) SELECT 'user-events', number + sleepEachRow(0.2), now64(3) FROM numbers(10) SETTINGS max_block_size = 1")

    slow = threading.Thread(target=insert)
    slow.start()
    assert wait_until(lambda: server.text("SELECT count() FROM system.processes WHERE query_kind = 'Insert'") == "1\n")
    proof.settle(warehouse)
    assert warehouse.one("SELECT count() FROM landing.user_events") == [10]
    slow.join()


def test_the_proof_is_of_each_slice_of_the_keys(server, model, land, deploy, monkeypatch):
    monkeypatch.setattr(proof, "SLICE_ROWS", 7)
    land(100)
    assert deploy().proof.keys == 100
    with pytest.raises(ContractViolation, match="1 keys are missing"):
        deploy(spoil="event_id != 'e000099'")


def test_a_refused_exchange_says_what_ends_it(server, url, model, land, deploy):
    class Refusing(Warehouse):
        def together(self, statements):
            return super().together([*statements[:1], "DROP TABLE staging.there_is_none", *statements[1:]])

    sent = land(10)
    refusing = Refusing(url)
    with pytest.raises(Terminal, match=r"was begun and not ended.*\./weir deploy int_made ends it"):
        deploy(refusing)
    refusing.close()
    sent += land(1)
    assert deploy().ended_earlier
    assert held(server) == sent


def test_how_far_the_query_of_a_deploy_has_come_is_told_while_it_runs_and_nobody_elses_is(server, warehouse, model):
    def at(query, comment):
        running = threading.Thread(target=lambda: server.text(query, log_comment=comment, max_threads="1"))
        running.start()
        found = []
        assert wait_until(lambda: found.append(progress.running(warehouse, model)) or (running.is_alive() and found[-1] and found[-1].rows) or not running.is_alive())
        alive = running.is_alive()
        running.join()
        return alive, found[-1]

    slow = "SELECT number AS n FROM numbers(300000) WHERE sleepEachRow(0.00001) = 0 SETTINGS max_block_size = 10000"
    alive, found = at(f"CREATE TABLE staging.shadow__{model}__owed ENGINE = MergeTree ORDER BY n AS {slow}", "dbt's own")
    assert alive
    assert (0 < found.rows <= 300_000, found.total) == (True, 300_000)
    alive, found = at(f"SELECT max(n) FROM ({slow})", LOG_COMMENT)
    assert (alive, found.total) == (True, 300_000)
    assert at(f"SELECT max(n) FROM ({slow}) -- {model}", "a reader's") == (False, None)
    assert progress.running(warehouse, model) is None


def test_a_server_that_does_not_answer_is_no_trouble_of_the_deploys():
    with contextlib.closing(Warehouse("http://default@127.0.0.1:1", progress.ANSWER_S)) as nowhere:
        assert progress.running(nowhere, "int_made") is None

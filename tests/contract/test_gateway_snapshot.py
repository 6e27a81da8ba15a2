"""A snapshot is of one moment, in all tables at once, and an engine opens it."""
import shutil
import threading
from pathlib import Path

import httpx
import pytest
from tests.contract.gateway_server import Server, wait_until

WINDOW = "SETTINGS non_replicated_deduplication_window = 1000"


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path / "one").start()
    server.text("CREATE DATABASE d ENGINE = Atomic")
    yield server
    if server.process.poll() is None:
        assert server.stop() == 0


def _snapshot(server, **query):
    return httpx.post(f"{server.url}/snapshot", params=query, timeout=60)


def _opened(snapshot, folder):
    """A second gateway on what the snapshot holds."""
    folder.mkdir()
    shutil.copytree(snapshot["path"], folder / "data", symlinks=True)
    return Server(folder).start()


def test_table_view_and_chained_view_agree_in_a_snapshot_that_is_made_under_load(server, tmp_path):
    server.text(f"CREATE TABLE d.t (a UInt64) ENGINE = MergeTree ORDER BY a {WINDOW}")
    server.text(f"CREATE TABLE d.n (n UInt64) ENGINE = SummingMergeTree ORDER BY tuple() {WINDOW}")
    server.text(f"CREATE TABLE d.m (m UInt64) ENGINE = SummingMergeTree ORDER BY tuple() {WINDOW}")
    server.text("CREATE MATERIALIZED VIEW d.tn TO d.n AS SELECT count() AS n FROM d.t")
    server.text("CREATE MATERIALIZED VIEW d.nm TO d.m AS SELECT sum(n) AS m FROM d.n")
    server.text("CREATE MATERIALIZED VIEW d.seen REFRESH EVERY 1 SECOND ENGINE = MergeTree ORDER BY c AS SELECT count() AS c FROM d.t")
    ended, acknowledged = threading.Event(), []

    def write(writer):
        number = 0
        while not ended.is_set():
            token = f"{writer}-{number}"
            server.text("INSERT INTO d.t SELECT number FROM numbers(100)", insert_deduplication_token=token)
            acknowledged.append(token)
            number += 1

    threads = [threading.Thread(target=write, args=(w,)) for w in range(3)]
    for thread in threads:
        thread.start()
    assert wait_until(lambda: len(acknowledged) > 20)
    before = len(acknowledged)
    made = _snapshot(server).json()
    after = len(acknowledged)
    assert wait_until(lambda: len(acknowledged) > after + 10)
    ended.set()
    for thread in threads:
        thread.join()
    second = _opened(made, tmp_path / "two")
    counts = second.text("SELECT (SELECT count() FROM d.t), (SELECT sum(n) FROM d.n), (SELECT sum(m) FROM d.m)").split()
    assert len(set(counts)) == 1
    assert before * 100 <= int(counts[0]) <= (after + 3) * 100
    # what was in it is known there too: all acknowledged batches repeated are each once
    for token in acknowledged:
        second.text("INSERT INTO d.t SELECT number FROM numbers(100)", insert_deduplication_token=token)
    assert second.text("SELECT (SELECT count() FROM d.t), (SELECT sum(n) FROM d.n), (SELECT sum(m) FROM d.m)").split() == [str(len(acknowledged) * 100)] * 3
    assert second.text("SELECT status != 'Disabled' FROM system.view_refreshes WHERE view = 'seen'") == "1\n"
    assert second.stop() == 0
    assert server.text("SELECT status != 'Disabled' FROM system.view_refreshes WHERE view = 'seen'") == "1\n"


def test_every_kind_of_table_function_and_view_is_in_it_and_what_was_dropped_is_not(server, tmp_path):
    for sql in (
        "CREATE TABLE d.log (a Int64) ENGINE = Log", "INSERT INTO d.log VALUES (1)", "CREATE TABLE d.set (a Int64) ENGINE = Set", "INSERT INTO d.set VALUES (2)",
        "CREATE TABLE in_default (a Int64) ENGINE = MergeTree ORDER BY a", "INSERT INTO in_default VALUES (3)", "CREATE FUNCTION plus1 AS x -> x + 1",
        "CREATE VIEW d.view AS SELECT a FROM d.log", "CREATE TABLE d.gone (a Int64) ENGINE = MergeTree ORDER BY a", "INSERT INTO d.gone VALUES (4)", "DROP TABLE d.gone",
        "CREATE TABLE d.mutated (a Int64, b Int64) ENGINE = MergeTree ORDER BY a", "INSERT INTO d.mutated VALUES (5, 1)",
        "ALTER TABLE d.mutated UPDATE b = 6 WHERE 1 SETTINGS mutations_sync = 1", "CREATE TABLE d.`strange / näme` (a Int64) ENGINE = MergeTree ORDER BY a",
        "INSERT INTO d.`strange / näme` VALUES (7)",
    ):
        server.text(sql)
    second = _opened(_snapshot(server).json(), tmp_path / "two")
    assert second.text("SELECT (SELECT a FROM d.view), 2 IN d.set, plus1(a), (SELECT b FROM d.mutated), (SELECT a FROM d.`strange / näme`) FROM in_default") == "1\t1\t4\t6\t7\n"
    assert second.text("EXISTS d.gone") == "0\n"
    assert second.stop() == 0


def test_merges_while_it_is_made_lose_nothing(server, tmp_path):
    server.text("CREATE TABLE d.t (a UInt64) ENGINE = MergeTree ORDER BY a SETTINGS old_parts_lifetime = 1")
    for i in range(30):
        server.text(f"INSERT INTO d.t VALUES ({i})")
    ended = threading.Event()

    def merge():
        while not ended.is_set():
            server.post("OPTIMIZE TABLE d.t FINAL")

    thread = threading.Thread(target=merge)
    thread.start()
    made = [_snapshot(server).json() for _ in range(5)]
    ended.set()
    thread.join()
    for number, snapshot in enumerate(made):
        second = _opened(snapshot, tmp_path / f"copy{number}")
        assert second.text("SELECT count(), sum(a) FROM d.t") == "30\t435\n"
        assert second.stop() == 0


def test_a_statement_that_writes_too_long_refuses_the_snapshot_and_is_left_alone(server):
    server.text("CREATE TABLE d.t (a UInt64) ENGINE = MergeTree ORDER BY a")
    thread = threading.Thread(target=server.text, args=("INSERT INTO d.t SELECT number + sleep(0.5) FROM numbers(6) SETTINGS max_block_size = 1",))
    thread.start()
    assert wait_until(lambda: server.health()["under_way"] == 1)
    answer = _snapshot(server, wait_s="0.1")
    assert (answer.status_code, answer.headers["Retry-After"], "have not ended in 0.1 s" in answer.text) == (503, "1", True)
    thread.join()
    assert server.text("SELECT count() FROM d.t") == "6\n"
    assert _snapshot(server).status_code == 200


def test_snapshots_are_made_by_post_and_what_an_earlier_process_left_is_swept(server):
    assert httpx.get(f"{server.url}/snapshot").status_code == 405
    path = Path(_snapshot(server).json()["path"])
    assert path.is_dir()
    server.kill()
    server.start()
    assert not path.exists()


def test_data_of_a_newer_engine_is_refused_at_the_start_in_a_sentence(tmp_path):
    server = Server(tmp_path / "one").start()
    assert server.stop() == 0
    layout = tmp_path / "one" / "layout.json"
    layout.write_text(layout.read_text().replace("26.9", "27.1"))
    with pytest.raises(AssertionError, match="did not start"):
        server.start()
    assert server.process.returncode == 1

"""Statements of definition that run while nothing writes: no insert sees some of them done and others not."""
import json
import threading

import httpx
import pytest
from tests.contract.gateway_server import wait_until


def _together(server, *statements, **query):
    return httpx.post(f"{server.url}/together", params=query, content=json.dumps(statements), timeout=60)


def _fed(server):
    for sql in (
        "CREATE TABLE d.l (a UInt64, w UInt64) ENGINE = MergeTree ORDER BY a", "CREATE TABLE d.x (a UInt64) ENGINE = MergeTree ORDER BY a",
        "CREATE TABLE d.y (a UInt64) ENGINE = MergeTree ORDER BY a", "CREATE MATERIALIZED VIEW d.x_mv TO d.x AS SELECT a FROM d.l", "CREATE MATERIALIZED VIEW d.y_mv TO d.y AS SELECT a + 1000000 AS a FROM d.l",
    ):
        server.text(sql)


def test_a_table_and_its_view_change_places_under_load_and_no_row_is_in_the_wrong_one_or_in_neither(server):
    _fed(server)
    ended, sent = threading.Event(), []

    def write(writer):
        number = writer * 100_000
        while not ended.is_set():
            server.text(f"INSERT INTO d.l VALUES ({number}, {writer})")
            sent.append(number)
            number += 1

    threads = [threading.Thread(target=write, args=(w,)) for w in range(3)]
    for thread in threads:
        thread.start()
    assert wait_until(lambda: len(sent) > 30)
    made = _together(server, "DROP TABLE d.x_mv", "EXCHANGE TABLES d.x AND d.y", "CREATE MATERIALIZED VIEW d.x_mv TO d.x AS SELECT a + 1000000 AS a FROM d.l", "DROP TABLE d.y_mv")
    after = len(sent)
    assert wait_until(lambda: len(sent) > after + 30)
    ended.set()
    for thread in threads:
        thread.join()
    assert (made.status_code, made.json()["statements"]) == (200, 4), made.text
    assert sorted(int(a) for a in server.text("SELECT a FROM d.x").split()) == sorted(n + 1_000_000 for n in sent)
    old = [int(a) for a in server.text("SELECT a FROM d.y").split()]
    assert 30 <= len(old) < len(sent)
    assert set(old) <= set(sent)


def test_an_insert_that_runs_is_waited_for(server):
    server.text("CREATE TABLE d.src (a UInt64) ENGINE = MergeTree ORDER BY a")
    server.text("CREATE TABLE d.was (a UInt64) ENGINE = MergeTree ORDER BY a")
    server.text("CREATE MATERIALIZED VIEW d.was_mv TO d.was AS SELECT a FROM d.src")
    ended = []

    def insert():
        server.text("INSERT INTO d.src SELECT number + sleepEachRow(0.2) FROM numbers(10) SETTINGS max_block_size = 1", query_id="slow")
        ended.append("insert")

    def exchange():
        made = _together(server, "DROP TABLE d.was_mv", "RENAME TABLE d.was TO d.old")
        assert made.status_code == 200
        assert made.json()["held_ms"] > 500  # the insert's last second, in which no other begins
        ended.append("exchange")

    slow, held = threading.Thread(target=insert), threading.Thread(target=exchange)
    slow.start()
    assert wait_until(lambda: server.text("SELECT count() FROM system.processes WHERE query_kind = 'Insert'") == "1\n")
    held.start()
    slow.join()
    held.join()
    assert ended == ["insert", "exchange"]
    assert server.text("SELECT count() FROM d.old") == "10\n"


def test_what_the_engine_refuses_ends_it_is_named_and_writes_go_on(server):
    found = _together(server, "CREATE TABLE d.one (a Int64) ENGINE = MergeTree ORDER BY a", "DROP TABLE d.there_is_none", "DROP TABLE d.one")
    assert (found.status_code, found.headers["X-ClickHouse-Exception-Code"]) == (404, "60")
    assert "Statement 2 of 3 (those before it are done)" in found.text
    server.text("INSERT INTO d.one VALUES (1)")
    assert server.text("SELECT count() FROM d.one") == "1\n"


def test_rows_are_copied_and_a_partition_is_replaced_unless_a_question_throws_first(server):
    for sql in ("CREATE TABLE d.was_live (a UInt64) ENGINE = MergeTree ORDER BY a", "INSERT INTO d.was_live VALUES (1), (2)", "CREATE TABLE d.by_side AS d.was_live", "INSERT INTO d.by_side VALUES (10)"):
        server.text(sql)
    copy, check = "INSERT INTO d.by_side SELECT a FROM d.was_live WHERE a > 1", "SELECT throwIf((SELECT count() FROM d.by_side) != {}, 'rows are missing')"
    place = "ALTER TABLE d.was_live REPLACE PARTITION ID 'all' FROM d.by_side"
    refused = _together(server, copy, check.format(3), place)
    assert (refused.status_code, refused.headers["X-ClickHouse-Exception-Code"]) == (500, "395")
    assert "Statement 2 of 3 (those before it are done)" in refused.text
    assert server.text("SELECT a FROM d.was_live ORDER BY a") == "1\n2\n"
    assert _together(server, check.format(2), place).status_code == 200
    assert server.text("SELECT a FROM d.was_live ORDER BY a") == "2\n10\n"


@pytest.mark.parametrize("body", [
    "", "{}", "[]", "[1]", '["SELECT 1"]', '["SELECT a FROM d.throwIf_not"]', '["INSERT INTO d.l SELECT 1 FROM input(\'a UInt64\') FORMAT CSV\\n1"]', '["INSERT INTO d.l VALUES (1, 1)"]', '["ALTER TABLE d.l DELETE WHERE 1"]', '["DROP TABLE d.a; DROP TABLE d.b"]',
    '["CREATE MATERIALIZED VIEW d.p ENGINE = Log POPULATE AS SELECT 1 AS a"]', json.dumps(["DROP TABLE d.a"] * 101),
])
def test_nothing_else_is_run(server, body):
    assert httpx.post(f"{server.url}/together", content=body).status_code == 400
    assert httpx.get(f"{server.url}/together").status_code == 405

"""A row that is too large for a record: its table says no, by that key alone, all others flow, and one that is made small is the source's again."""
import json
import time

import psycopg
import pytest

pytestmark = pytest.mark.stack
MIB = 1 << 20


def _sql(running, *statements):
    with psycopg.connect(running.endpoints["postgres_dsn"], autocommit=True) as c:
        for statement in statements:
            c.execute(statement)


@pytest.fixture
def letters(running, no_companion):
    if "letters" in {t["name"] for t in json.loads(running.weir("table", "list", "--json").stdout)}:
        running.weir("table", "remove", "letters")
    _sql(running, "DROP TABLE IF EXISTS letters", "CREATE TABLE letters (id bigint PRIMARY KEY, body text, at timetz)", "ALTER TABLE letters REPLICA IDENTITY FULL",
         f"INSERT INTO letters SELECT i, 'short', '10:00:00+00'::timetz FROM generate_series(1, 50) i UNION ALL SELECT 51, repeat('l', {3 * MIB}), NULL")
    added = running.weir("table", "add", "letters", "--json")
    assert "letters.at of type time with time zone is not compared" in " ".join(added.stderr.split())
    assert [n["mild"] for n in json.loads(added.stdout)["notes"]] == [True]
    yield running
    running.weir("table", "remove", "letters")
    _sql(running, "DROP TABLE IF EXISTS letters")


def _check(running, *more):
    return json.loads(running.weir("reconcile", "--once", "--table", "letters", "--json", *more, check=False).stdout)["checks"][0]


def _lengths(running):
    return running.clickhouse("SELECT id, length(body) FROM captured.letters WHERE id > 49 ORDER BY id")


def test_a_row_too_large_is_parked_said_and_comes_back_when_it_is_small(letters):
    running = letters
    assert _lengths(running) == [(50, 5), (51, 3 * MIB)]
    _sql(running, f"UPDATE letters SET body = repeat('m', {3 * MIB}) WHERE id = 51", f"UPDATE letters SET body = repeat('x', {20 * MIB}) WHERE id = 50", "UPDATE letters SET body = 'later' WHERE id = 1")
    found = _check(running, "--repair")
    assert (found["outcome"], found["different"], found["oversized"], found["repaired"]) == ("no", 1, 1, 0)
    assert "1 of them since a change of theirs is larger than 8 MiB" in found["reason"]
    assert _lengths(running) == [(50, 5), (51, 3 * MIB)]
    assert running.clickhouse("SELECT body FROM captured.letters WHERE id = 1") == [("later",)], "the rest flows"
    parked = "SELECT count() FROM landing.quarantine WHERE topic = 'shop.public.letters' AND reject_reason = 'oversized'"
    told = running.clickhouse(parked)
    assert told == [(2,)], "the change, and the one reading again"
    assert _check(running, "--repair")["oversized"] == 1
    assert running.clickhouse(parked) == told, "it is not read again for ever"
    assert "larger than 8 MiB" in running.weir("status", check=False).stdout
    _sql(running, "UPDATE letters SET body = 'small' WHERE id = 50")
    deadline = time.monotonic() + 60
    while _lengths(running)[0] != (50, 5) or running.clickhouse("SELECT body FROM captured.letters WHERE id = 50") != [("small",)]:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert _check(running)["outcome"] == "yes"

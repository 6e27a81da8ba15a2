"""A connection that serves one request after another lets nothing of one through to the next, and each has its own query id in the log."""
import json

import httpx
import pytest
from tests.contract.gateway_server import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("gateway")).start()
    yield server
    assert server.stop() == 0


def _asked(server, sql, **url):
    answer = httpx.post(server.url, params=url, content=sql, timeout=60)
    return answer.headers["X-ClickHouse-Query-Id"], answer


def test_each_of_many_queries_stands_in_the_log_once_under_the_id_that_its_answer_had(server):
    asked = {_asked(server, f"SELECT {n}, 'own'")[0]: f"SELECT {n}, 'own'" for n in range(40)}
    assert len(asked) == 40
    server.text("SYSTEM FLUSH LOGS")
    rows = server.text("SELECT query_id, query FROM system.query_log WHERE type = 'QueryFinish' AND query LIKE '%own%' AND query NOT LIKE '%LIKE%' FORMAT JSONEachRow")
    found = [json.loads(line) for line in rows.splitlines()]
    assert {row["query_id"]: row["query"] for row in found} == asked
    assert len(found) == 40


def test_nothing_of_a_request_is_there_for_the_next(server):
    usual = server.text("SELECT getSetting('max_block_size'), currentDatabase(), getSetting('readonly')")
    server.text("CREATE DATABASE other ENGINE = Atomic")
    for sql, url in [
        ("SELECT 1 SETTINGS max_block_size = 7", {}),
        ("SELECT 1", {"max_block_size": "7"}),
        ("SELECT 1", {"database": "other"}),
        ("SELECT {a:UInt8}", {"param_a": "5"}),
        ("SET max_block_size = 7", {}),
        ("USE other", {}),
        ("CREATE TEMPORARY TABLE mine (a UInt8)", {}),
        ("SELECT throwIf(1)", {}),
        ("SELECT nonsense", {}),
        ("WITH 7 AS max_block_size SELECT max_block_size", {}),
    ]:
        _asked(server, sql, **url)
        assert server.text("SELECT getSetting('max_block_size'), currentDatabase(), getSetting('readonly')") == usual
        assert server.post("SELECT * FROM mine").headers["X-ClickHouse-Exception-Code"] == "60"
        assert httpx.post(server.url, content="SELECT {a:UInt8}").status_code != 200

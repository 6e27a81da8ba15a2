"""The gateway against what ClickHouse's HTTP interface does (its documentation, interfaces/http), and through a real client."""
import os
import subprocess
import sys

import clickhouse_connect
import httpx
import pytest
from tests.contract.gateway_server import ROOT, Server, free_port

URL = ""  # of the module's gateway


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("gateway")


@pytest.fixture(scope="module")
def gateway(folder):
    server = Server(folder).start()
    global URL  # noqa: PLW0603 - (own) the helper below asks the module's one gateway
    URL = server.url
    for sql in ("CREATE DATABASE IF NOT EXISTS d ENGINE = Atomic", "CREATE TABLE d.t (a Int64, s String) ENGINE = MergeTree ORDER BY a"):
        assert _post(sql).status_code == 200
    yield server
    assert server.stop() == 0


def _post(sql, body=b"", **query):
    return httpx.post(URL, params={"query": sql, **query}, content=body, timeout=30)


@pytest.mark.parametrize(
    ("sql", "query", "status", "text"),
    [
        ("SELECT 1", {}, 200, "1\n"),
        ("SELECT 1 AS a FORMAT JSONEachRow", {}, 200, '{"a":1}\n'),
        ("SELECT 1 AS a", {"default_format": "JSONEachRow"}, 200, '{"a":1}\n'),
        ("SELECT {x:Int64} + 1", {"param_x": "41"}, 200, "42\n"),
        ("SELECT {s:String}", {"param_s": "a'b\\\\c"}, 200, "a\\'b\\\\c\n"),
        ("SELECT currentDatabase()", {"database": "d"}, 200, "d\n"),
        ("SELECT getSetting('max_threads')", {"max_threads": "1"}, 200, "1\n"),
        ("SELECT count() FROM t WHERE 0", {"database": "d"}, 200, "0\n"),
    ],
)
def test_answers_are_the_servers(gateway, sql, query, status, text):
    answer = _post(sql, **query)
    assert (answer.status_code, answer.text) == (status, text)


@pytest.mark.parametrize(
    ("sql", "query", "status", "code"),
    [
        ("SELEC 1", {}, 400, "62"),
        ("SELECT * FROM d.none", {}, 404, "60"),
        ("SELECT 1; DROP TABLE d.t", {}, 400, "62"),
        ("SELECT 1 INTO OUTFILE '/tmp/x'", {}, 400, "62"),
        ("SELECT 1", {"max_threads, x": "1"}, 404, "115"),
        ("SELECT 1", {"no_such_setting": "1"}, 404, "115"),
        ("SELECT {x:Int64}", {}, 500, "456"),
        ("SELECT 1", {"session_id": "none", "session_check": "1"}, 500, "372"),
    ],
)
def test_exceptions_have_the_servers_code_and_status(gateway, sql, query, status, code):
    answer = _post(sql, **query)
    assert (answer.status_code, answer.headers.get("X-ClickHouse-Exception-Code")) == (status, code)
    assert answer.text.startswith(f"Code: {code}. DB::Exception")


def test_a_get_changes_nothing(gateway):
    answer = httpx.get(URL, params={"query": "DROP TABLE d.t"})
    assert (answer.status_code, answer.headers["X-ClickHouse-Exception-Code"]) == (500, "164")
    assert _post("EXISTS d.t").text == "1\n"


@pytest.mark.parametrize(
    ("sql", "body"),
    [
        ("INSERT INTO d.i FORMAT JSONEachRow", b'{"a":1,"s":"x"}\n{"a":2,"s":"y"}'),
        ("INSERT INTO d.i FORMAT CSV", b'1,"x"\n2,"y"\n'),
        ("INSERT INTO d.i", b"1\tx\n2\ty\n"),
        ("INSERT INTO d.i VALUES", b"(1, 'x'), (2, 'y')"),
        ("", b"INSERT INTO d.i VALUES (1, 'x'), (2, 'y')"),
        ("", b"INSERT INTO d.i (a, s) FORMAT TSV\n1\tx\n2\ty\n"),
    ],
)
def test_an_insert_takes_its_data_wherever_the_server_does(gateway, sql, body):
    _post("DROP TABLE IF EXISTS d.i SYNC")
    _post("CREATE TABLE d.i (a Int64, s String) ENGINE = MergeTree ORDER BY a")
    answer = _post(sql, body) if sql else httpx.post(URL, content=body)
    assert answer.status_code == 200, answer.text
    assert _post("SELECT * FROM d.i ORDER BY a").text == "1\tx\n2\ty\n"


def test_an_insert_that_a_constraint_refuses_says_so_and_stores_nothing(gateway):
    _post("CREATE TABLE IF NOT EXISTS d.c (a Int64, CONSTRAINT p CHECK a > 0) ENGINE = MergeTree ORDER BY a")
    assert _post("INSERT INTO d.c FORMAT TSV", b"1\n-1\n").status_code == 500
    assert _post("SELECT count() FROM d.c").text == "0\n"


def test_a_session_keeps_its_temporary_table_and_its_settings_apart(gateway):
    assert _post("CREATE TEMPORARY TABLE tmp (a Int64)", session_id="s1").status_code == 200
    assert _post("INSERT INTO tmp VALUES (7)", session_id="s1").status_code == 200
    assert _post("SELECT a FROM tmp", session_id="s1").text == "7\n"
    assert _post("SELECT a FROM tmp").status_code == 404
    _post("SELECT 1", session_id="s1", max_threads="1")
    assert _post("SELECT getSetting('max_threads') = 1 AND changed FROM system.settings WHERE name = 'max_threads'", session_id="s1").text == "0\n"


def test_a_wide_compressed_insert_of_a_real_client_arrives_whole(gateway):
    client = clickhouse_connect.get_client(dsn=URL)
    client.command("CREATE TABLE d.wide (a LowCardinality(String), b Nullable(Float32), s String, x String) ENGINE = MergeTree ORDER BY a")
    rows = [["k", 1.5, "s" * 20, str(i)] for i in range(200_000)]
    client.insert("d.wide", rows, column_names=["a", "b", "s", "x"])
    assert client.query("SELECT count(), uniqExact(x) FROM d.wide").result_rows == [(200_000, 200_000)]


def test_one_token_counts_once_in_the_table_and_in_the_view_behind_it(gateway):
    window = "SETTINGS non_replicated_deduplication_window = 100"
    _post(f"CREATE TABLE d.e (a Int64) ENGINE = MergeTree ORDER BY a {window}")
    _post(f"CREATE TABLE d.e_sum (n UInt64) ENGINE = SummingMergeTree ORDER BY tuple() {window}")
    _post("CREATE MATERIALIZED VIEW d.e_view TO d.e_sum AS SELECT count() AS n FROM d.e")
    for _ in range(3):
        assert _post("INSERT INTO d.e FORMAT TSV", b"1\n2\n", insert_deduplication_token="x").status_code == 200
    assert _post("SELECT (SELECT count() FROM d.e), (SELECT sum(n) FROM d.e_sum)").text == "2\t2\n"


def test_a_second_process_on_the_same_folder_is_refused_in_a_sentence(gateway, folder):
    done = subprocess.run(
        [sys.executable, "-m", "weir.gateway", "--path", str(folder), "--port", str(free_port())],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
    )
    assert done.returncode == 1
    assert "one process owns a data folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_was_acknowledged_is_there_after_kill_9(gateway, folder):
    _post("CREATE TABLE d.k (a Int64) ENGINE = MergeTree ORDER BY a")
    for i in range(30):
        assert _post("INSERT INTO d.k FORMAT TSV", f"{i}\n".encode()).status_code == 200
    gateway.kill()
    gateway.start()
    assert _post("SELECT count(), uniqExact(a) FROM d.k").text == "30\t30\n"

"""Other people's clients, driven for real: curl, clickhouse-connect (sync, async, pandas), polars, and those of JavaScript, Java and Go.

A client that this machine cannot have is skipped with the reason: its language is not installed, or its registry does not answer.
"""
import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import clickhouse_connect
import httpx
import pandas as pd
import polars as pl
import pytest

from weir.connect import jars, java
from weir.errors import Unavailable

CLIENTS = Path(__file__).parent / "clients"
SUM = 299_999 * 300_000 // 2


def _needs(*programs):
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def _run(*command, given=None, cwd=None, seconds=300, **environment):
    return subprocess.run([str(c) for c in command], input=given, cwd=cwd, capture_output=True, text=True, timeout=seconds, check=False, env={**os.environ, **environment})


def _document(done):
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


# --- curl -----------------------------------------------------------------------------------------------------------------------------


def test_curl_asks_inserts_and_is_told_errors(server, tmp_path):
    _needs("curl")
    curl = ("curl", "-sS", "--max-time", "60")
    assert _run(*curl, f"{server.url}/?query=SELECT%201").stdout == "1\n"
    assert _run(*curl, server.url, "--data-binary", "@-", given="SELECT 'ä', 2 FORMAT CSV").stdout == '"ä",2\n'
    assert _run(*curl, server.url, "-d", "CREATE TABLE d.curl (a UInt64) ENGINE = MergeTree ORDER BY a").returncode == 0
    rows = tmp_path / "rows.tsv"
    rows.write_text("".join(f"{n}\n" for n in range(100_000)))
    assert _run(*curl, f"{server.url}/?query=INSERT%20INTO%20d.curl%20FORMAT%20TSV", "--data-binary", f"@{rows}").stdout == ""
    assert _run(*curl, f"{server.url}/?query=INSERT%20INTO%20d.curl%20FORMAT%20TSV", "-X", "POST", "-H", "Transfer-Encoding: chunked", "-T", "-", given="7\n").stdout == ""
    assert _run(*curl, "--compressed", f"{server.url}/?enable_http_compression=1", "-d", "SELECT count(), sum(a) FROM d.curl").stdout == "100001\t4999950007\n"
    assert _run(*curl, "-f", server.url, "-d", "SELECT nonsense").returncode == 22


# --- Python ---------------------------------------------------------------------------------------------------------------------------


def test_clickhouse_connect_and_pandas_write_and_read(server):
    with clickhouse_connect.get_client(host="127.0.0.1", port=server.port) as client:
        client.command("CREATE TABLE d.pandas (id UInt64, name String, at DateTime64(3, 'UTC'), score Nullable(Float64)) ENGINE = MergeTree ORDER BY id")
        frame = pd.DataFrame({"id": range(1000), "name": [f"ä{n}" for n in range(1000)],
                              "at": pd.date_range("2026-01-01", periods=1000, freq="1s", tz="UTC").astype("datetime64[ms, UTC]"), "score": [None, 0.5] * 500})  # fmt: skip
        client.insert_df("d.pandas", frame)
        read = client.query_df("SELECT * FROM d.pandas ORDER BY id")
        assert read.name.tolist() == frame.name.tolist()
        assert read["at"].tolist() == frame["at"].dt.tz_localize(None).tolist()  # the client's own choice for UTC
        assert read.score.isna().sum() == 500
        with client.query_df_stream("SELECT number FROM numbers(300000)") as frames:
            assert sum(int(f.number.sum()) for f in frames) == SUM


def test_clickhouse_connect_async_runs_many_at_once(server, tmp_path):
    wanted = ("--target", tmp_path / "aiohttp", "-r", CLIENTS / "python" / "requirements.txt")
    ways = ((sys.executable, "-m", "uv", "pip", "install", "--python", sys.executable), ("uv", "pip", "install", "--python", sys.executable), ("pip", "--python", sys.executable, "install"))
    told = ["no pip and no uv"]
    for way in ways:
        if shutil.which(way[0]) and (installed := _run(*way, *wanted)).returncode == 0:
            break
        told = installed.stderr.strip().splitlines() if shutil.which(way[0]) else told
    else:
        pytest.skip(f"aiohttp, which the asynchronous client needs, could not be installed: {told[-1:]}")
    found = _document(_run(sys.executable, CLIENTS / "python" / "main.py", str(server.port), PYTHONPATH=str(tmp_path / "aiohttp")))
    assert found == {"numbers": list(range(1, 41)), "counted": [1000, 499500]}


def test_polars_reads_arrow_and_parquet_and_writes_both(server):
    server.text("CREATE TABLE d.polars (id UInt64, name String) ENGINE = MergeTree ORDER BY id")
    frame = pl.DataFrame({"id": range(5000), "name": [f"ä{n}" for n in range(5000)]}, schema={"id": pl.UInt64, "name": pl.String})
    parquet, arrow = io.BytesIO(), io.BytesIO()
    frame[:2500].write_parquet(parquet)
    frame[2500:].write_ipc(arrow, compat_level=pl.CompatLevel.oldest())
    server.text("INSERT INTO d.polars FORMAT Parquet", parquet.getvalue())
    server.text("INSERT INTO d.polars FORMAT Arrow", arrow.getvalue())
    settings = {"output_format_arrow_string_as_string": "1", "output_format_parquet_string_as_string": "1"}
    sql = "SELECT * FROM d.polars ORDER BY id FORMAT"
    assert pl.read_parquet(io.BytesIO(server.post(f"{sql} Parquet", **settings).content)).equals(frame)
    assert pl.read_ipc(io.BytesIO(server.post(f"{sql} Arrow", **settings).content)).equals(frame)
    assert pl.read_csv(io.BytesIO(server.post(f"{sql} CSVWithNames").content), schema=frame.schema).equals(frame)
    with clickhouse_connect.get_client(host="127.0.0.1", port=server.port) as client:
        assert pl.from_arrow(client.query_arrow("SELECT * FROM d.polars ORDER BY id")).equals(frame)


# --- other languages ------------------------------------------------------------------------------------------------------------------


def test_the_javascript_client_inserts_streams_keeps_a_session_and_is_told_errors(server, tmp_path):
    _needs("node", "npm")
    for name in ("package.json", "package-lock.json", "main.mjs"):
        shutil.copy(CLIENTS / "js" / name, tmp_path)
    installed = _run("npm", "ci", "--no-audit", "--no-fund", cwd=tmp_path)
    if installed.returncode:
        pytest.skip(f"npm could not install @clickhouse/client: {installed.stderr.strip().splitlines()[-1:]}")
    found = _document(_run("node", "main.mjs", server.url, cwd=tmp_path))
    assert found.pop("late")  # an exception after the first byte ends the stream with an error
    assert found == {
        "ping": True, "written": "5000", "row": {"id": 7, "text": "Zeile 7 ä", "list": ["a", "7"]}, "sum": "12497500", "whole": [{"a": 1, "b": "b"}],
        "streamed": SUM, "temporary": 2, "id": "js-chose-this", "error": {"code": "47", "type": "UNKNOWN_IDENTIFIER"},
    }  # fmt: skip


JDBC = """CREATE DATABASE jdbc ENGINE = Atomic;
CREATE TABLE jdbc.t (id UInt32, text String, at DateTime64(3, 'UTC')) ENGINE = MergeTree ORDER BY id;
INSERT INTO jdbc.t VALUES (1, 'ä', '2026-01-01 00:00:00.123'), (2, 'b', '2026-01-02 00:00:00');
SELECT * FROM jdbc.t ORDER BY id;
SELECT count(*) AS n, sum(number) AS s FROM numbers(300000);
SELECT toDateTime(3600, 'Europe/Paris') AS zoned, [1, 2] AS list, NULL AS nothing;
SELECT nonsense;
!columns t
!quit
"""


def test_jdbc_makes_a_table_reads_types_and_metadata_and_is_told_errors(server, tmp_path):
    try:
        home = jars.fetch(tmp_path, lock=CLIENTS / "jdbc.lock").parent
    except Unavailable as error:
        pytest.skip(str(error))
    done = _run(
        java.binary(), "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "--enable-native-access=ALL-UNNAMED", "-Duser.timezone=UTC", "-Dfile.encoding=UTF-8",
        "-cp", jars.class_path(home, "jdbc"), "sqlline.SqlLine", "-u", f"jdbc:ch:{server.url}", "-n", "default", "-p", "", "-d", "com.clickhouse.jdbc.ClickHouseDriver",
        "--outputformat=csv", "--color=false", "--silent=true", "--isolation=TRANSACTION_NONE", given=JDBC, LC_ALL="C.UTF-8",
    )  # fmt: skip
    rows = list(csv.reader(io.StringIO(done.stdout), quotechar="'"))
    assert rows[:7] == [
        ["id", "text", "at"], ["1", "ä", "2026-01-01 00:00:00.123"], ["2", "b", "2026-01-02 00:00:00.0"],
        ["n", "s"], ["300000", str(SUM)],
        ["zoned", "list", "nothing"], ["1970-01-01 02:00:00.0", "[1, 2]", ""],
    ]  # fmt: skip
    columns = [dict(zip(rows[7], row, strict=True)) for row in rows[8:]]
    assert [(c["TABLE_SCHEM"], c["COLUMN_NAME"]) for c in columns if c["TABLE_SCHEM"] == "jdbc"] == [("jdbc", "id"), ("jdbc", "text"), ("jdbc", "at")]
    assert "Code: 47. DB::Exception: Unknown expression identifier `nonsense`" in done.stderr
    assert server.text("SELECT count() FROM jdbc.t") == "2\n"


@pytest.mark.long  # compiling clickhouse-go takes a minute of CPU the first time
def test_clickhouse_go_over_http_inserts_reads_native_blocks_and_is_told_errors(server, tmp_path):
    _needs("go")
    for name in ("go.mod", "go.sum", "main.go"):
        shutil.copy(CLIENTS / "go" / name, tmp_path)
    fetched = _run("go", "mod", "download", cwd=tmp_path)
    if fetched.returncode:
        pytest.skip(f"go could not fetch clickhouse-go: {fetched.stderr.strip().splitlines()[-1:]}")
    built = _run("go", "build", "-o", "driven", ".", cwd=tmp_path, seconds=900)
    assert built.returncode == 0, built.stderr[-2000:]
    found = _document(_run(tmp_path / "driven", httpx.URL(server.url).netloc.decode()))
    assert set(found) == {"none", "lz4", "zstd", "gzip"}
    for read in found.values():
        assert "UNKNOWN_IDENTIFIER" in read.pop("failed")
        assert read == {"version": "26.9.2", "count": 1000, "sum": 499500, "zoned": "1970-01-01T02:00:00+01:00", "list": ["a", "7"], "pairs": {"k": 7}, "perhaps": 7, "read": SUM}

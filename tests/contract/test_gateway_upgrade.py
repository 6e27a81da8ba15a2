"""The way from an older engine to this one: a data folder that an older chdb wheel made is opened, counts as before, and knows its tokens; the way back is refused."""
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.contract.gateway_server import ROOT, Server

OLDER = ("26.7.3", "26.5.0")  # chdb-core: a release of each of the two versions of ClickHouse before the one that requirements/runtime.lock pins, as far as they are served
WINDOW = "non_replicated_deduplication_window = 100"
MADE = (
    "CREATE DATABASE d ENGINE = Atomic",
    f"CREATE TABLE d.t (a UInt64, s LowCardinality(String), at DateTime64(3, 'UTC')) ENGINE = MergeTree ORDER BY a PARTITION BY a % 3 SETTINGS {WINDOW}",
    f"CREATE TABLE d.sums (k UInt8, n UInt64) ENGINE = SummingMergeTree ORDER BY k SETTINGS {WINDOW}",
    "CREATE MATERIALIZED VIEW d.sums_mv TO d.sums AS SELECT toUInt8(a % 10) AS k, count() AS n FROM d.t GROUP BY k",
    "CREATE TABLE d.states (k UInt8, u AggregateFunction(uniq, UInt64)) ENGINE = AggregatingMergeTree ORDER BY k",
    "INSERT INTO d.states SELECT toUInt8(number % 4), uniqState(number) FROM numbers(4000) GROUP BY 1",
    "CREATE TABLE d.keyed (a UInt64, version UInt64) ENGINE = ReplacingMergeTree(version) ORDER BY a",
    "INSERT INTO d.keyed SELECT number % 10, number FROM numbers(100)",
)
FIRST = "INSERT INTO d.t SETTINGS insert_deduplication_token = 'one', deduplicate_blocks_in_dependent_materialized_views = 1 SELECT number, toString(number % 5), toDateTime64(number, 3, 'UTC') FROM numbers(9000)"
SCRIPT = """
import json, os, sys
os.environ["TZ"] = "UTC"
import chdb
connection = chdb.connect(sys.argv[1])
for sql in json.loads(sys.argv[2]):
    connection.query(sql, "TabSeparated")
print(bytes(connection.query("SELECT version()", "TabSeparated").bytes()).decode().strip())
connection.close()
"""


@pytest.fixture(params=OLDER)
def older(request, tmp_path):
    """A folder with an older chdb in it, or a skip with the reason: no registry, or none that has it."""
    target = tmp_path / "older"
    tried = []
    wanted = ["--target", str(target), "--no-deps", f"chdb-core=={request.param}"]
    for command in ([sys.executable, "-m", "uv", "pip", "install", *wanted], ["uv", "pip", "install", *wanted], ["pip", "install", "--only-binary", ":all:", *wanted]):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        except FileNotFoundError as error:
            tried.append(str(error))
            continue
        if done.returncode == 0:
            yield target
            shutil.rmtree(target)
            return
        tried.append(done.stderr[-300:])
    pytest.skip(f"chdb-core {request.param} cannot be installed here: {' | '.join(tried)}")


def test_a_folder_of_an_older_engine_is_opened_and_counts_as_before(older, tmp_path):
    folder = tmp_path / "data-of-older"
    folder.mkdir()
    made = subprocess.run([sys.executable, "-c", SCRIPT, str(folder / "data"), json.dumps([*MADE, FIRST])], env={"PYTHONPATH": str(older), "PATH": "/usr/bin:/bin"},
                          capture_output=True, text=True, timeout=120, check=False)
    assert made.returncode == 0, made.stderr[-2000:]
    version = made.stdout.strip().splitlines()[-1]
    (folder / "layout.json").write_text(json.dumps({"layout": 1, "engine": version, "earlier": []}))  # as the gateway of that time left it
    server = Server(folder).start()
    assert server.text("SELECT version()").strip() != version
    for _ in range(2):
        assert server.text("SELECT count(), sum(a), uniqExact(s), max(at) FROM d.t") == "9000\t40495500\t5\t1970-01-01 02:29:59.000\n"
        assert server.text("SELECT k, sum(n) FROM d.sums GROUP BY k ORDER BY k") == "".join(f"{k}\t900\n" for k in range(10))
        assert server.text("SELECT k, uniqMerge(u) FROM d.states GROUP BY k ORDER BY k") == "".join(f"{k}\t1000\n" for k in range(4))
        assert server.text("SELECT count(), sum(version) FROM d.keyed FINAL") == "10\t945\n"
        server.text(FIRST)  # repeated across the upgrade: once in the table and in its view
        for table in ("t", "sums", "states", "keyed"):
            server.text(f"OPTIMIZE TABLE d.{table} FINAL")
            assert "\t0\t" not in server.text(f"CHECK TABLE d.{table}")
    server.text("INSERT INTO d.t SELECT 9000, 'new', now()")
    assert server.text("SELECT (SELECT count() FROM d.t), (SELECT sum(n) FROM d.sums)") == "9001\t9001\n"
    assert server.stop() == 0
    assert json.loads((folder / "layout.json").read_text())["earlier"] == [version]


def test_a_folder_of_a_newer_engine_is_refused_in_a_sentence_and_left_as_it_is(tmp_path):
    (tmp_path / "layout.json").write_text(json.dumps({"layout": 1, "engine": "99.1.1.1", "earlier": []}))
    done = subprocess.run([sys.executable, "-m", "weir.gateway", "--path", str(tmp_path), "--port", "1"], env={"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin"},
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "was opened by ClickHouse 99.1.1.1, and this is" in done.stderr
    assert not (Path(tmp_path) / "data").exists()

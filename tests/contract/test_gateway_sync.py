"""The recorded order of syncs and answer: part, its folder and the tokens are on the disk before the insert is acknowledged."""
import re
import shutil
import signal
import subprocess
import time

import httpx
import pytest
from tests.contract.gateway_server import Server, wait_until

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed: the order of syncs cannot be recorded")
CALLS = "fsync,fdatasync,sendto,write,writev,sendmsg,rename,renameat,renameat2"


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path / "gateway").start()
    yield server
    assert server.stop() == 0


def _recorded(server, trace, insert):
    recorder = subprocess.Popen(["strace", "-f", "-y", "-s", "40", "-e", f"trace={CALLS}", "-o", str(trace), "-p", str(server.process.pid)], stderr=subprocess.PIPE, text=True)
    try:
        line = recorder.stderr.readline()
        if "attached" not in line:
            pytest.skip(f"strace cannot attach here: {line.strip()}")
        time.sleep(0.5)  # every thread is attached by now
        insert()
        wait_until(lambda: "HTTP/1.1 200" in trace.read_text(errors="replace"))
    finally:
        recorder.send_signal(signal.SIGINT)
        recorder.wait(10)
    return trace.read_text(errors="replace").splitlines()


def alone(server):
    server.text("INSERT INTO d.t FORMAT TSV", b"1\n", insert_deduplication_token="x")


def together(server):
    assert httpx.post(f"{server.url}/together", json=["INSERT INTO d.t SELECT 1 SETTINGS insert_deduplication_token = 'x'"]).status_code == 200


@pytest.mark.parametrize("insert", [alone, together])
def test_part_folder_and_tokens_are_synced_before_the_answer(server, tmp_path, insert):
    server.text("CREATE DATABASE d ENGINE = Atomic")
    window = "SETTINGS non_replicated_deduplication_window = 100"
    server.text(f"CREATE TABLE d.t (a UInt64) ENGINE = MergeTree ORDER BY a {window}")
    server.text(f"CREATE TABLE d.v (n UInt64) ENGINE = MergeTree ORDER BY n {window}")
    server.text("CREATE MATERIALIZED VIEW d.to_v TO d.v AS SELECT count() AS n FROM d.t")
    tables = [server.text(f"SELECT toString(uuid) FROM system.tables WHERE database = 'd' AND name = '{name}'").strip() for name in ("t", "v")]
    lines = _recorded(server, tmp_path / "trace", lambda: insert(server))
    answered = next(i for i, line in enumerate(lines) if "HTTP/1.1 200" in line)
    synced = [match[1] for line in lines[:answered] if (match := re.search(r"f(?:data)?sync\(\d+<([^>]*)>", line))]
    for table in tables:
        of_table = [path.split(table)[1] for path in synced if table in path]
        assert [p for p in of_table if re.fullmatch(r"/tmp_insert_[^/]+/data\.(bin|cmrk\d?|mrk\d?)", p)], of_table  # noqa: S108 - the engine's own name for a part under way
        assert [p for p in of_table if re.fullmatch(r"/(tmp_insert_)?all_1_1_0/?", p) or p in {"", "/"}], of_table
        assert [p for p in of_table if p.startswith("/deduplication_logs/")], of_table

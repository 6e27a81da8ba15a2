"""What it costs that an acknowledged insert is synced: the same inserts over HTTP, with and without, in turn. Prints JSON.

Run it by `./weir bench gateway_fsync [--rounds 40]`. It starts a gateway of its own on a free port and in a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

_ROOT = Path(__file__).resolve().parents[1]
_OFF = "fsync_after_insert = 0, fsync_part_directory = 0"
_WINDOW = "non_replicated_deduplication_window = 1000"


def start(folder: str | Path, *arguments: str) -> tuple[subprocess.Popen[bytes], str]:
    """Start a gateway over `folder` on a free port; return it and its URL once it answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "weir.gateway", "--path", str(folder), "--port", str(port), *arguments]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(_ROOT / "src"), "WEIR_OTLP_URL": ""})
    url = f"http://127.0.0.1:{port}"
    for _ in range(300):
        try:
            httpx.get(f"{url}/ping")
        except httpx.HTTPError:
            time.sleep(0.1)
        else:
            return process, url
    raise SystemExit("the gateway did not start")


def _ask(client: httpx.Client, sql: str, body: bytes = b"", **url: str) -> bytes:
    answer = client.post("/", params={"query": sql, **url}, content=body)
    answer.raise_for_status()
    return answer.content


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(dir=os.environ.get("WEIR_HOME") or None) as folder:
        process, url = start(folder)
        try:
            with httpx.Client(base_url=url, timeout=120) as client:
                result = measure(client, rounds)
        finally:
            process.terminate()
            process.wait(30)
    result |= {"machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "load": os.getloadavg()[0]}}
    print(json.dumps(result, indent=2))


def measure(client: httpx.Client, rounds: int) -> dict[str, object]:
    _ask(client, "CREATE DATABASE b ENGINE = Atomic")
    for name, more in (("synced", ""), ("unsynced", f", {_OFF}")):
        columns = "(a UInt64, s String, b UInt64)"
        _ask(client, f"CREATE TABLE b.{name} {columns} ENGINE = MergeTree ORDER BY a SETTINGS {_WINDOW}{more}")
        _ask(client, f"CREATE TABLE b.{name}_sum (k UInt64, n UInt64) ENGINE = SummingMergeTree ORDER BY k SETTINGS {_WINDOW}{more}")
        _ask(client, f"CREATE MATERIALIZED VIEW b.{name}_view TO b.{name}_sum AS SELECT a % 100 AS k, count() AS n FROM b.{name} GROUP BY k")
    found: dict[str, object] = {}
    for rows in (1_000, 100_000):
        block = _ask(client, f"SELECT rand64() AS a, toString(number) AS s, number AS b FROM numbers({rows}) FORMAT Native", wait_end_of_query="1")
        taken: dict[str, list[float]] = {"synced": [], "unsynced": []}
        for turn in range(rounds):
            for name, times in taken.items():
                began = time.perf_counter()
                _ask(client, f"INSERT INTO b.{name} FORMAT Native", block, insert_deduplication_token=f"{rows}-{turn}")
                times.append((time.perf_counter() - began) * 1000)
        found[f"insert_of_{rows}_rows_ms"] = {n: {"p50": round(statistics.median(t), 1), "max": round(max(t), 1)} for n, t in taken.items()}
    return found


if __name__ == "__main__":
    main()

"""Bodies that follow each other in the same file in memory: each insert has its own rows, beside uploads that end half-way."""
import contextlib
import io
import socket
import threading
from pathlib import Path

import pandas as pd
import pytest
from tests.contract.gateway_server import Server, wait_until

ROWS, BODIES = 70_000, 30
CHECK = "SELECT count(), uniqExact(row), min(row), max(row), countIf(intDiv(row, 70000) != body OR noise != row * 2654435761 % 999999937) FROM d.t"
WRITE = {"Parquet": lambda frame, to: frame.to_parquet(to), "ORC": lambda frame, to: frame.to_orc(to, engine_kwargs={"dictionary_key_size_threshold": 0.0}), "Arrow": lambda frame, to: frame.to_feather(to, compression="uncompressed")}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("gateway")).start()
    server.text("CREATE DATABASE d ENGINE = Atomic")
    yield server
    assert server.stop() == 0


def frame(seed):
    rows = range(seed * ROWS, (seed + 1) * ROWS)
    return pd.DataFrame({"body": [seed] * ROWS, "row": rows, "noise": [row * 2654435761 % 999_999_937 for row in rows]})


@pytest.mark.parametrize("form", list(WRITE))
def test_what_the_engine_learned_of_one_body_is_not_taken_for_the_next(server, form):
    server.text("CREATE OR REPLACE TABLE d.t (body Int64, row Int64, noise Int64) ENGINE = MergeTree ORDER BY row")
    for seed in range(BODIES):
        held = io.BytesIO()
        WRITE[form](frame(seed), held)
        assert len(held.getvalue()) > 256 << 10  # a file, not held as bytes
        server.text(f"INSERT INTO d.t FORMAT {form}", held.getvalue())
    assert server.text(CHECK) == f"{ROWS * BODIES}\t{ROWS * BODIES}\t0\t{ROWS * BODIES - 1}\t0\n"


def opened(server):
    """Return what the server has open."""
    found = []
    for entry in Path(f"/proc/{server.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(str(entry.readlink()))
    return found


def half(server, size, stop):
    """Upload some ten times a second a body that says more than it sends."""
    while not stop.wait(0.02):
        with socket.create_connection(("127.0.0.1", server.port)) as to:
            to.sendall(b"POST /?query=INSERT+INTO+d.t+FORMAT+TSV HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (2 * size))
            to.sendall(b"-7\t-7\t-7\n" * (size // 9))


def test_uploads_that_end_half_way_leave_no_row_no_file_and_no_trace_in_others(server):
    server.text("CREATE OR REPLACE TABLE d.t (body Int64, row Int64, noise Int64) ENGINE = MergeTree ORDER BY row")
    stop = threading.Event()
    others = [threading.Thread(target=half, args=(server, size, stop)) for size in (300_000, 3_000_000, 80_000_000)]
    for thread in others:
        thread.start()
    try:
        for seed in range(BODIES):
            text = frame(seed).to_csv(sep="\t", header=False, index=False).encode()
            server.text("INSERT INTO d.t FORMAT TSV", text)
    finally:
        stop.set()
        for thread in others:
            thread.join()
    assert server.text(CHECK) == f"{ROWS * BODIES}\t{ROWS * BODIES}\t0\t{ROWS * BODIES - 1}\t0\n"
    assert list(server.path.rglob("*.data")) == []
    assert wait_until(lambda: not any("memfd:body" in name for name in opened(server)))  # those that rest are freed each 5 s
    assert wait_until(lambda: sum(name.startswith("socket:") for name in opened(server)) < 10)  # its own four or so: each upload had one

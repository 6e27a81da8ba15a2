"""PostgreSQL's own logical replica: a second server that subscribes to the same tables. Run by `./weir bench cdc`.

In: the source's DSN, a folder. Out: how quick its initial copy is, and a DSN to read what it has applied. Keep: it subscribes only while it is measured; its server
and the source's slot go when it is closed.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg

from weir.connect import postgres
from weir.contracts.endpoints import Endpoints

NAME = "bench_replica"  # of the publication, the subscription and the slot
READY_S, STOP_S = 60.0, 25.0


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Replica:
    """One subscriber, started at once."""

    def __init__(self, folder: Path, source_dsn: str) -> None:
        folder.mkdir(parents=True)
        self.source_dsn = source_dsn
        self.dsn = f"postgresql://weir:{postgres.read_or_create_password(folder)}@127.0.0.1:{_free_port()}/postgres"
        endpoints = replace(Endpoints.local(), postgres_dsn=self.dsn)
        postgres.prepare(folder, endpoints)
        command = postgres.command(folder, endpoints)
        uid = command.uid
        with (folder / "postgres.log").open("w") as log:
            self._server = subprocess.Popen(command.argv, env=command.env, cwd=command.cwd, user=uid, group=uid, extra_groups=None if uid is None else [], stdout=log, stderr=log)
        try:
            self._wait_ready(folder)
        except BaseException:
            self.close()
            raise

    def _wait_ready(self, folder: Path) -> None:
        deadline = time.monotonic() + READY_S
        while True:
            try:
                psycopg.connect(self.dsn, connect_timeout=2).close()
            except psycopg.Error as error:
                if self._server.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"the replica did not become ready: {folder / 'postgres.log'} tells why") from error
                time.sleep(0.1)
            else:
                return

    def _run(self, dsn: str, *statements: str) -> Any:
        with psycopg.connect(dsn, autocommit=True) as c:
            for statement in statements:
                done = c.execute(statement.encode())
            return done.fetchone()[0] if done.description else None

    def copy(self, table: str, create: str, rows: int, limit_s: float) -> dict[str, Any]:
        """Subscribe to one table; return how long its initial copy took."""
        self._run(self.dsn, create)
        self._run(self.source_dsn, f"CREATE PUBLICATION {NAME} FOR TABLE {table}", "CHECKPOINT")
        began = time.monotonic()
        with self.subscribed():
            while self._run(self.dsn, f"SELECT count(*) FROM {table}") < rows:
                if time.monotonic() - began > limit_s:
                    raise SystemExit(f"the replica had not copied {table} in {limit_s:.0f} s")
                time.sleep(0.2)
            seconds = time.monotonic() - began
        self._run(self.source_dsn, f"DROP PUBLICATION {NAME}")
        return {"rows": rows, "seconds_to_queryable": round(seconds, 2), "rows_per_s": round(rows / seconds)}

    @contextmanager
    def following(self, table: str, create: str) -> Iterator[str]:
        """Subscribe to a table without its initial copy; give the DSN to read it by."""
        self._run(self.dsn, f"DROP TABLE IF EXISTS {table}", create)
        self._run(self.source_dsn, f"CREATE PUBLICATION {NAME} FOR TABLE {table}")
        with self.subscribed("WITH (copy_data = false)"):
            yield self.dsn
        self._run(self.source_dsn, f"DROP PUBLICATION {NAME}")

    @contextmanager
    def subscribed(self, options: str = "") -> Iterator[None]:
        """Have the subscription while inside."""
        self._run(self.dsn, f"CREATE SUBSCRIPTION {NAME} CONNECTION '{self.source_dsn}' PUBLICATION {NAME} {options}")
        try:
            yield
        finally:
            self._run(self.dsn, f"DROP SUBSCRIPTION {NAME}")

    def close(self) -> None:
        """End the server."""
        self._server.send_signal(signal.SIGINT)
        try:
            self._server.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait(5)

"""The receiver's bounded queue and its writer to ClickHouse.

In: (table, row) pairs. Out: inserts into otel.*. Keep: `offer` never waits; what does not fit is dropped and counted; a ClickHouse that is
away costs nothing until the queue is full.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import httpx

from weir.contracts import names, tls
from weir.contracts.clickhouse import parse, statements
from weir.contracts.retention import Retention, bounded
from weir.errors import Terminal, Unavailable, WeirError
from weir.telemetry.convert import TABLES, UNSUPPORTED, Tabled
from weir.telemetry.setup import Telemetry, setup

log = logging.getLogger("weir.telemetry")

DDL: Final = Path(__file__).resolve().parents[3] / "telemetry" / "ddl"
QUEUE_ROWS: Final = 50_000  # a row is about 1 KB: 50 MB at most, minutes of the demo's telemetry
BATCH_ROWS: Final = 10_000
EVERY_S: Final = 10.0  # an insert makes a part of each table for ClickHouse to merge; at one a second the merges of a stack at rest were a tenth of a core
BACKOFF_MAX_S: Final = 15.0
REFUSALS: Final = 3  # a batch that ClickHouse refuses this often is dropped, since it would block the rest for ever


class Sink(Protocol):
    """Where rows go."""

    def prepare(self) -> None:
        """Create what is missing."""

    def insert(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        """Insert rows or raise a WeirError."""


class ClickHouseSink:
    """The otel database of one ClickHouse, over HTTP."""

    def __init__(self, url: str) -> None:
        server = parse(url)
        self._client = httpx.Client(base_url=server.base_url, auth=server.auth, timeout=httpx.Timeout(15, connect=2), verify=tls.context())

    def prepare(self) -> None:
        """Create the database and the tables, and bring each table's TTL to what the environment says."""
        days = Retention.from_environment(os.environ)
        self._post({}, f"CREATE DATABASE IF NOT EXISTS {names.DB_OTEL} ENGINE = Atomic".encode())
        for statement in map(days.written_into, statements(DDL)):
            self._post({}, statement.encode())
            self._bound(statement)

    def _bound(self, statement: str) -> None:
        wanted = bounded(statement)
        if wanted is not None and wanted[2] not in self._post({}, f"SHOW CREATE TABLE {wanted[0]}".encode()):
            self._post({}, f"ALTER TABLE {wanted[0]} MODIFY TTL {wanted[1]}".encode())

    def insert(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        """Insert one block of JSONEachRow."""
        body = b"\n".join(json.dumps(row).encode() for row in rows)
        query = f"INSERT INTO {names.DB_OTEL}.{table} FORMAT JSONEachRow"
        self._post({"query": query, "session_timezone": "UTC", "input_format_skip_unknown_fields": "1"}, body)

    def _post(self, parameters: dict[str, str], body: bytes) -> str:
        try:
            answer = self._client.post("/", params=parameters, content=body)
        except httpx.HTTPError as error:
            raise Unavailable(f"ClickHouse does not answer: {error!r}", hint="./weir logs clickhouse shows why") from error
        if answer.is_success:
            return answer.text
        if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            raise Unavailable("ClickHouse is busy")
        raise Terminal(f"ClickHouse refused: {answer.text.strip()[:300]}")


class Store:
    """A bounded queue a table, and the thread that empties them."""

    def __init__(self, sink: Sink, *, queue_rows: int = QUEUE_ROWS, telemetry: Telemetry | None = None) -> None:
        self._sink = sink
        self._telemetry = telemetry or setup("otlp", otlp_url="")
        self._limit = queue_rows
        self._lock = threading.Lock()
        self._queues: dict[str, deque[dict[str, Any]]] = {table: deque() for table in TABLES}
        self._refused: Counter[str] = Counter()
        self.accepted: Counter[str] = Counter()
        self.written: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self._ready = False
        self.last_error = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="otlp-writer", daemon=True)

    def offer(self, rows: Iterable[Tabled]) -> tuple[int, int]:
        """Take what fits; return (accepted, dropped). Never waits for ClickHouse."""
        accepted = dropped = 0
        with self._lock:
            room = self._limit - sum(len(q) for q in self._queues.values())
            for table, row in rows:
                if table == UNSUPPORTED or accepted >= room:
                    self.dropped["unsupported" if table == UNSUPPORTED else table] += 1
                    dropped += 1
                    continue
                self._queues[table].append(row)
                self.accepted[table] += 1
                accepted += 1
        return accepted, dropped

    def flush(self) -> None:
        """Write what is queued.

        Raises:
            WeirError: ClickHouse did not take it; the rows stay queued (a batch refused REFUSALS times is dropped).
        """
        if not self._ready:
            self._sink.prepare()
            self._ready = True
        if not any(self._queues.values()):
            return
        with self._telemetry.span("weir.otlp.write"):
            self._write()

    def _write(self) -> None:
        for table, queue in self._queues.items():
            while queue:
                with self._lock:
                    batch = [queue[i] for i in range(min(BATCH_ROWS, len(queue)))]
                try:
                    self._sink.insert(table, batch)
                except Terminal:
                    self._ready = False  # the tables may have been removed; create them again
                    self._refused[table] += 1
                    if self._refused[table] >= REFUSALS:
                        self._remove(table, len(batch), self.dropped)
                    raise
                self._remove(table, len(batch), self.written)
                self._telemetry.count("weir.otlp.written", len(batch), {"table": table})

    def _remove(self, table: str, rows: int, counter: Counter[str]) -> None:
        with self._lock:
            for _ in range(rows):
                self._queues[table].popleft()
            counter[table] += rows
            self._refused[table] = 0

    def health(self) -> dict[str, Any]:
        """Return counts a table, and what last went wrong ('' when the last write succeeded)."""
        with self._lock:
            return {
                "status": "ok",
                "queued": {t: len(q) for t, q in self._queues.items()},
                "accepted": dict(self.accepted),
                "written": dict(self.written),
                "dropped": dict(self.dropped),
                "clickhouse": "yes" if self._ready and not self.last_error else "no",
                "last_error": self.last_error,
            }

    def start(self) -> None:
        """Start the writer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the writer after one last try."""
        self._ended.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        wait = EVERY_S
        while not self._ended.wait(wait):
            wait = EVERY_S if self._try() else min(wait * 2, BACKOFF_MAX_S)
        self._try()

    def _try(self) -> bool:
        self._telemetry.gauge("weir.otlp.dropped", sum(self.dropped.values()))
        try:
            self.flush()
        except WeirError as error:
            if not self.last_error:
                log.warning("telemetry is held back: %s", error)
            self.last_error = str(error)
            return False
        self.last_error = ""
        return True

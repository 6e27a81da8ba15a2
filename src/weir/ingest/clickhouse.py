"""ClickHouse over HTTP, as ingest needs it: statements, and inserts of exact bytes under a token.

Keep: every setting that the exactly-once claim rests on goes with each insert, and is asked of the server before the first.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Final

import httpx
import pyarrow as pa

from weir.contracts import tls
from weir.contracts.clickhouse import TRANSIENT_CODES, parse
from weir.errors import DiskFull, Terminal, Transient, Unavailable

# docs/decisions/0001: one block under one token; in every view too; synchronous; one thread.
INSERT_SETTINGS: Final = {
    "async_insert": "0",
    "insert_deduplicate": "1",
    "deduplicate_blocks_in_dependent_materialized_views": "1",
    "max_insert_threads": "1",
    "input_format_parallel_parsing": "0",
    "max_insert_block_size": "1048449",
    "min_insert_block_size_rows": "0",
    "min_insert_block_size_bytes": "0",
    "materialized_views_ignore_errors": "0",
    # Rows of one key in a block stay until a merge or FINAL, as rows in two blocks do anyway: folding them at the insert took half of the engine's CPU.
    "optimize_on_insert": "0",
    # An insert that hangs ends while its token is remembered (guard.MIN_WINDOW is argued from this), and ends as an exception, never as a part of its rows.
    "max_execution_time": "240",
    "timeout_overflow_mode": "throw",
}
INSERT_TIMEOUT_S: Final = 30.0  # without a byte, either way
WHOLE_S: Final = 45.0  # of one request, however its bytes drip; with Limits.insert_s below max.poll.interval.ms
SELECT_TIMEOUT_S: Final = 600.0  # the embedded engine writes an Arrow answer whole before it sends the first byte
_TOO_MANY_PARTS: Final = "252"
_NOT_ENOUGH_SPACE: Final = "243"
_NO_ROOM: Final = ("No space left on device", "Disk quota exceeded")  # the system's words for ENOSPC and EDQUOT, which come under several codes
_TRANSIENT_CODES: Final = frozenset(str(code) for code in TRANSIENT_CODES)


_NAME: Final = re.compile(r"\(([A-Z][A-Z0-9_]+)\)(?: \(version [^()]*(?:\([^()]*\))?\))?\s*\Z")  # an error ends with its name, and a server's version


def refusal(code: str, status: int, text: str) -> Transient | Terminal:
    """Return what ClickHouse's refusal means. Pure. Its text is left out: it quotes column values, and messages go to logs and to /health.

    Code 252 is two things: too many parts in a table (merges will make room: transient) and too many ClickHouse partitions in one block, which the
    same bytes meet each time. Only the text tells them apart, so it is read here, once. A full disk is no wait of seconds: somebody has to make room.
    """
    name = _NAME.search(text)
    message = f"ClickHouse refused with code {code or 'none'}{f' {name[1]}' if name else ''} (HTTP {status})"
    if code == _TOO_MANY_PARTS and "single INSERT block" in text:
        return Terminal(
            f"{message}: too many partitions for a single INSERT block", code=code,
            hint="a table behind this insert has a finer PARTITION BY than a batch may touch (max_partitions_per_insert_block): make it coarser, or bound the view's rows",
        )
    if code == _NOT_ENOUGH_SPACE or any(words in text for words in _NO_ROOM):
        return DiskFull(f"{message}: ClickHouse's disk is full", code=code,
                        hint="make room there or give it a larger one; the open batch is then landed, once, by itself (docs/decisions/0001, 'a full disk')")
    if code == _TOO_MANY_PARTS:
        return Transient(f"{message}: a table has too many parts, and merges will make room", code=code)
    if code in _TRANSIENT_CODES or status == httpx.codes.SERVICE_UNAVAILABLE:
        return Transient(message, code=code)
    return Terminal(message, code=code, hint=f"SELECT last_error_message FROM system.errors WHERE code = {code} tells more" if code.isdecimal() else "")


class ClickHouse:
    """A client of one server. Not shared between threads."""

    def __init__(self, url: str) -> None:
        self._server = parse(url)
        self._client = self._connected(INSERT_TIMEOUT_S, 1)
        self._socket: socket.socket | None = None  # of its one connection
        self._streams: httpx.Client | None = None  # a SELECT may be read while other statements run

    def _connected(self, read_s: float, connections: int | None) -> httpx.Client:
        limits = httpx.Limits(max_connections=connections)
        return httpx.Client(base_url=self._server.base_url, auth=self._server.auth, timeout=httpx.Timeout(read_s, connect=3.0), limits=limits, verify=tls.context())

    def _traced(self, event: str, about: Mapping[str, Any]) -> None:
        if event in {"connection.connect_tcp.complete", "connection.start_tls.complete"}:
            self._socket = about["return_value"].get_extra_info("socket")

    def _cut(self) -> None:
        """End the connection under a request whose time is over: httpx has limits for a read and a write, and none for all of them."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def execute(self, sql: str, **parameters: str | int) -> str:
        """Run one statement; return its answer as TabSeparated text."""
        return self._post(sql.encode(), {f"param_{k}": str(v) for k, v in parameters.items()})

    def insert(self, table: str, columns: list[str], arrow_stream: bytes, token: str, query_id: str) -> None:
        """Insert one Arrow stream under `token`. Returning means that table and views have it; an exception means repeat or stop.

        Raises:
            Transient: the same bytes may be sent again. Terminal: they will not be accepted.
        """
        names = ", ".join(columns)
        query = f"INSERT INTO {table} ({names}) FORMAT ArrowStream"
        self._post(arrow_stream, {"query": query, "insert_deduplication_token": token, "query_id": query_id, **INSERT_SETTINGS})

    def select(self, sql: str) -> Iterator[pa.RecordBatch]:
        """Run a SELECT; yield its blocks as they come, texts as bytes.

        Raises:
            Transient: it may be asked again (also when the answer broke off). Terminal: it was refused.
        """
        text = f"{sql} FORMAT ArrowStream SETTINGS output_format_arrow_string_as_string = 0, output_format_arrow_compression_method = 'none', prefer_column_name_to_alias = 1"
        self._streams = self._streams or self._connected(SELECT_TIMEOUT_S, None)
        try:
            with self._streams.stream("POST", "/", content=text.encode()) as answer:
                if not answer.is_success:
                    raise refusal(answer.headers.get("X-ClickHouse-Exception-Code", ""), answer.status_code, answer.read().decode(errors="replace"))
                body = _Body(answer.iter_bytes())
                if body.any():
                    yield from pa.ipc.open_stream(pa.PythonFile(body, mode="r"))
        except (httpx.HTTPError, pa.ArrowInvalid, OSError) as error:
            raise Unavailable(f"ClickHouse's answer broke off: {error!r}", hint="./weir logs clickhouse shows why") from error

    def settings_in_force(self) -> dict[str, str]:
        """Return what the server makes of the settings that go with an insert; one that it does not know is missing."""
        wanted = ", ".join(f"'{name}'" for name in (*INSERT_SETTINGS, "deduplicate_insert"))
        text = self._post(f"SELECT name, value FROM system.settings WHERE name IN ({wanted})".encode(), dict(INSERT_SETTINGS))
        return dict(line.split("\t") for line in text.splitlines())

    def _post(self, body: bytes, query: dict[str, str]) -> str:
        watchdog = threading.Timer(WHOLE_S, self._cut)
        watchdog.daemon = True
        watchdog.start()
        try:
            answer = self._client.post("/", params=query, content=body, extensions={"trace": self._traced})
        except httpx.HTTPError as error:
            raise Unavailable(f"ClickHouse does not answer: {error!r}", hint="./weir logs clickhouse shows why") from error
        finally:
            watchdog.cancel()
        if answer.is_success:
            return answer.text
        raise refusal(answer.headers.get("X-ClickHouse-Exception-Code", ""), answer.status_code, answer.text)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        if self._streams is not None:
            self._streams.close()


class _Body:
    """A streamed answer as the file that Arrow reads from."""

    closed = False

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._held = chunks, b""

    def any(self) -> bool:
        """Say whether there is a first byte: without rows the engine may send nothing at all."""
        self._fill(1)
        return bool(self._held)

    def _fill(self, size: int) -> None:
        parts = [self._held]
        have = len(self._held)
        while have < size and (chunk := next(self._chunks, None)) is not None:
            parts.append(chunk)
            have += len(chunk)
        self._held = b"".join(parts)

    def read(self, size: int = -1) -> bytes:
        """Return the next `size` bytes, fewer at the end."""
        if size < 0:
            size = 1 << 62
        self._fill(size)
        found, self._held = self._held[:size], self._held[size:]
        return found

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def close(self) -> None:
        """Forget the rest."""
        self._chunks, self._held = iter(()), b""

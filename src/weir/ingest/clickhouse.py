"""ClickHouse over HTTP, as ingest needs it: statements, and inserts of exact bytes under a token.

Keep: every setting that the exactly-once claim rests on goes with each insert, and is asked of the server before the first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import httpx
import pyarrow as pa

from weir.contracts.clickhouse import TRANSIENT_CODES, parse
from weir.errors import Terminal, Transient, Unavailable

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
}
INSERT_TIMEOUT_S: Final = 30.0
SELECT_TIMEOUT_S: Final = 600.0  # the embedded engine writes an Arrow answer whole before it sends the first byte
_TOO_MANY_PARTS: Final = "252"
_TRANSIENT_CODES: Final = frozenset(str(code) for code in TRANSIENT_CODES)


_NAME: Final = re.compile(r"\(([A-Z][A-Z0-9_]+)\)(?: \(version [^()]*(?:\([^()]*\))?\))?\s*\Z")  # an error ends with its name, and a server's version


def refusal(code: str, status: int, text: str) -> Transient | Terminal:
    """Return what ClickHouse's refusal means. Pure. Its text is left out: it quotes column values, and messages go to logs and to /health.

    Code 252 is two things: too many parts in a table (merges will make room: transient) and too many ClickHouse partitions in one block, which the
    same bytes meet each time. Only the text tells them apart, so it is read here, once.
    """
    name = _NAME.search(text)
    message = f"ClickHouse refused with code {code or 'none'}{f' {name[1]}' if name else ''} (HTTP {status})"
    if code == _TOO_MANY_PARTS and "single INSERT block" in text:
        return Terminal(
            f"{message}: too many partitions for a single INSERT block", code=code,
            hint="a table behind this insert has a finer PARTITION BY than a batch may touch (max_partitions_per_insert_block): make it coarser, or bound the view's rows",
        )
    if code in _TRANSIENT_CODES or status == httpx.codes.SERVICE_UNAVAILABLE:
        return Transient(message, code=code)
    return Terminal(message, code=code, hint=f"SELECT last_error_message FROM system.errors WHERE code = {code} tells more" if code.isdecimal() else "")


class ClickHouse:
    """A client of one server. Not shared between threads."""

    def __init__(self, url: str) -> None:
        server = parse(url)
        self._client = httpx.Client(base_url=server.base_url, auth=server.auth, timeout=httpx.Timeout(INSERT_TIMEOUT_S, connect=3.0))

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
        try:
            with self._client.stream("POST", "/", content=text.encode(), timeout=httpx.Timeout(SELECT_TIMEOUT_S, connect=3.0)) as answer:
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
        try:
            answer = self._client.post("/", params=query, content=body)
        except httpx.HTTPError as error:
            raise Unavailable(f"ClickHouse does not answer: {error!r}", hint="./weir logs clickhouse shows why") from error
        if answer.is_success:
            return answer.text
        raise refusal(answer.headers.get("X-ClickHouse-Exception-Code", ""), answer.status_code, answer.text)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


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

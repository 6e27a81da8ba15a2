"""ClickHouse's HTTP interface as an ASGI application around the engine.

In: requests as in ClickHouse's documentation (interfaces/http). Out: its answers and headers. Keep: an exception has its code, name and
status; more work than slots waits, and past the queue gets 503 with Retry-After.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from weir.gateway import coding, statements
from weir.gateway.engine import SESSION_TIMEOUT_S, Answer, Engine
from weir.gateway.failures import Failure, failure

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]

SLOTS = 24  # statements at once; the engine has two cores here, and heavy ones share them
QUEUE = 200
BODY_MAX = 1 << 30

# Parameters of the interface itself; every other one is a setting, as on the server.
_OWN = frozenset({"query", "database", "default_format", "session_id", "session_timeout", "session_check", "user", "password", "query_id",
                  "compress", "decompress", "quota_key", "buffer_size", "wait_end_of_query", "stacktrace", "role", "client_protocol_version",
                  "http_headers_progress_interval_ms", "send_progress_in_http_headers", "close_session", "enable_http_compression"})

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_CONTENT_TYPE = {"JSON": "application/json; charset=UTF-8", "JSONCompact": "application/json; charset=UTF-8", "JSONEachRow": "application/x-ndjson; charset=UTF-8",
                 "CSV": "text/csv; charset=UTF-8; header=absent", "CSVWithNames": "text/csv; charset=UTF-8; header=present",
                 "TabSeparated": "text/tab-separated-values; charset=UTF-8", "Native": "application/octet-stream", "Parquet": "application/octet-stream",
                 "RowBinary": "application/octet-stream", "ArrowStream": "application/octet-stream", "Arrow": "application/octet-stream"}


@dataclass(frozen=True, slots=True)
class Request:
    """One request, read."""

    method: str
    path: str
    url: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


class Gateway:
    """The application. `users`: name to password; empty means that user `default` needs none."""

    def __init__(self, engine: Engine, spool: Path, users: Mapping[str, str] | None = None) -> None:
        self._engine, self._spool, self._users = engine, spool, dict(users or {})
        self._pool = ThreadPoolExecutor(max_workers=SLOTS, thread_name_prefix="query")
        self._under_way = 0
        spool.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in spool.glob("*.data"):  # an earlier process's spooled bodies: never acknowledged
            left.unlink()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        query_id = ""
        try:
            request = await self._read(scope, receive)
            query_id = request.url.get("query_id") or request.headers.get("x-clickhouse-query-id") or str(uuid.uuid4())
            status, headers, body = await self._answer(request, query_id)
        except ValueError as problem:  # a parameter of the interface that is not what it must be
            status, body, headers = 400, f"Code: 36. DB::Exception: {problem}. (BAD_ARGUMENTS)\n".encode(), {"X-ClickHouse-Exception-Code": "36"}
        except Failure as error:
            status, body = error.status, error.text.encode() + b"\n"
            headers = {"X-ClickHouse-Exception-Code": str(error.code), "Content-Type": "text/plain; charset=UTF-8"}
            if status == 503:  # noqa: PLR2004 - the status itself
                headers["Retry-After"] = "1"
        if query_id:
            headers["X-ClickHouse-Query-Id"] = query_id
        headers |= {"X-ClickHouse-Timezone": "UTC", "X-ClickHouse-Server-Display-Name": "weir", "Content-Length": str(len(body))}
        await send({"type": "http.response.start", "status": status, "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()]})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    @staticmethod
    async def _lifespan(receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return

    @staticmethod
    async def _read(scope: dict[str, Any], receive: Receive) -> Request:
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        chunks, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise failure(210, "NETWORK_ERROR", "The client went away")
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > BODY_MAX:
                raise failure(307, "TOO_MANY_BYTES", f"A request's body may have {BODY_MAX} bytes", 413)
            chunks.append(chunk)
            if not message.get("more_body"):
                break
        url = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        return Request(scope["method"], scope["path"], url, headers, b"".join(chunks))

    async def _answer(self, request: Request, query_id: str) -> tuple[int, dict[str, str], bytes]:
        plain = {"Content-Type": "text/plain; charset=UTF-8"}
        if request.path in {"/ping", "/replicas_status"} or (request.path == "/" and request.method in {"GET", "HEAD"} and "query" not in request.url):
            return 200, plain, b"Ok.\n"
        if request.path == "/health":
            return 200, {"Content-Type": "application/json"}, json.dumps({"version": self._engine.version, "under_way": self._under_way}).encode()
        if request.path not in {"/", "/query"}:
            return 404, plain, f"There is no handle {request.path}\n".encode()
        self._authenticate(request)
        if self._under_way >= SLOTS + QUEUE:
            raise failure(202, "TOO_MANY_SIMULTANEOUS_QUERIES", f"Too many simultaneous queries. Maximum: {SLOTS + QUEUE}")
        self._under_way += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, self._execute, request, query_id)
        finally:
            self._under_way -= 1

    def _authenticate(self, request: Request) -> None:
        name, password = request.headers.get("x-clickhouse-user", ""), request.headers.get("x-clickhouse-key", "")
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                name, _, password = base64.b64decode(value, validate=True).decode().partition(":")
            except ValueError:
                raise failure(516, "AUTHENTICATION_FAILED", "Invalid HTTP Basic authentication") from None
        name = name or request.url.get("user", "default")
        password = password or request.url.get("password", "")
        if self._users and self._users.get(name) != password:
            raise failure(516, "AUTHENTICATION_FAILED", f"{name}: Authentication failed: password is incorrect, or there is no user with such name")

    def _execute(self, request: Request, query_id: str) -> tuple[int, dict[str, str], bytes]:
        body = coding.decode(request.body, request.headers.get("content-encoding", "").lower())
        if len(body) > BODY_MAX:
            raise failure(307, "TOO_MANY_BYTES", f"A request's body may have {BODY_MAX} bytes once it is decompressed", 413)
        if request.url.get("decompress") == "1" or request.url.get("compress") == "1":
            raise failure(48, "NOT_IMPLEMENTED", "Native compressed framing (compress=1, decompress=1) is not served; use Content-Encoding")
        in_url = request.url.get("query", "").encode("utf-8", "surrogateescape")
        sql = in_url + b"\n" + body if in_url and body and statements.read(in_url).kind != "INSERT" else in_url or body
        statement = statements.read(sql)
        if not statement.kind:
            raise failure(62, "SYNTAX_ERROR", "Empty query")
        if request.method in {"GET", "HEAD"} and statement.kind not in statements.READING:
            raise failure(164, "READONLY", "Cannot execute query in readonly mode. For queries over HTTP, method GET implies readonly")
        head = sql if statement.insert_data_at < 0 else sql[: statement.insert_data_at]
        why = statements.refusal(head.rstrip(b"; \t\r\n"))
        if why:
            raise failure(62, "SYNTAX_ERROR", why)
        if statement.kind == "KILL":
            sql = statements.rewrite_kill(sql)
        path: Path | None = None
        if statement.kind == "INSERT" and statement.clause_at >= 0 and not statement.has_values:
            data = body if in_url else sql[statement.insert_data_at :]
            sql, path = self._spooled(sql, statement, data)
        try:
            answer = self._run(request, sql, statement, query_id)
        finally:
            if path is not None:
                path.unlink(missing_ok=True)
        return self._respond(request, statement, answer)

    def _spooled(self, sql: bytes, statement: statements.Statement, data: bytes) -> tuple[bytes, Path | None]:
        if statement.insert_data_at < 0 and statement.format == "":
            statement = statements.Statement("INSERT", "TabSeparated", len(sql), len(sql), has_values=False)
            sql += b" FORMAT TabSeparated"
            statement = statements.read(sql)
        with tempfile.NamedTemporaryFile(dir=self._spool, suffix=".data", delete=False) as file:
            file.write(data)
        return statements.from_file(sql, statement, file.name), Path(file.name)

    def _run(self, request: Request, sql: bytes, statement: statements.Statement, query_id: str) -> Answer:
        settings = {k: v for k, v in request.url.items() if k not in _OWN and not k.startswith("param_")}
        wrong = [k for k in settings if not _NAME.fullmatch(k)]
        if wrong:
            raise failure(115, "UNKNOWN_SETTING", f"Unknown setting '{wrong[0]}'", 404)
        settings["log_comment"] = query_id  # the engine takes no query id from a caller; query_log and KILL find it here
        output = statement.format if statement.kind != "INSERT" and statement.format else request.url.get("default_format") or request.headers.get(
            "x-clickhouse-format") or "TabSeparated"
        return self._engine.run(
            sql, output=output, database=request.url.get("database") or request.headers.get("x-clickhouse-database", ""), settings=settings,
            parameters={k.removeprefix("param_"): v for k, v in request.url.items() if k.startswith("param_")},
            session=request.url.get("session_id", ""), session_timeout_s=float(request.url.get("session_timeout", SESSION_TIMEOUT_S)),
            session_check=request.url.get("session_check") == "1",
        )

    @staticmethod
    def _respond(request: Request, statement: statements.Statement, answer: Answer) -> tuple[int, dict[str, str], bytes]:
        output = statement.format or request.url.get("default_format") or request.headers.get("x-clickhouse-format") or "TabSeparated"
        summary = {"read_rows": answer.read_rows, "read_bytes": answer.read_bytes, "written_rows": answer.written_rows, "written_bytes": answer.written_bytes,
                   "total_rows_to_read": "0", "result_rows": "0", "result_bytes": len(answer.body), "elapsed_ns": int(answer.elapsed_s * 1e9)}
        headers = {"X-ClickHouse-Summary": json.dumps({k: str(v) for k, v in summary.items()}), "Content-Type": "text/plain; charset=UTF-8"}
        body = answer.body
        if statement.kind in statements.READING:
            headers["X-ClickHouse-Format"] = output
            headers["Content-Type"] = _CONTENT_TYPE.get(output, "text/plain; charset=UTF-8")
        if request.url.get("enable_http_compression") == "1":
            body, name = coding.encode(body, request.headers.get("accept-encoding", ""))
            if name:
                headers["Content-Encoding"] = name
        return 200, headers, body

    def close(self, wait_s: float = 10.0) -> None:
        """Let running statements end, at most `wait_s`, then close the engine."""
        deadline = time.monotonic() + wait_s
        while self._under_way and time.monotonic() < deadline:
            time.sleep(0.02)
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._engine.close()

"""`python -m weir.telemetry.receiver`: an OTLP/HTTP receiver that writes the standard otel_* tables.

In: POST /v1/traces, /v1/metrics, /v1/logs (protobuf, gzip or not) at WEIR_OTLP_URL. Out: rows in otel.*; GET /health. Keep: a sender is
answered before ClickHouse is asked; what did not fit is told in partial_success and at /health.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import zlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final
from urllib.parse import urlsplit

import uvicorn
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from weir.telemetry import convert, setup
from weir.telemetry.store import ClickHouseSink, Store

Message = dict[str, Any]
BODY_BYTES: Final = 16 << 20  # decompressed; the SDK's batches of 512 are below 1 MiB

# path: request message, answer message, conversion, and the field of partial_success that counts rejected records
_SIGNALS: Final[dict[str, tuple[Any, Any, Callable[[Any], Iterator[convert.Tabled]], str]]] = {
    "/v1/traces": (trace_service_pb2.ExportTraceServiceRequest, trace_service_pb2.ExportTraceServiceResponse, convert.spans, "rejected_spans"),
    "/v1/metrics": (
        metrics_service_pb2.ExportMetricsServiceRequest,
        metrics_service_pb2.ExportMetricsServiceResponse,
        convert.metrics,
        "rejected_data_points",
    ),
    "/v1/logs": (logs_service_pb2.ExportLogsServiceRequest, logs_service_pb2.ExportLogsServiceResponse, convert.logs, "rejected_log_records"),
}


class TooLarge(ValueError):
    """The body is past BODY_BYTES."""


def inflate(body: bytes, encoding: str, limit: int = BODY_BYTES) -> bytes:
    """Undo Content-Encoding, never growing past `limit` bytes.

    Raises:
        TooLarge: past the limit. ValueError: unknown encoding or broken stream.
    """
    if encoding in {"", "identity"}:
        plain = body
    elif encoding in {"gzip", "deflate"}:
        try:
            inflater = zlib.decompressobj(wbits=47)
            plain = inflater.decompress(body, limit + 1)
        except zlib.error as error:
            raise ValueError(f"not {encoding}: {error}") from error
        if len(plain) <= limit and not inflater.eof:
            raise ValueError(f"the {encoding} stream is cut short")
    else:
        raise ValueError(f"encoding {encoding} is not known; send gzip or none")
    if len(plain) > limit:
        raise TooLarge(f"the body is larger than {limit} bytes")
    return plain


class Receiver:
    """The ASGI application over one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def __call__(self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        if scope["path"] == "/health" and scope["method"] in {"GET", "HEAD"}:
            await _answer(send, 200, json.dumps(self._store.health()).encode(), "application/json")
        elif scope["path"] not in _SIGNALS:
            await _answer(send, 404, b"known paths: /v1/traces /v1/metrics /v1/logs /health")
        elif scope["method"] != "POST":
            await _answer(send, 405, b"POST only")
        else:
            status, body = await self._take(scope, receive)
            await _answer(send, status, body, "application/x-protobuf" if status < 400 else "text/plain")  # noqa: PLR2004 - HTTP's own boundary

    async def _take(self, scope: Message, receive: Callable[[], Awaitable[Message]]) -> tuple[int, bytes]:
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        if "json" in headers.get("content-type", ""):
            return 415, b"send application/x-protobuf"
        chunks, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return 400, b"disconnected"
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > BODY_BYTES:
                return 413, b"the body is too large"
            if not message.get("more_body"):
                break
        return self.take(scope["path"], b"".join(chunks), headers.get("content-encoding", "").strip().lower())

    def take(self, path: str, body: bytes, encoding: str) -> tuple[int, bytes]:
        """Decode and queue one export; return (HTTP status, answer)."""
        request_type, answer_type, rows, rejected = _SIGNALS[path]
        try:
            request = request_type.FromString(inflate(body, encoding))
        except TooLarge as error:
            return 413, str(error).encode()
        except (ValueError, DecodeError) as error:
            return 400, str(error).encode()
        _, dropped = self._store.offer(rows(request))
        answer = answer_type()
        if dropped:
            setattr(answer.partial_success, rejected, dropped)
            answer.partial_success.error_message = "the receiver's queue is full, or the kind of metric has no table"
        return 200, answer.SerializeToString()


async def _answer(send: Callable[[Message], Awaitable[None]], status: int, body: bytes, kind: str = "text/plain") -> None:
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def main() -> None:
    """Serve until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    url, clickhouse = os.environ.get("WEIR_OTLP_URL", ""), os.environ.get("WEIR_CLICKHOUSE_URL", "")
    if not url or not clickhouse:
        sys.exit("WEIR_OTLP_URL and WEIR_CLICKHOUSE_URL must be set. Run this through ./weir run, which sets every endpoint")
    parts = urlsplit(url)
    telemetry = setup("otlp", otlp_url=url)  # to itself: a batch of other services' rows makes one span more
    store = Store(ClickHouseSink(clickhouse), telemetry=telemetry)
    server = uvicorn.Server(
        uvicorn.Config(Receiver(store), host=parts.hostname or "127.0.0.1", port=parts.port or 4318, log_level="warning", access_log=False, lifespan="off")
    )
    store.start()
    try:
        asyncio.run(_serve(server))
    finally:
        store.stop()


async def _serve(server: uvicorn.Server) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: setattr(server, "should_exit", True))
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server._serve()  # noqa: SLF001 - serve() would raise the signal again and skip the last write


if __name__ == "__main__":
    main()

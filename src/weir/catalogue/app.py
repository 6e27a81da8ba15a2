"""The HTTP API: GET /items?after=&limit=, GET /items/{id}, GET /health. Answers are Protobuf (`ingest/contracts/item.proto`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from opentelemetry.trace import SpanKind
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from weir.catalogue.entries import PAGE_LIMIT, page
from weir.telemetry import Telemetry, setup

MEDIA_TYPE: Final = "application/x-protobuf"


def build(entries: Sequence[Any], telemetry: Telemetry | None = None) -> Starlette:
    """Return the application over `entries`, which are in order of id. `telemetry`: where each answer's span and time go; by default nowhere."""
    by_id, told = {int(e.item_id): e for e in entries}, telemetry or setup("catalogue", otlp_url="")

    @contextmanager
    def read(request: Request, route: str) -> Iterator[None]:
        parent = request.headers.get("traceparent", "")
        with told.timed("weir.catalogue.request_ms", {"route": route}), told.span("weir.catalogue.read", kind=SpanKind.SERVER, parent=parent):
            yield

    def listing(request: Request) -> Response:
        """Answer a page of entries."""
        try:
            after, limit = int(request.query_params.get("after", 0)), int(request.query_params.get("limit", PAGE_LIMIT))
        except ValueError:
            return PlainTextResponse("after and limit are whole numbers", 400)
        with read(request, "items"):
            return Response(page(entries, after, limit).SerializeToString(), media_type=MEDIA_TYPE)

    def one(request: Request) -> Response:
        with read(request, "item"):
            found = by_id.get(request.path_params["item_id"])
            return Response(found.SerializeToString(), media_type=MEDIA_TYPE) if found else PlainTextResponse("no such item", 404)

    def health(_: Request) -> Response:
        return JSONResponse({"ready": True, "items": len(by_id)})

    return Starlette(routes=[Route("/items", listing), Route("/items/{item_id:int}", one), Route("/health", health)])

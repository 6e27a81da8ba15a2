"""ClickHouse's HTTP interface as an ASGI application around the engine.

In: requests as in ClickHouse's documentation (interfaces/http). Out: its answers and headers. Keep: an exception has its code, name and
status; more work than slots waits, and past the queue gets 503 with Retry-After; a query id runs once at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import time
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from opentelemetry.trace import SpanKind

from weir.gateway import access, answer, coding, request, together
from weir.gateway.accounts import Account, Accounts
from weir.gateway.body import Body
from weir.gateway.engine import Engine
from weir.gateway.exchange import Exchange, Send
from weir.gateway.failures import NO_ROOM, Failure, busy, failure, no_room
from weir.gateway.hold import WAIT_S, Writes
from weir.gateway.lanes import OPEN, ClientGoneError, Lanes
from weir.gateway.quotas import Quotas
from weir.gateway.ready import Who
from weir.gateway.request import Request
from weir.gateway.spool import Spool
from weir.telemetry import Telemetry

Receive = Callable[[], Awaitable[dict[str, Any]]]

Made = TypeVar("Made")

_BATCH_BYTES = 256 << 10  # of a body, taken by a thread at a time
_FREED_BYTES = 4 << 20  # of a file, freed at once: more takes a millisecond or longer
_INLINE_BYTES = 64 << 10  # less is decoded at once: a thread would take longer
_SWEEP_S = 5.0
_KILL_EVERY_S = 0.2
_KINDS = frozenset({"SELECT", "INSERT", "WITH", "CREATE", "ALTER", "DROP", "SHOW", "DESCRIBE", "EXISTS", "SET", "USE", "KILL", "OPTIMIZE", "TRUNCATE", "SYSTEM", "EXPLAIN", "SNAPSHOT", "TOGETHER"})


class Gateway:
    """The application. `accounts`: who may ask for what; None: anyone may do anything."""

    def __init__(self, engine: Engine, spool: Path, *, telemetry: Telemetry, accounts: Accounts | None = None, lanes: Lanes | None = None) -> None:
        self._engine, self._spool, self._telemetry, self._accounts = engine, Spool(spool), telemetry, accounts
        self._lanes, self._quotas, self._writes = lanes or Lanes(), Quotas(), Writes()
        self._pool = ThreadPoolExecutor(max_workers=OPEN + 4, thread_name_prefix="query")
        self._ids: set[str] = set()
        self._none_runs = asyncio.Event()
        self._none_runs.set()
        self._draining = False
        self._spool.clear()
        shutil.rmtree(engine.snapshots, ignore_errors=True)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        beside = [asyncio.ensure_future(self._sweep())]
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                for task in beside:
                    task.cancel()
                return

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            await asyncio.to_thread(self._engine.sessions.sweep)
            await asyncio.to_thread(self._spool.sweep)

    async def _http(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        asked = request.from_scope(scope)
        begun, started, status, kind = False, time.monotonic(), 200, "none"
        account: Account | None = None
        query_id = asked.url.get("query_id") or asked.headers.get("x-clickhouse-query-id") or ""

        async def sending(message: dict[str, Any]) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            if asked.path in {"/snapshot", "/together"}:
                kind = asked.path[1:].upper()
                await (self._snapshot(asked, sending) if kind == "SNAPSHOT" else self._together(asked, receive, sending))
                return
            plain = self._plain(asked)
            if plain is not None:
                await self._send(send, asked, *plain, query_id="")
                return
            account = await self._authenticate(asked)
            query_id = query_id or self._engine.ready.reserve(Who(account.role.name, account.name) if account.role else Who())
            kind = await self._query(asked, account, query_id, receive, sending)
        except ClientGoneError:
            status = 499
            self._telemetry.count("weir.gateway.clients_gone")
        except Failure as error:
            status = error.status
            if not begun:
                text = error.text.encode() + b"\n"
                if account is not None and asked.on("compress"):  # as the server: once it knows who asks, all it says is in the framing
                    text = coding.native_encoder().feed(text)
                await self._send(send, asked, status, answer.of_failure(error), text, query_id=query_id or str(uuid.uuid4()))
        finally:
            self._engine.ready.forget(query_id)
        elapsed_ms = (time.monotonic() - started) * 1000
        self._telemetry.record("weir.gateway.request_ms", elapsed_ms, {"kind": kind if kind in _KINDS else "other", "status": status})

    def _plain(self, asked: Request) -> tuple[int, answer.Headers, bytes] | None:
        """Return (status, headers, body) of a request that is no query, else None."""
        text: answer.Headers = [("Content-Type", answer.TEXT)]
        if asked.path in {"/ping", "/replicas_status"} or (asked.path == "/" and asked.method in {"GET", "HEAD"} and "query" not in asked.url):
            return 200, text, b"Ok.\n"
        if asked.path == "/health":
            lanes = self._lanes
            state = {"version": self._engine.version, "under_way": lanes.running, "waiting": lanes.waiting, "beyond": lanes.beyond,
                     "sessions": len(self._engine.sessions), "draining": self._draining}  # fmt: skip
            return 200, [("Content-Type", "application/json")], json.dumps(state).encode()
        if asked.path not in {"/", "/query"}:
            return 404, text, f"There is no handle {asked.path}\n".encode()
        return None

    async def _send(self, send: Send, asked: Request, status: int, headers: answer.Headers, body: bytes, *, query_id: str) -> None:
        closing = [("Connection", "close")] if self._draining else []
        raw = [*answer.always(query_id), *headers, *closing, ("Content-Length", str(len(body)))]
        await send({"type": "http.response.start", "status": status, "headers": [(k.lower().encode(), v.encode()) for k, v in raw]})
        await send({"type": "http.response.body", "body": b"" if asked.method == "HEAD" else body})

    async def _authenticate(self, asked: Request) -> Account:
        if self._accounts is None:
            return Account(asked.url.get("user", "default"))
        try:
            name, password = request.credentials(asked)
            known = self._accounts.known(name, password)
            return known if known is not None else await asyncio.to_thread(self._accounts.authenticate, name, password)
        except Failure:
            self._telemetry.count("weir.gateway.refused")
            raise

    async def _query(self, asked: Request, account: Account, query_id: str, receive: Receive, send: Send) -> str:
        """Run a query and answer it; return its kind."""
        if self._draining:
            raise busy("The server is shutting down")
        if query_id in self._ids:
            raise failure(216, "QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING", f"Query with id = {query_id} is already running")
        decoder = coding.decoder(asked.headers.get("content-encoding", ""), native_framing=asked.on("decompress"))
        body = Body(asked.url.get("query", "").encode("utf-8", "surrogateescape"), self._spool, decoder, is_form=asked.is_form)
        self._ids.add(query_id)
        self._none_runs.clear()
        try:
            await _receive(receive, body)
            inline = body.size <= _INLINE_BYTES and not asked.is_form
            self._quotas.begin(account)
            planning = (asked, body, self._spool.folder, query_id, account)
            plan = request.plan(*planning) if inline else await _in_thread(request.plan, *planning)
            if plan.statement.kind == "INSERT":
                self._engine.reach("received")
            gone = asyncio.ensure_future(_gone(receive))
            exchange = Exchange(self._engine, self._pool, self._lanes, send, asked, plan, gone, lambda: self._draining)
            try:
                # a KILL goes on: what is waited for may be what it ends
                async with contextlib.nullcontext() if plan.statement.reads or plan.statement.kind == "KILL" else self._writes.one():
                    await self._exchange(exchange, asked, plan.statement.kind)
            finally:
                self._quotas.end(account, exchange.read_rows)
                gone.cancel()
        except OSError as error:
            if error.errno in NO_ROOM:
                raise no_room() from error
            raise
        finally:
            self._ids.discard(query_id)
            if not self._ids:
                self._none_runs.set()
            await _discard(body)
        return plan.statement.kind

    async def _snapshot(self, asked: Request, send: Send) -> None:
        """Make a cut of all tables at one moment: POST /snapshot[?wait_s=30]; the answer names its folder, which the caller reads and removes."""
        wait_s = await self._admitted(asked)
        async with self._writes.hold(wait_s) as since:
            made = await asyncio.shield(asyncio.to_thread(self._engine.snapshot, since))
        await self._send(send, asked, 200, [("Content-Type", "application/json")], json.dumps(made).encode() + b"\n", query_id="")

    async def _together(self, asked: Request, receive: Receive, send: Send) -> None:
        """Run statements together while nothing else writes: POST /together[?wait_s=30] with a JSON list of them; runs on when the client goes."""
        wait_s = await self._admitted(asked)
        if self._draining:
            raise busy("The server is shutting down")
        body = Body(b"", self._spool, coding.decoder(asked.headers.get("content-encoding", ""), native_framing=False), is_form=False)
        try:
            await _receive(receive, body)
            wanted = together.read(body.sql())
        finally:
            await _discard(body)
        made = await asyncio.shield(asyncio.ensure_future(self._held_for(wanted, wait_s)))
        await self._send(send, asked, 200, [("Content-Type", "application/json")], json.dumps(made).encode() + b"\n", query_id="")

    async def _held_for(self, wanted: list[str], wait_s: float) -> dict[str, float | int]:
        async with self._writes.hold(wait_s) as since:
            return await asyncio.to_thread(self._engine.together, wanted, since)

    async def _admitted(self, asked: Request) -> float:
        """Return for how long a request that holds writes waits for those that run (s); refuse whoever may not hold them."""
        account = await self._authenticate(asked)
        if asked.method != "POST":
            raise failure(501, "INVALID_HTTP_METHOD", f"{asked.path} is asked by POST", 405)
        if not account.free:
            raise access.denied(asked.path)
        try:
            return float(asked.url.get("wait_s", WAIT_S))
        except ValueError:
            raise failure(36, "BAD_ARGUMENTS", f"wait_s is no number of seconds: '{asked.url['wait_s']}'") from None

    async def _exchange(self, exchange: Exchange, asked: Request, kind: str) -> None:
        parent = asked.headers.get("traceparent", "")
        attributes = {"kind": kind if kind in _KINDS else "other"}
        try:
            if not parent:  # spans are for requests that someone traces: one for each would write more than it tells
                await exchange.run()
                return
            with self._telemetry.span("weir.gateway.query", kind=SpanKind.SERVER, parent=parent, attributes=attributes):
                await exchange.run()
        finally:
            self._telemetry.record("weir.gateway.queue_s", exchange.queued_s)
            if exchange.restarts:
                self._telemetry.count("weir.gateway.restarts", exchange.restarts)

    async def drain(self, wait_s: float) -> None:
        """Take no more queries; let those that run end, for at most `wait_s`, then stop them."""
        self._draining = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._none_runs.wait(), wait_s)
        while self._ids:
            for query_id in list(self._ids):
                await asyncio.to_thread(self._engine.kill, query_id)
            await asyncio.sleep(_KILL_EVERY_S)

    def close(self, wait_s: float) -> bool:
        """Close the engine once no statement runs, waiting at most `wait_s`; False: one still does, and the engine was left open."""
        if not self._engine.wait_idle(wait_s):
            return False
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._spool.clear()
        self._engine.close()
        return True


async def _receive(receive: Receive, body: Body) -> None:
    """Read the body of a request.

    Raises:
        ClientGoneError: the client closed its connection first. Failure: the body cannot be taken.
    """
    held: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        piece, more = message.get("body", b""), message.get("more_body", False)
        if not held and body.is_quick(len(piece)):
            body.feed(piece)
            continue
        held.append(piece)
        size += len(piece)
        if not more or size >= _BATCH_BYTES:
            raw = b"".join(held)
            if size <= _INLINE_BYTES:
                body.feed(raw)
            else:
                await _in_thread(body.feed, raw)
            held.clear()
            size = 0
    body.end()


async def _in_thread(call: Callable[..., Made], *arguments: Any) -> Made:
    """Call in a thread; whoever is cancelled meanwhile waits for it, since the file that it writes is another body's afterwards."""
    work = asyncio.ensure_future(asyncio.to_thread(call, *arguments))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait({work})
        raise


async def _discard(body: Body) -> None:
    """Let a body's files go; in a thread where that frees many pages, or a file on the disk."""
    if body.spilled and body.size > _FREED_BYTES:
        await asyncio.shield(asyncio.to_thread(body.discard))
    else:
        body.discard()


async def _gone(receive: Receive) -> None:
    """Return when the client closes its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass

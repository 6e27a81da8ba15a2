"""One statement from its request to the last byte of its answer.

In: a `Plan`, the client's connection, the lanes. Out: the answer. Keep: a statement that nobody waits for is stopped if it only reads; one that
writes runs to its end; whatever happens, no thread is left in the engine when this returns, and the session is free before the last byte goes.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weir.gateway import answer, blocks, coding
from weir.gateway.engine import Engine
from weir.gateway.failures import QUERY_WAS_CANCELLED, Failure, busy
from weir.gateway.lanes import ClientGoneError, Lanes, Ticket
from weir.gateway.request import Plan, Request
from weir.gateway.running import Running

Send = Callable[[dict[str, Any]], Awaitable[None]]

BUFFER_BYTES = 1 << 20  # held before the first byte goes, so that most exceptions still get their status (the server's own buffer_size)
_FILE_PIECE_BYTES = 1 << 20
_KILL_EVERY_S = 0.2
_SLICE_BYTES = 256 << 10  # of a piece, given to the server at a time


class RestartError(Exception):
    """The statement was stopped to make room, and is to run again."""


@dataclass(slots=True)
class Begun:
    """A statement whose first bytes are there. `ended`: they are all, and the connection is given back."""

    running: Running
    data: bytes
    ended: bool


def begin(engine: Engine, plan: Plan) -> Begun:
    """Run a statement up to its first BUFFER_BYTES; in a thread of the pool.

    Raises:
        Failure: the engine refuses it.
    """
    if plan.answer_path is not None:
        plan.answer_path.unlink(missing_ok=True)  # of a run that was stopped
    since = time.time()
    running = engine.start(plan.work)
    try:
        pieces, size = [], 0
        while size < BUFFER_BYTES:
            piece = running.read()
            if piece is None:
                break
            pieces.append(piece)
            size += len(piece)
        else:
            return Begun(running, b"".join(pieces), ended=False)
    except BaseException:
        running.abandon()
        raise
    if running.revised and plan.answer_path is not None and plan.answer_path.exists():
        blocks.rewrite(plan.answer_path, running.revised)
    if plan.statement.kind == "INSERT":
        engine.reach("inserted")
        engine.sync_tokens(since - 1)  # before it is acknowledged; file systems keep times more coarsely than we do
        engine.reach("synced")
    elif not plan.statement.reads:
        engine.tables_changed()
        if plan.statement.kind == "WITH":  # an INSERT may stand behind it
            engine.sync_tokens(since - 1)
    return Begun(running, b"".join(pieces), ended=True)


class Exchange:
    """One request under way. `gone` ends when the client closes its connection; `draining` says that the server ends."""

    def __init__(
        self, engine: Engine, pool: Executor, lanes: Lanes, send: Send, request: Request, plan: Plan, gone: asyncio.Future[None], draining: Callable[[], bool]
    ) -> None:
        self._engine, self._pool, self._lanes, self._send = engine, pool, lanes, send
        self._request, self._plan, self._gone, self._draining = request, plan, gone, draining
        self._id = plan.work.query_id
        self.restarts = 0
        self.queued_s = 0.0
        self._running: Running | None = None

    @property
    def read_rows(self) -> int:
        """Rows that the statement has read so far."""
        return self._running.counts.read_rows if self._running else 0

    async def run(self) -> None:
        """Run the statement and send its answer.

        Raises:
            Failure: before the first byte. ClientGoneError: nobody waits.
        """
        asked = time.monotonic()
        ticket = await self._lanes.enter(self._gone)
        self.queued_s = time.monotonic() - asked
        try:
            begun = await self._begun(ticket)
            if begun.ended:
                ticket.leave()
            await (self._stream(begun, ticket) if not begun.ended else self._complete(begun))
        finally:
            ticket.leave()

    async def _begun(self, ticket: Ticket) -> Begun:
        restartable = self._plan.statement.reads
        while True:
            work = self._in_thread(begin, self._engine, self._plan)
            try:
                begun: Begun = await self._attended(work, ticket, restartable=restartable)
            except RestartError:
                if self._draining():
                    raise busy("The server is shutting down") from None
                self.restarts += 1
                await ticket.again(self._gone)
                restartable = False
            else:
                self._running = begun.running
                return begun

    def _in_thread(self, call: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().run_in_executor(self._pool, call, *arguments)

    async def _attended(self, work: asyncio.Future[Any], ticket: Ticket, *, restartable: bool) -> Any:
        """Wait for `work`; meanwhile promote what grows old, and stop what nobody waits for."""
        stops = self._plan.statement.reads
        try:
            while not work.done():
                if self._gone.done() and stops:  # also of a client that went while the statement waited for its turn
                    await self._stop(work)
                    await self._thrown_away(work)
                    raise ClientGoneError
                watched = {work} if self._gone.done() else {work, self._gone}
                seconds = self._lanes.promote_s if ticket.is_short else None
                await asyncio.wait(watched, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
                if work.done() or (self._gone.done() and stops):
                    continue
                if ticket.is_short and not ticket.promote(restartable=restartable):
                    await self._stop(work)
                    if (error := work.exception()) is not None and getattr(error, "code", None) == QUERY_WAS_CANCELLED:
                        raise RestartError
        except asyncio.CancelledError:
            await self._stop(work)
            await self._thrown_away(work)
            raise
        return work.result()

    async def _stop(self, work: asyncio.Future[Any]) -> None:
        """Kill the statement until its thread is out of the engine: a first KILL may come before the engine has seen it."""
        while not work.done():
            await asyncio.get_running_loop().run_in_executor(None, self._engine.kill, self._id)
            await asyncio.wait({work}, timeout=_KILL_EVERY_S)

    async def _thrown_away(self, work: asyncio.Future[Any]) -> None:
        if work.exception() is None and isinstance(found := work.result(), Begun):
            await self._in_thread(found.running.abandon)

    def _encoder(self) -> tuple[coding.Coder | None, answer.Headers]:
        if self._request.on("compress"):
            return coding.native_encoder(), []
        if not self._request.on("enable_http_compression"):
            return None, []
        coder, name = coding.encoder(self._request.headers.get("accept-encoding", ""))
        return coder, [("Content-Encoding", name)] if name else []

    async def _start(self, headers: answer.Headers) -> None:
        closing = [("Connection", "close")] if self._draining() else []
        raw = [(k.lower().encode(), v.encode()) for k, v in [*answer.always(self._id), *headers, *closing]]
        await self._send({"type": "http.response.start", "status": 200, "headers": raw})

    async def _complete(self, begun: Begun) -> None:
        """Send an answer that is whole: in memory, or in the file that the engine wrote."""
        path = self._plan.answer_path
        size = (path.stat().st_size if path.exists() else 0) if path is not None else len(begun.data)
        headers = answer.of_result(self._plan, begun.running.counts, begun.running.progress, size)
        coder, coded = self._encoder() if size >= coding.WORTHWHILE_BYTES or self._request.on("compress") else (None, [])
        head = self._request.method == "HEAD"
        if path is not None and not head and size > _FILE_PIECE_BYTES:
            await self._file(path, size, headers + coded, coder)
            return
        body = begun.data if path is None else (path.read_bytes() if size else b"")
        if coder is not None:
            body = await self._coded(coder, body, last=True)
        await self._start([*headers, *coded, ("Content-Length", str(len(body)))])
        await self._send({"type": "http.response.body", "body": b"" if head else body})

    async def _file(self, path: Path, size: int, headers: answer.Headers, coder: coding.Coder | None) -> None:
        await self._start(headers + ([] if coder else [("Content-Length", str(size))]))
        with path.open("rb") as file:
            more = True
            while more and not self._gone.done():
                piece = await self._in_thread(file.read, _FILE_PIECE_BYTES)
                more = file.tell() < size and bool(piece)
                data = await self._coded(coder, piece, last=not more) if coder else piece
                await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def _coded(self, coder: coding.Coder, data: bytes, *, last: bool) -> bytes:
        def code() -> bytes:
            return coder.feed(data) + (coder.end() if last else b"")

        return code() if len(data) <= coding.SLICE_BYTES else await asyncio.get_running_loop().run_in_executor(None, code)

    async def _stream(self, begun: Begun, ticket: Ticket) -> None:
        """Send an answer piece by piece, one behind the engine: the connection is given back before the last one goes.

        While a piece goes the engine makes the next.
        """
        running, pieces = begun.running, [begun.data]
        coder, coded = self._encoder()
        tag = secrets.token_hex(8)
        making: asyncio.Task[bytes | None] | None = None
        try:
            headers = answer.of_result(self._plan, running.counts, running.progress, len(begun.data))
            await self._start([*headers, *coded, ("X-ClickHouse-Exception-Tag", tag)])
            if self._request.method == "HEAD":
                await self._send({"type": "http.response.body", "body": b""})
                return
            ended = broken = False
            while pieces:
                if not ended:
                    making = asyncio.ensure_future(self._next(running, ticket))
                if len(pieces) > 1 or ended:
                    last = ended and len(pieces) == 1
                    piece = pieces.pop(0)
                    data = await self._coded(coder, piece, last=last) if coder else piece
                    await self._send_sliced(data, more=not last or broken)
                if making is not None:
                    try:
                        made = await making
                    except Failure as error:  # as the server does: the chunked body is left without its end, so that no client takes it for whole
                        made, broken = None, True
                        pieces[-1] += answer.after_data(error, tag)
                    making, ended = None, made is None
                    pieces += [made] if made is not None else []
        finally:
            if making is not None:
                making.cancel()
                await asyncio.wait({making})
            await self._in_thread(running.abandon)

    async def _send_sliced(self, data: bytes, *, more: bool) -> None:
        """Send a piece of a body; a large one slice by slice, each of which the server copies once more, so that the copy stays in the processor's cache.

        Raises:
            ClientGoneError: nobody takes it.
        """
        view = memoryview(data)
        for at in range(0, max(1, len(data)), _SLICE_BYTES):
            left = at + _SLICE_BYTES < len(data)
            if at:  # a client that went is noticed between two slices, not after all of them
                await asyncio.sleep(0)
                if self._gone.done():
                    raise ClientGoneError
            await self._send({"type": "http.response.body", "body": view[at : at + _SLICE_BYTES], "more_body": left or more})

    async def _next(self, running: Running, ticket: Ticket) -> bytes | None:
        """Return the next piece, or None at the end; holds a slot while the engine makes it, and none while the client takes it."""
        if self._gone.done():
            raise ClientGoneError
        await ticket.resume(self._gone)
        piece: bytes | None = await self._attended(self._in_thread(running.read), ticket, restartable=False)
        ticket.pause()
        return piece

"""A request's body, decoded as it comes: in memory while it is small, then in a file.

In: pieces of the body, and the query of the URL. Out: the statement (`sql`), and a file of the data behind it. Keep: memory is bounded whatever
comes; the data of an INSERT never passes through memory whole.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import IO

from weir.gateway import statements
from weir.gateway.coding import Decoder
from weir.gateway.failures import failure, no_room

MEMORY_BYTES = 256 << 10  # the server's own max_query_size: a statement that is longer must be an INSERT with its data
SQL_MAX_BYTES = 64 << 20  # a client may raise max_query_size; this much of SQL is held in memory at most
LIMIT_BYTES = 64 << 30
FREE_BYTES = 1 << 30  # left free on the disk, for the engine


class Body:
    """The body of one request. `in_url`: the URL's query; `spool`: folder for its file; `is_form`: it is no SQL, but parts of a form."""

    def __init__(self, in_url: bytes, spool: Path, decoder: Decoder, *, is_form: bool = False, limit: int = LIMIT_BYTES) -> None:
        self._in_url, self._spool, self._decoder, self._is_form, self._limit = in_url, spool, decoder, is_form, limit
        self._memory = bytearray()
        self._file: IO[bytes] | None = None
        self._head = b""  # the statement before the file's data
        self.size, self.plain = 0, decoder.plain
        self.paths: list[Path] = []

    def feed(self, raw: bytes) -> None:
        """Take a piece.

        Raises:
            Failure: it cannot be decoded, or it is too much.
        """
        self._take(self._decoder.feed(raw))

    def end(self) -> None:
        """Take the end.

        Raises:
            Failure: the body is cut short.
        """
        self._take(self._decoder.end())
        if self._file is not None:
            self._file.close()

    def _take(self, data: bytes) -> None:
        self.size += len(data)
        if self.size > self._limit:
            raise failure(307, "TOO_MANY_BYTES", f"A request's body may have {self._limit} bytes", 413)
        if self._file is not None:
            self._write(data)
            return
        self._memory += data
        if len(self._memory) > MEMORY_BYTES:
            self._spill()

    def _spill(self) -> None:
        memory = bytes(self._memory)
        if not self._in_url and not self._is_form:
            at = statements.read(memory).insert_data_at
            self._head, memory = (memory[:at], memory[at:]) if at >= 0 else (b"", memory)
        self._file = self._new()
        self._memory.clear()
        self._write(memory)

    def _write(self, data: bytes) -> None:
        if self._file is None:
            return
        if self.size % (64 << 20) < len(data) and shutil.disk_usage(self._spool).free < FREE_BYTES:
            raise no_room()
        self._file.write(data)

    def _new(self) -> IO[bytes]:
        file = tempfile.NamedTemporaryFile(dir=self._spool, suffix=".data", delete=False)  # noqa: SIM115 - closed by end() or discard()
        self.paths.append(Path(file.name))
        return file

    @property
    def spilled(self) -> bool:
        """Whether the body is in a file."""
        return self._file is not None

    def sql(self) -> bytes:
        """Return the statement: the URL's query, then the body as far as it is no data of an INSERT.

        Raises:
            Failure: it is longer than SQL_MAX_BYTES.
        """
        if self._file is None:
            return self._joined(bytes(self._memory))
        if self._in_url and statements.read(self._in_url).kind == "INSERT":
            return self._in_url
        if self._head:
            return self._head
        if self.size > SQL_MAX_BYTES:
            raise failure(62, "SYNTAX_ERROR", f"Max query size exceeded: a statement may have {SQL_MAX_BYTES} bytes")
        return self._joined(self.paths[0].read_bytes())

    def _joined(self, body: bytes) -> bytes:
        if not self._in_url or not body:
            return self._in_url or body
        inserts = statements.read(self._in_url).kind == "INSERT"
        return self._in_url if inserts else self._in_url + b"\n" + body

    def data(self, statement: statements.Statement) -> Path:
        """Return the file of the data of the INSERT that `sql` gave: what its own bytes hold of it, then the body."""
        at = statement.insert_data_at
        after = self._in_url[at:] if self._in_url and at >= 0 else b""
        if self._file is not None:
            return self._prefixed(after) if after.strip() else self.paths[0]
        memory = bytes(self._memory)
        with self._new() as file:
            file.write(after + memory if self._in_url else memory[at:])
        return self.paths[-1]

    def whole(self) -> Path:
        """Return a file of the whole body."""
        if self._file is None:
            with self._new() as file:
                file.write(self._memory)
        return self.paths[0]

    def _prefixed(self, head: bytes) -> Path:
        with self._new() as whole, self.paths[0].open("rb") as rest:
            whole.write(head)
            shutil.copyfileobj(rest, whole, 1 << 20)
        return self.paths[-1]

    def new_path(self) -> Path:
        """Return the name of one more file, which the engine writes itself; it is not there yet."""
        with self._new() as file:
            path = Path(file.name)
        path.unlink()
        return path

    def discard(self) -> None:
        """Remove the files."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # closing writes what is left, and on a full disk fails as the write did: the file is to go all the same
                self._file.close()
        for path in self.paths:
            path.unlink(missing_ok=True)
        self.paths.clear()

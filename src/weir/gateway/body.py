"""A request's body, decoded as it comes: held while it is small, then in a file (spool.py).

In: pieces of the body, and the query of the URL. Out: the statement (`sql`), and a file of the data behind it. Keep: memory is bounded whatever
comes.
"""

from __future__ import annotations

from pathlib import Path

from weir.gateway import statements
from weir.gateway.coding import Decoder
from weir.gateway.failures import failure
from weir.gateway.spool import Spool, SpoolFile

MEMORY_BYTES = 256 << 10  # the server's own max_query_size: a statement that is longer must be an INSERT with its data
SQL_MAX_BYTES = 64 << 20  # a client may raise max_query_size; this much of SQL is held in memory at most
LIMIT_BYTES = 64 << 30
_PIECE_BYTES = 1 << 20


class Body:
    """The body of one request. `in_url`: the URL's query; `spool`: where its file will be; `is_form`: it is no SQL, but parts of a form."""

    def __init__(self, in_url: bytes, spool: Spool, decoder: Decoder, *, is_form: bool = False, limit: int = LIMIT_BYTES) -> None:
        self._in_url, self._spool, self._decoder, self._is_form, self._limit = in_url, spool, decoder, is_form, limit
        self._memory = bytearray()
        self._file: SpoolFile | None = None
        self._head = b""  # the statement before the file's data
        self.size = 0
        self._more: list[SpoolFile] = []  # files of its data beside its own
        self.paths: list[Path] = []  # on the disk, that end with it

    def is_quick(self, size: int) -> bool:
        """Say whether a piece of so many bytes is taken without decoding and without the disk: in less than a thread's turn."""
        return self._decoder.plain and (self._file is None or self._file.fits(size))

    def feed(self, raw: bytes) -> None:
        """Take a piece.

        Raises:
            Failure: it cannot be decoded, or it is too much.
        """
        for piece in self._decoder.pieces(raw):
            self._take(piece)

    def end(self) -> None:
        """Take the end.

        Raises:
            Failure: the body is cut short.
        """
        self._decoder.end()
        if self._file is not None:
            self._file.close()

    def _take(self, data: bytes) -> None:
        self.size += len(data)
        if self.size > self._limit:
            raise failure(307, "TOO_MANY_BYTES", f"A request's body may have {self._limit} bytes", 413)
        if self._file is not None:
            self._file.write(data)
            return
        self._memory += data
        if len(self._memory) > MEMORY_BYTES:
            self._spill()

    def _spill(self) -> None:
        memory = bytes(self._memory)
        if not self._in_url and not self._is_form:
            at = statements.read(memory).insert_data_at
            self._head, memory = (memory[:at], memory[at:]) if at >= 0 else (b"", memory)
        self._file = self._spool.file()
        self._memory.clear()
        self._file.write(memory)

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
        return self._joined(self._file.path.read_bytes())

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
            return self._prefixed(after, self._file) if after.strip() else self._file.path
        memory = bytes(self._memory)
        return self._of(after + memory if self._in_url else memory[at:])

    def whole(self) -> Path:
        """Return a file of the whole body."""
        return self._file.path if self._file is not None else self._of(self._memory)

    def _of(self, data: bytes | bytearray) -> Path:
        file = self._spool.file()
        self._more.append(file)
        file.write(data)
        file.close()
        return file.path

    def _prefixed(self, head: bytes, own: SpoolFile) -> Path:
        whole = self._spool.file()
        self._more.append(whole)
        whole.write(head)
        with own.path.open("rb") as rest:
            while piece := rest.read(_PIECE_BYTES):
                whole.write(piece)
        whole.close()
        return whole.path

    def new_path(self) -> Path:
        """Return the name of one more file, which the engine writes itself; it is not there yet."""
        with self._spool.on_disk() as file:
            path = Path(file.name)
        path.unlink()
        self.paths.append(path)
        return path

    def discard(self) -> None:
        """Remove the files."""
        for file in (self._file, *self._more):
            if file is not None:
                file.discard()
        self._file = None
        self._more.clear()
        for path in self.paths:
            path.unlink(missing_ok=True)
        self.paths.clear()

"""A gateway over HTTP and its engine in process, side by side, for the benchmarks that set the one against the other.

In: a folder. Out: two things that run a statement: `OverHttp` on one kept connection, and `InProcess`, which is the same engine with the same
configuration (settings, syncs, logs) on a folder of its own. Keep: neither reads an answer as anything but bytes, so that no decoding is measured.
"""

from __future__ import annotations

import socket
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from weir.gateway import config

MEMORY_BYTES = 4 << 30  # the gateway's own default
_READ_BYTES = 1 << 20


class OverHttp:
    """One keep-alive connection to the gateway at `url`, on a plain socket: Python's own HTTP clients take 0.1 to 0.4 ms a request for themselves."""

    def __init__(self, url: str) -> None:
        where = urllib.parse.urlsplit(url)
        self._socket = socket.create_connection((where.hostname or "", where.port or 0), timeout=300)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb", _READ_BYTES)

    def _request(self, sql: str, body: bytes, url: dict[str, str]) -> dict[bytes, bytes]:
        query = urllib.parse.urlencode({**url, **({"query": sql} if body else {})})
        sent = body or sql.encode()
        self._socket.sendall(b"POST /?%b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (query.encode(), len(sent)) + sent)
        status = self._file.readline()
        headers = {}
        while (line := self._file.readline()) != b"\r\n":
            key, _, value = line.partition(b": ")
            headers[key.lower()] = value.strip()
        if b" 200 " not in status:
            raise SystemExit(f"{sql[:80]}: {self._file.read(int(headers[b'content-length'])).decode(errors='replace')[:500]}")
        return headers

    def ask(self, sql: str, body: bytes = b"", **url: str) -> bytes:
        """Run a statement and return its answer; with a body the statement goes into the URL.

        Raises:
            SystemExit: the answer is not 200.
        """
        headers = self._request(sql, body, url)
        if b"content-length" in headers:
            return self._file.read(int(headers[b"content-length"]))
        return b"".join(self._chunks())

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self._file.readline(), 16):
            yield self._file.read(size + 2)[:-2]
        self._file.readline()

    def stream(self, sql: str) -> int:
        """Run a query, read its answer to the end, keep nothing; return its bytes."""
        headers, buffer, size = self._request(sql, b"", {}), memoryview(bytearray(_READ_BYTES)), 0
        if b"content-length" in headers:
            return self._discard(int(headers[b"content-length"]), buffer)
        while count := int(self._file.readline(), 16):
            size += self._discard(count, buffer)
            self._file.readline()
        self._file.readline()
        return size

    def _discard(self, size: int, buffer: memoryview) -> int:
        left = size
        while left:
            left -= self._file.readinto(buffer[:left])
        return size

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self._socket.close()


class InProcess:
    """The engine in this process over `path`; one process can have one."""

    def __init__(self, path: Path) -> None:
        import chdb

        path.mkdir(parents=True)
        self._address, self._chdb = f"{path / 'data'}?config-file={config.write(path, MEMORY_BYTES)}", chdb
        self._connection = chdb.connect(self._address)

    def another(self) -> Any:
        """Return a further connection to the same engine."""
        return self._chdb.connect(self._address)

    def ask(self, sql: str) -> bytes:
        """Run a statement on the open connection and return its answer."""
        return bytes(self._connection.query(sql, "TabSeparated").bytes() or b"")

    def stream(self, sql: str) -> int:
        """Run a query and take its pieces as they come; return its bytes."""
        return sum(len(piece) for piece in self._pieces(sql))

    def _pieces(self, sql: str) -> Iterator[bytes]:
        result = self._connection.send_query(sql, "TabSeparated")
        while (piece := result.fetch()) is not None:
            yield bytes(piece.bytes() or b"")

    def close(self) -> None:
        """Close the engine."""
        self._connection.close()

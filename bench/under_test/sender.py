"""A process that sends bytes over loopback and does nothing else: what a long answer costs whoever sends it, an engine or not.

In: a connection that says how many bytes it wants, as a line. Out: those bytes, written 256 KiB at a time, as the gateway hands them on. Keep: they are the
same piece of memory each time, so that nothing but the socket and its reader is measured.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import socket
from collections.abc import Iterator
from typing import Final

_SLICE: Final = bytes(256 << 10)
_READ_BYTES: Final = 1 << 20


def _serve(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection, connection.makefile("rb") as asked:
        for line in asked:
            left = int(line)
            while left > 0:
                connection.sendall(_SLICE[:left] if left < len(_SLICE) else _SLICE)
                left -= len(_SLICE)


class Reader:
    """The other end. `read`: ask for so many bytes and read them to their end."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._buffer = memoryview(bytearray(_READ_BYTES))

    def read(self, size: int) -> None:
        """Read `size` bytes, keep nothing.

        Raises:
            SystemExit: the sender went.
        """
        self._socket.sendall(b"%d\n" % size)
        while size:
            got = self._socket.recv_into(self._buffer[:size])
            if not got:
                raise SystemExit("the sender of plain bytes ended")
            size -= got

    def close(self) -> None:
        """Close the connection, which ends the sender."""
        self._socket.close()


@contextlib.contextmanager
def sender() -> Iterator[Reader]:
    """Start a sender in a process of its own, which ends with the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = multiprocessing.get_context("fork").Process(target=_serve, args=(listener,), daemon=True)
        process.start()
        reader = Reader(listener.getsockname()[1])
    try:
        yield reader
    finally:
        reader.close()
        process.join(10)

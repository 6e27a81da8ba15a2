"""Content codings of requests and answers, piece by piece: gzip, deflate, br, zstd, lz4, xz, bz2, and ClickHouse's own framing (native).

In: bytes in any cut. Out: bytes. Keep: memory is that of a piece, however little a hostile body needs to say much; a body that is cut short is refused, never read in part.
"""

from __future__ import annotations

import bz2
import contextlib
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import brotli
import lz4.frame
import zstandard

from weir.gateway import native
from weir.gateway.failures import Failure, failure

WORTHWHILE_BYTES = 1024
SLICE_BYTES = 4096  # less is encoded at once: a thread would take longer
PIECE_BYTES = 1 << 20  # of a decoded body at a time, where a decompressor lets itself be held to that
_ZSTD_SLICE_BYTES = 512  # zstd's does not: a block of 4 bytes may mean 128 KiB, so that a slice is 16 MiB at most


class Coder(Protocol):
    """An encoder."""

    def feed(self, data: bytes) -> bytes:
        """Return what `data` gives."""
        ...

    def end(self) -> bytes:
        """Return what is left at the end of the body."""
        ...


class _Step(Protocol):
    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` gives, in pieces of bounded size."""
        ...

    def end(self) -> bytes:
        """Return nothing, or raise EOFError when the body is cut short."""
        ...


class _Frames:
    """Clients compress block by block, so a body may be many frames one after another. `inflate`: how a decompressor of `make` is held to bounded pieces."""

    def __init__(self, make: Callable[[], Any], inflate: Callable[[Any, bytes], Iterator[bytes]], slice_bytes: int = PIECE_BYTES) -> None:
        self._make, self._inflate, self._slice_bytes, self._frame = make, inflate, slice_bytes, make()
        self._begun = False

    def pieces(self, data: bytes) -> Iterator[bytes]:
        for at in range(0, len(data), self._slice_bytes):
            left = data[at : at + self._slice_bytes]
            while left:
                self._begun = True
                yield from self._inflate(self._frame, left)
                left = b""
                if self._frame.eof:
                    left, self._begun = self._frame.unused_data or b"", False
                    self._frame = self._make()

    def end(self) -> bytes:
        if self._begun:
            raise EOFError("the last frame is cut short")
        return b""


def _by_tail(frame: Any, data: bytes) -> Iterator[bytes]:
    """Decompress as zlib does: input that did not fit is handed back, and output may still be held when none is left."""
    full = True
    while not frame.eof and (data or full):
        made = frame.decompress(data, PIECE_BYTES)
        full, data = len(made) == PIECE_BYTES, frame.unconsumed_tail
        yield made


def _by_need(frame: Any, data: bytes) -> Iterator[bytes]:
    """Decompress as bz2, lzma and lz4 do: what did not fit is kept."""
    yield frame.decompress(data, PIECE_BYTES)
    while not frame.eof and not frame.needs_input:
        yield frame.decompress(b"", PIECE_BYTES)


def _at_once(frame: Any, data: bytes) -> Iterator[bytes]:
    """Decompress as zstandard does: the slice alone bounds it."""
    yield frame.decompress(data)


class _Brotli:
    def __init__(self) -> None:
        self._frame = brotli.Decompressor()

    def pieces(self, data: bytes) -> Iterator[bytes]:
        more = True
        while more:
            made = self._frame.process(data, output_buffer_limit=PIECE_BYTES)
            more, data = len(made) >= PIECE_BYTES or not self._frame.can_accept_more_data(), b""
            yield made

    def end(self) -> bytes:
        if not self._frame.is_finished():
            raise EOFError("the stream is cut short")
        return b""


class _Lz4:
    def __init__(self) -> None:
        self._frame = lz4.frame.LZ4FrameCompressor()
        self._begun = False

    def feed(self, data: bytes) -> bytes:
        head = b"" if self._begun else bytes(self._frame.begin())
        self._begun = True
        return head + bytes(self._frame.compress(data))

    def end(self) -> bytes:
        return (b"" if self._begun else bytes(self._frame.begin())) + bytes(self._frame.flush())


class _Wrapped:
    """A compressor of some library under our two names."""

    def __init__(self, feed: Callable[[bytes], bytes], end: Callable[[], bytes]) -> None:
        self.feed, self.end = feed, end


def _zlib(wbits: int) -> _Wrapped:
    made = zlib.compressobj(1, zlib.DEFLATED, wbits)
    return _Wrapped(made.compress, made.flush)


def _zstd() -> _Wrapped:
    made = zstandard.ZstdCompressor(level=1).compressobj()
    return _Wrapped(made.compress, made.flush)


def _brotli() -> _Wrapped:
    made = brotli.Compressor(quality=1)
    return _Wrapped(made.process, made.finish)


def _xz() -> _Wrapped:
    made = lzma.LZMACompressor(preset=1)
    return _Wrapped(made.compress, made.flush)


def _bz2() -> _Wrapped:
    made = bz2.BZ2Compressor(1)
    return _Wrapped(made.compress, made.flush)


_GZIP, _ZLIB = 31, 15  # window bits (zlib.compressobj)
_DECODERS: dict[str, Callable[[], _Step]] = {
    "gzip": lambda: _Frames(lambda: zlib.decompressobj(_GZIP), _by_tail),
    "deflate": lambda: _Frames(zlib.decompressobj, _by_tail),
    "br": _Brotli,
    "zstd": lambda: _Frames(lambda: zstandard.ZstdDecompressor().decompressobj(), _at_once, _ZSTD_SLICE_BYTES),
    "lz4": lambda: _Frames(lz4.frame.LZ4FrameDecompressor, _by_need),
    "xz": lambda: _Frames(lzma.LZMADecompressor, _by_need),
    "bz2": lambda: _Frames(bz2.BZ2Decompressor, _by_need),
    "native": native.Decoder,
}
_ENCODERS: dict[str, Callable[[], Coder]] = {
    "zstd": _zstd,
    "lz4": _Lz4,
    "gzip": lambda: _zlib(_GZIP),
    "deflate": lambda: _zlib(_ZLIB),
    "br": _brotli,
    "xz": _xz,
    "bz2": _bz2,
    "native": native.Encoder,
}


class Decoder:
    """Undoes `codings` (outermost first) and speaks as the server when it cannot.

    Raises:
        Failure: a coding is unknown or the body is not in it.
    """

    def __init__(self, codings: list[str]) -> None:
        unknown = [c for c in codings if c not in _DECODERS]
        if unknown:
            raise failure(48, "NOT_IMPLEMENTED", f"Unknown compression method '{unknown[0]}'")
        self._steps = [(name, _DECODERS[name]()) for name in codings]
        self.plain = not codings

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` gives, in pieces of bounded size."""
        return self._through(data, 0)

    def feed(self, data: bytes) -> bytes:
        """Return what `data` gives, whole."""
        return b"".join(self.pieces(data))

    def end(self) -> None:
        """Take the end.

        Raises:
            Failure: the body is cut short.
        """
        for name, step in self._steps:
            with _speaking(name):
                step.end()

    def _through(self, data: bytes, at: int) -> Iterator[bytes]:
        if at == len(self._steps):
            yield data
            return
        name, step = self._steps[at]
        made = step.pieces(data)
        while True:
            with _speaking(name):
                piece = next(made, None)
            if piece is None:
                return
            yield from self._through(piece, at + 1)


@contextlib.contextmanager
def _speaking(name: str) -> Iterator[None]:
    try:
        yield
    except Failure:
        raise
    except Exception as error:
        raise failure(354, "CANNOT_DECOMPRESS", f"The request's body is not valid {name}: {error}", 400) from error


def decoder(content_encoding: str, *, native_framing: bool = False) -> Decoder:
    """Return the decoder of a request's body: Content-Encoding first, then the native framing."""
    name = content_encoding.strip().lower()
    return Decoder([name] * (name not in {"", "identity"}) + ["native"] * native_framing)


def encoder(accepted: str) -> tuple[Coder | None, str]:
    """Return (encoder, Content-Encoding) by the client's Accept-Encoding; none when nothing offered is known."""
    for part in accepted.split(","):
        name = part.split(";")[0].strip().lower()
        if name in _ENCODERS and name != "native":
            return _ENCODERS[name](), name
    return None, ""


def native_encoder() -> Coder:
    """Return the encoder of `compress=1`."""
    return native.Encoder()

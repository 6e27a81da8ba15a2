"""Content codings of requests and answers, piece by piece: gzip, deflate, br, zstd, lz4, and ClickHouse's own framing (native).

In: bytes in any cut. Out: bytes. Keep: memory is that of a piece; a body that is cut short is refused, never read in part.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Protocol

import brotli
import lz4.frame
import zstandard

from weir.gateway import native
from weir.gateway.failures import Failure, failure

WORTHWHILE_BYTES = 1024
SLICE_BYTES = 4096  # fed to a decompressor at a time: what one slice may grow to bounds the memory a hostile body takes


class Coder(Protocol):
    """A decoder or an encoder."""

    def feed(self, data: bytes) -> bytes:
        """Return what `data` gives."""
        ...

    def end(self) -> bytes:
        """Return what is left at the end of the body."""
        ...


class _Frames:
    """Clients compress block by block, so a body may be many frames one after another."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make, self._frame = make, make()
        self._begun = False

    def feed(self, data: bytes) -> bytes:
        parts = []
        for at in range(0, len(data), SLICE_BYTES):
            left = data[at : at + SLICE_BYTES]
            while left:
                self._begun = True
                parts.append(self._frame.decompress(left))
                left = b""
                if self._frame.eof:
                    left, self._begun = self._frame.unused_data or b"", False
                    self._frame = self._make()
        return b"".join(parts)

    def end(self) -> bytes:
        if self._begun:
            raise EOFError("the last frame is cut short")
        return b""


class _Brotli:
    def __init__(self) -> None:
        self._frame = brotli.Decompressor()

    def feed(self, data: bytes) -> bytes:
        return b"".join(self._frame.process(data[at : at + SLICE_BYTES]) for at in range(0, len(data), SLICE_BYTES))

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


_GZIP, _ZLIB = 31, 15  # window bits (zlib.compressobj)
_DECODERS: dict[str, Callable[[], Coder]] = {
    "gzip": lambda: _Frames(lambda: zlib.decompressobj(_GZIP)),
    "deflate": lambda: _Frames(zlib.decompressobj),
    "br": _Brotli,
    "zstd": lambda: _Frames(lambda: zstandard.ZstdDecompressor().decompressobj()),
    "lz4": lambda: _Frames(lz4.frame.LZ4FrameDecompressor),
    "native": native.Decoder,
}
_ENCODERS: dict[str, Callable[[], Coder]] = {
    "zstd": _zstd,
    "lz4": _Lz4,
    "gzip": lambda: _zlib(_GZIP),
    "deflate": lambda: _zlib(_ZLIB),
    "br": _brotli,
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

    def feed(self, data: bytes) -> bytes:
        """Return what `data` gives."""
        return self._through(data, self._steps, lambda step, given: step.feed(given))

    def end(self) -> bytes:
        """Return what is left."""
        data = b""
        for at, (name, step) in enumerate(self._steps):
            data += self._through(b"", [(name, step)], lambda given, _: given.end())
            if data:
                data = self._through(data, self._steps[at + 1 :], lambda given, more: given.feed(more))
        return data

    @staticmethod
    def _through(data: bytes, steps: list[tuple[str, Coder]], act: Callable[[Coder, bytes], bytes]) -> bytes:
        for name, step in steps:
            try:
                data = act(step, data)
            except Failure:
                raise
            except Exception as error:
                raise failure(354, "CANNOT_DECOMPRESS", f"The request's body is not valid {name}: {error}", 400) from error
        return data


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

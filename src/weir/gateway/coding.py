"""Content codings of requests and answers: gzip, deflate, br, zstd, lz4; and ClickHouse's native block framing is refused clearly."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from typing import Any

import brotli
import lz4.frame
import zstandard

from weir.gateway.failures import failure


def _frames(make: Callable[[], Any], body: bytes) -> bytes:
    """Decompress every frame of `body`: clients compress block by block, so a body is many frames one after another.

    Raises:
        EOFError: the last frame is cut short.
    """
    parts = []
    while body:
        frame = make()
        parts.append(frame.decompress(body))
        if not frame.eof:
            raise EOFError("the last frame is cut short")
        body = frame.unused_data or b""
    return b"".join(parts)


_DECODE: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "deflate": lambda body: _frames(zlib.decompressobj, body),
    "br": brotli.decompress,
    "zstd": lambda body: _frames(lambda: zstandard.ZstdDecompressor().decompressobj(), body),
    "lz4": lambda body: _frames(lz4.frame.LZ4FrameDecompressor, body),
}
_ENCODE: dict[str, Callable[[bytes], bytes]] = {
    "zstd": lambda body: zstandard.ZstdCompressor(level=1).compress(body),
    "lz4": lz4.frame.compress,
    "gzip": lambda body: gzip.compress(body, compresslevel=1),
    "deflate": lambda body: zlib.compress(body, 1),
    "br": lambda body: bytes(brotli.compress(body, quality=1)),
}
WORTHWHILE_BYTES = 1024


def decode(body: bytes, coding: str) -> bytes:
    """Return the request's body without its Content-Encoding.

    Raises:
        Failure: the coding is unknown or the body is not in it.
    """
    if not coding or coding == "identity":
        return body
    if coding not in _DECODE:
        raise failure(36, "BAD_ARGUMENTS", f"Unknown compression method '{coding}'", 400)
    try:
        return _DECODE[coding](body)
    except Exception as error:
        raise failure(354, "CANNOT_DECOMPRESS", f"The request's body is not valid {coding}: {error}", 400) from error


def encode(body: bytes, accepted: str) -> tuple[bytes, str]:
    """Return (body, Content-Encoding) by the client's Accept-Encoding; small bodies stay as they are."""
    if len(body) < WORTHWHILE_BYTES:
        return body, ""
    offered = [part.split(";")[0].strip() for part in accepted.split(",")]
    for name in offered:
        if name in _ENCODE:
            return _ENCODE[name](body), name
    return body, ""

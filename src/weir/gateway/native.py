"""ClickHouse's native compressed framing: `compress=1` and `decompress=1` of the HTTP interface.

A body is frames one after another. A frame is a 16-byte checksum (CityHash128, little-endian, of all that follows), a method byte (0x82 LZ4,
0x90 ZSTD, 0x02 none), the size with these nine header bytes (UInt32), the size once decompressed (UInt32), and the data. Sources: ClickHouse,
src/Compression/CompressionInfo.h and CompressedReadBufferBase.cpp; contrib/cityhash102/src/city.cc (CityHash 1.0.2 by Google, MIT licence).

In: bytes in any cut. Out: bytes. Keep: a checksum that does not match is refused. The hash is plain Python: clients that can choose
do better with Content-Encoding (docs/reference/clickhouse-limits.md has the cost).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import lz4.block
import zstandard

from weir.gateway.failures import failure

LZ4, ZSTD, NONE = 0x82, 0x90, 0x02
FRAME_BYTES = 1 << 20  # of data; the server writes frames of 1 MiB too
FRAME_MAX_BYTES = 128 << 20  # each is held whole; the server takes 1 GiB (DBMS_MAX_COMPRESSED_SIZE), and clients write 1 to 10 MiB
_HEAD = struct.Struct("<BII")
_CHECKSUM = 16

_M = (1 << 64) - 1
_K0, _K1, _K2, _K3 = 0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F, 0xC949D7C7509E6557
_KMUL = 0x9DDFEA08EB382D69


def _rotate(value: int, shift: int) -> int:
    return (value >> shift | value << (64 - shift)) & _M


def _mix(value: int) -> int:
    return value ^ (value >> 47)


def _hash16(low: int, high: int) -> int:
    a = _mix((low ^ high) * _KMUL & _M)
    b = _mix((high ^ a) * _KMUL & _M)
    return b * _KMUL & _M


def _u64(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")


def _hash0to16(data: bytes) -> int:
    length = len(data)
    if length > 8:  # noqa: PLR2004 - a word
        a, b = _u64(data, 0), _u64(data, length - 8)
        return _hash16(a, _rotate((b + length) & _M, length)) ^ b
    if length >= 4:  # noqa: PLR2004 - half a word
        return _hash16(length + (int.from_bytes(data[:4], "little") << 3), int.from_bytes(data[-4:], "little"))
    if length:
        y = data[0] + (data[length >> 1] << 8)
        z = length + (data[-1] << 2)
        return _mix((y * _K2 ^ z * _K3) & _M) * _K2 & _M
    return _K2


def _weak(words: tuple[int, ...], at: int, a: int, b: int) -> tuple[int, int]:
    w, x, y, z = words[at : at + 4]
    a = (a + w) & _M
    b = _rotate((b + a + z) & _M, 21)
    c = a
    a = (a + x + y) & _M
    b += _rotate(a, 44)
    return (a + z) & _M, (b + c) & _M


def _murmur(data: bytes, a: int, b: int) -> tuple[int, int]:
    length = len(data)
    left = length - 16
    if left <= 0:
        a = _mix(a * _K1 & _M) * _K1 & _M
        c = (b * _K1 + _hash0to16(data)) & _M
        d = _mix((a + (_u64(data, 0) if length >= 8 else c)) & _M)  # noqa: PLR2004 - a word
    else:
        c = _hash16((_u64(data, length - 8) + _K1) & _M, a)
        d = _hash16((b + length) & _M, (c + _u64(data, length - 16)) & _M)
        a = (a + d) & _M
        at = 0
        while left > 0:
            a = (a ^ _mix(_u64(data, at) * _K1 & _M) * _K1 & _M) * _K1 & _M
            b ^= a
            c = (c ^ _mix(_u64(data, at + 8) * _K1 & _M) * _K1 & _M) * _K1 & _M
            d ^= c
            at, left = at + 16, left - 16
    a, b = _hash16(a, c), _hash16(d, b)
    return a ^ b, _hash16(b, a)


def _long(data: bytes, x: int, y: int) -> tuple[int, int]:
    length = len(data)
    z = length * _K1 & _M
    v0 = (_rotate(y ^ _K1, 49) * _K1 + _u64(data, 0)) & _M
    v1 = (_rotate(v0, 42) * _K1 + _u64(data, 8)) & _M
    w0 = (_rotate((y + z) & _M, 35) * _K1 + x) & _M
    w1 = _rotate((x + _u64(data, 88)) & _M, 53) * _K1 & _M
    whole = length // 128 * 128
    for s in struct.iter_unpack("<8Q", memoryview(data)[:whole]):
        x = _rotate((x + y + v0 + s[2]) & _M, 37) * _K1 & _M
        y = _rotate((y + v1 + s[6]) & _M, 42) * _K1 & _M
        x ^= w1
        y ^= v0
        z = _rotate(z ^ w0, 33)
        v0, v1 = _weak(s, 0, v1 * _K1 & _M, (x + w0) & _M)
        w0, w1 = _weak(s, 4, (z + w1) & _M, y)
        z, x = x, z
    y = (y + _rotate(w0, 37) * _K0 + z) & _M
    x = (x + _rotate((v0 + z) & _M, 49) * _K0) & _M
    left, done = length - whole, 0
    while done < left:
        done += 32
        s = struct.unpack_from("<4Q", data, length - done)
        y = (_rotate((y - x) & _M, 42) * _K0 + v1) & _M
        w0 = (w0 + s[2]) & _M
        x = (_rotate(x, 49) * _K0 + w0) & _M
        w0 = (w0 + v0) & _M
        v0, v1 = _weak(s, 0, v0, v1)
    x, y = _hash16(x, v0), _hash16(y, w0)
    return (_hash16((x + v1) & _M, w1) + y) & _M, _hash16((x + w1) & _M, (y + v1) & _M)


def cityhash128(data: bytes) -> bytes:
    """Return CityHash128 (version 1.0.2) of `data` as 16 bytes, as the frames have it."""
    length = len(data)
    if length >= _CHECKSUM:
        x, y, data = _u64(data, 0) ^ _K3, _u64(data, 8), data[16:]
    elif length >= 8:  # noqa: PLR2004 - a word
        x, y, data = _u64(data, 0) ^ (length * _K0 & _M), _u64(data, length - 8) ^ _K1, b""
    else:
        x, y = _K0, _K1
    low, high = _long(data, x, y) if len(data) >= 128 else _murmur(data, x, y)  # noqa: PLR2004 - two rounds of eight words
    return struct.pack("<QQ", low, high)


class Encoder:
    """Data to frames."""

    def feed(self, data: bytes) -> bytes:
        """Return `data` as frames."""
        return b"".join(self._frame(data[at : at + FRAME_BYTES]) for at in range(0, len(data), FRAME_BYTES))

    @staticmethod
    def _frame(data: bytes) -> bytes:
        packed = bytes(lz4.block.compress(data, store_size=False))
        body = _HEAD.pack(LZ4, _HEAD.size + len(packed), len(data)) + packed
        return cityhash128(body) + bytes(body)

    def end(self) -> bytes:
        """Return what is left: nothing, a frame is whole."""
        return b""


class Decoder:
    """Frames to data."""

    def __init__(self) -> None:
        self._left = bytearray()

    def feed(self, data: bytes) -> bytes:
        """Return the data of every frame that is whole by now.

        Raises:
            ValueError: a checksum or a size is wrong, or the method is unknown.
        """
        return b"".join(self.pieces(data))

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield the data of every frame that is whole by now, one by one.

        Raises:
            ValueError: a checksum or a size is wrong, or the method is unknown.
        """
        self._left += data
        while len(self._left) >= _CHECKSUM + _HEAD.size:
            method, size, plain = _HEAD.unpack_from(self._left, _CHECKSUM)
            if not _HEAD.size <= size <= FRAME_MAX_BYTES or plain > FRAME_MAX_BYTES:
                raise ValueError(f"a frame of {size} bytes, {plain} once decompressed, is out of range")
            if len(self._left) < _CHECKSUM + size:
                break
            body = bytes(self._left[_CHECKSUM : _CHECKSUM + size])
            if cityhash128(body) != self._left[:_CHECKSUM]:
                raise failure(40, "CHECKSUM_DOESNT_MATCH", "Checksum doesn't match: corrupted data", 400)
            yield self._plain(method, body[_HEAD.size :], plain)
            del self._left[: _CHECKSUM + size]

    @staticmethod
    def _plain(method: int, packed: bytes, size: int) -> bytes:
        if method == LZ4:
            return bytes(lz4.block.decompress(packed, uncompressed_size=size))
        if method == ZSTD:
            return bytes(zstandard.ZstdDecompressor().decompress(packed, max_output_size=size))
        if method == NONE:
            return packed
        raise ValueError(f"compression method 0x{method:02x} is unknown")

    def end(self) -> bytes:
        """Return nothing, or raise EOFError when a frame is cut short."""
        if self._left:
            raise EOFError("the last frame is cut short")
        return b""

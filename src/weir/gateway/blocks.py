"""Native blocks as a client of a given protocol version expects them, made of the engine's.

The engine in process writes Native for clients of version 0 only: no block info, no zone in DateTime('zone'), no mark of serialization. Its format
Buffers gives the same columns, each with its length (ClickHouse's documentation, formats/Buffers), and names and types come from its DESCRIBE.
Layout by version: src/Formats/NativeWriter.cpp and src/Core/BlockInfo.cpp, as ch-go reads them (proto/block.go).

In: Buffers in any cut, names and types. Out: Native. Keep: no column is looked into, so every type goes through; memory is that of a block.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Sequence
from pathlib import Path

from weir.gateway import statements

WITH_BLOCK_INFO = 1
WITH_SERIALIZATION = 54454  # a byte behind each type: 0, as ever here: no sparse columns are sent
_BLOCK_INFO = b"\x01\x00\x02\xff\xff\xff\xff\x00"  # field 1, is_overflows: no; field 2, bucket_num: -1; no more fields
_NUMBER = struct.Struct("<Q")
_PIECE_BYTES = 1 << 20
_FORMAT = re.compile(rb"(FORMAT\s+)Native\b", re.IGNORECASE)

Header = Sequence[tuple[bytes, bytes]]


def varint(number: int) -> bytes:
    """Return an unsigned number as LEB128, as ClickHouse writes lengths."""
    out = bytearray()
    while number > 0x7F:  # noqa: PLR2004 - seven bits a byte
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _text(value: bytes) -> bytes:
    return varint(len(value)) + value


class Revised:
    """Buffers to Native for clients of `revision` (1 or more). `header`: name and type of each column."""

    def __init__(self, header: Header, revision: int) -> None:
        mark = b"\x00" if revision >= WITH_SERIALIZATION else b""
        self._heads = [_text(name) + _text(kind) + mark for name, kind in header]
        self._left = b""

    def feed(self, data: bytes) -> bytes:
        """Return the blocks that are whole by now.

        Raises:
            ValueError: a block has not as many columns as the header.
        """
        data = self._left + data if self._left else data
        out: list[bytes | memoryview] = []
        at, view = 0, memoryview(data)
        while (end := self._block(view, at, out)) > at:
            at = end
        self._left = data[at:]
        return b"".join(out)

    def _block(self, view: memoryview, at: int, out: list[bytes | memoryview]) -> int:
        """Append the block that begins at `at` and return its end; `at` when it is not whole."""
        if len(view) - at < 2 * _NUMBER.size:
            return at
        columns, rows = _NUMBER.unpack_from(view, at)[0], _NUMBER.unpack_from(view, at + _NUMBER.size)[0]
        if columns != len(self._heads):
            raise ValueError(f"a block has {columns} columns where {len(self._heads)} were described")
        parts: list[bytes | memoryview] = [_BLOCK_INFO + varint(columns) + varint(rows)]
        end = at + 2 * _NUMBER.size
        for head in self._heads:
            if len(view) - end < _NUMBER.size:
                return at
            begins = end + _NUMBER.size
            end = begins + _NUMBER.unpack_from(view, end)[0]
            if end > len(view):
                return at
            parts += [head, view[begins:end]]
        out += parts
        return end

    def end(self) -> bytes:
        """Return nothing.

        Raises:
            EOFError: the last block is cut short.
        """
        if self._left:
            raise EOFError("the last block is cut short")
        return b""


def as_buffers(sql: bytes, statement: statements.Statement) -> bytes:
    """Return the statement with Buffers in place of the format Native that it names; empty: where it stands cannot be told."""
    if not statement.format:
        return sql
    tail, count = _FORMAT.subn(rb"\1Buffers", sql[statement.outfile_at :], count=1)
    return sql[: statement.outfile_at] + tail if count else b""


def describing(sql: bytes, statement: statements.Statement) -> tuple[bytes, str]:
    """Return the statement that tells a statement's columns, and the format that `header` reads its answer in.

    Of a query it runs nothing; SHOW, EXISTS, EXPLAIN and the like cannot be described, so they themselves are run once more.
    """
    inner, tail = sql[: statement.outfile_at], sql[statement.outfile_at :]
    if statement.format:
        inner += b" " + _FORMAT.sub(b"", tail.rstrip(b"; \t\r\n"), count=1)
    if not statement.selects:
        return inner, "JSONCompact"
    return b"DESCRIBE TABLE (" + inner + b"\n) SETTINGS describe_compact_output = 1, describe_include_subcolumns = 0", "RowBinary"


def header(answer: bytes, form: str) -> Header:
    """Return the header that `describing`'s statement gave."""
    if form == "JSONCompact":
        return [(column["name"].encode(), column["type"].encode()) for column in json.loads(answer)["meta"]] if answer else []
    values, at = [], 0  # two strings a row
    while at < len(answer):
        size, at = _length(answer, at)
        values.append(answer[at : at + size])
        at += size
    return list(zip(values[::2], values[1::2], strict=True))


def _length(data: bytes, at: int) -> tuple[int, int]:
    """Return the varint at `at` and where it ends."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return number, at


def rewrite(path: Path, revised: Revised) -> None:
    """Put Native blocks in place of a file's Buffers."""
    other = path.with_suffix(".revised.data")
    try:
        with path.open("rb") as source, other.open("wb") as target:
            while piece := source.read(_PIECE_BYTES):
                target.write(revised.feed(piece))
            revised.end()
        other.replace(path)
    finally:
        other.unlink(missing_ok=True)

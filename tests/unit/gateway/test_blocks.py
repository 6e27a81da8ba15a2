"""Buffers to Native: in any cut, each block whole, with the marks of the version."""
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.gateway import blocks, statements

INFO = b"\x01\x00\x02\xff\xff\xff\xff\x00"
HEADER = [(b"a", b"UInt8"), (b"b" * 200, b"String")]
_column = st.binary(max_size=300)


def _buffers(rows, columns):
    return struct.pack("<QQ", len(columns), rows) + b"".join(struct.pack("<Q", len(c)) + c for c in columns)


@given(st.lists(st.tuples(st.integers(0, 1 << 20), _column, _column), max_size=4), st.lists(st.integers(1, 200), min_size=1), st.sampled_from([1, 54453, 54454]))
def test_blocks_are_whole_whatever_the_cut(given_blocks, cuts, revision):
    revised, mark = blocks.Revised(HEADER, revision), b"\x00" if revision >= 54454 else b""
    data = b"".join(_buffers(rows, columns) for rows, *columns in given_blocks)
    out, at, turn = b"", 0, 0
    while at < len(data):
        cut = cuts[turn % len(cuts)]
        out += revised.feed(data[at : at + cut])
        at, turn = at + cut, turn + 1
    wanted = b"".join(
        INFO + blocks.varint(2) + blocks.varint(rows) + b"\x01a\x05UInt8" + mark + first + b"\xc8\x01" + b"b" * 200 + b"\x06String" + mark + second
        for rows, first, second in given_blocks
    )
    assert out + revised.end() == wanted


def test_a_block_cut_short_or_of_other_columns_is_refused():
    revised = blocks.Revised(HEADER, 1)
    assert revised.feed(_buffers(1, [b"x", b"y"])[:-1]) == b""
    with pytest.raises(EOFError):
        revised.end()
    with pytest.raises(ValueError, match="3 columns where 2"):
        blocks.Revised(HEADER, 1).feed(_buffers(1, [b"", b"", b""]))


@pytest.mark.parametrize(
    ("sql", "engine", "asked"),
    [
        (b"SELECT 1", b"SELECT 1", b"SELECT 1"),
        (b"SELECT 1 format native SETTINGS a = 1;", b"SELECT 1 format Buffers SETTINGS a = 1;", b"SELECT 1   SETTINGS a = 1"),
        (b"SELECT 'FORMAT Native' FORMAT Native", b"SELECT 'FORMAT Native' FORMAT Buffers", b"SELECT 'FORMAT Native'  "),
        (b"SELECT 1 FORMAT /* x */ Native", b"", None),
    ],
)
def test_the_format_is_replaced_where_it_is_one(sql, engine, asked):
    statement = statements.read(sql)
    assert blocks.as_buffers(sql, statement) == engine
    if asked is not None:
        assert blocks.describing(sql, statement)[0].startswith(b"DESCRIBE TABLE (" + asked + b"\n)")


def test_a_header_is_read_from_both_answers():
    assert blocks.header(b"\x01a\x05UInt8\x00\xc8\x01" + b"x" * 200, "RowBinary") == [(b"a", b"UInt8"), (b"", b"x" * 200)]
    assert blocks.header(b'{"meta": [{"name": "a", "type": "UInt8"}], "data": []}', "JSONCompact") == [(b"a", b"UInt8")]
    assert blocks.header(b"", "JSONCompact") == []

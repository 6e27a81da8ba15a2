"""Content codings: what was compressed in several frames is read whole in any cut, and a body that is cut short is refused."""
import bz2
import gzip
import lzma
import zlib

import brotli
import lz4.frame
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from weir.gateway import coding, native
from weir.gateway.failures import Failure


def _native(body):
    return native.Encoder().feed(body)


COMPRESS = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "lz4": lz4.frame.compress,
    "xz": lzma.compress,
    "bz2": bz2.compress,
    "native": _native,
}
ONE, TWO = b"first block " * 9000, b"second block " * 9000


def _decoder(name):
    return coding.decoder("", native_framing=True) if name == "native" else coding.decoder(name)


def _decode(body, name, cut=1 << 20):
    decoder = _decoder(name)
    whole = b"".join(decoder.feed(body[at : at + cut]) for at in range(0, len(body), cut))
    decoder.end()
    return whole


@pytest.mark.parametrize("name", ["gzip", "deflate", "zstd", "lz4", "xz", "bz2", "native"])
@pytest.mark.parametrize("cut", [7, 1 << 20])
def test_a_body_of_several_frames_is_read_whole_in_any_cut(name, cut):
    assert _decode(COMPRESS[name](ONE) + COMPRESS[name](TWO), name, cut) == ONE + TWO


@pytest.mark.parametrize("name", [n for n in COMPRESS if n != "native"])
def test_what_we_encode_in_pieces_comes_back(name):
    coder, used = coding.encoder(f"unknown, {name};q=1")
    assert used == name
    body = coder.feed(ONE) + coder.feed(TWO) + coder.end()
    assert len(body) < len(ONE)
    assert _decode(body, name) == ONE + TWO


@pytest.mark.parametrize("name", list(COMPRESS))
def test_a_body_cut_short_is_refused_not_read_in_part(name):
    with pytest.raises(Failure, match="not valid"):
        _decode(COMPRESS[name](ONE)[:-7], name)


@pytest.mark.parametrize("name", list(COMPRESS))
@pytest.mark.parametrize("size", [(64 << 20) - 1, 64 << 20])  # the second ends where a piece does
def test_however_little_says_much_it_comes_in_small_pieces(name, size):
    body = COMPRESS[name](bytes(size))
    assert len(body) < size // 200
    decoder = _decoder(name)
    sizes = [len(piece) for at in range(0, len(body), 1 << 18) for piece in decoder.pieces(body[at : at + (1 << 18)])]
    decoder.end()
    assert sum(sizes) == size
    assert max(sizes) <= 17 << 20


def test_a_coding_within_a_coding_comes_in_small_pieces_too():
    body = gzip.compress(_native(bytes(256 << 20)))
    decoder = coding.decoder("gzip", native_framing=True)
    assert max(len(piece) for piece in decoder.pieces(body)) <= native.FRAME_BYTES
    decoder.end()


def test_the_native_framing_lies_inside_the_content_encoding():
    decoder = coding.decoder("gzip", native_framing=True)
    assert decoder.feed(gzip.compress(_native(ONE))) == ONE
    decoder.end()


def test_an_unknown_coding_is_refused():
    with pytest.raises(Failure, match="Unknown compression"):
        coding.decoder("snappy")


def test_a_frame_whose_checksum_is_wrong_is_refused():
    body = bytearray(_native(ONE))
    body[-1] ^= 1
    with pytest.raises(Failure, match="CHECKSUM_DOESNT_MATCH"):
        _decode(bytes(body), "native")


@given(st.binary(max_size=700))
def test_every_length_has_a_hash_and_comes_back(data):
    assert len(native.cityhash128(data)) == 16
    assert _decode(_native(data), "native") == data

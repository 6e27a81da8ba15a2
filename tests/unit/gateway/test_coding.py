"""Content codings: what was compressed in several frames is read whole, and a cut body is refused."""
import gzip
import zlib

import brotli
import lz4.frame
import pytest
import zstandard

from weir.gateway import coding
from weir.gateway.failures import Failure

COMPRESS = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "lz4": lz4.frame.compress,
}
ONE, TWO = b"first block " * 9000, b"second block " * 9000


@pytest.mark.parametrize("name", ["gzip", "deflate", "zstd", "lz4"])
def test_a_body_of_several_frames_is_read_whole(name):
    assert coding.decode(COMPRESS[name](ONE) + COMPRESS[name](TWO), name) == ONE + TWO


@pytest.mark.parametrize("name", list(COMPRESS))
def test_one_frame_is_read_and_what_we_encode_comes_back(name):
    assert coding.decode(COMPRESS[name](ONE), name) == ONE
    body, used = coding.encode(ONE, f"{name};q=1")
    assert used == name
    assert coding.decode(body, name) == ONE


@pytest.mark.parametrize("name", ["gzip", "deflate", "zstd", "lz4"])
def test_a_body_cut_short_is_refused_not_read_in_part(name):
    with pytest.raises(Failure, match="not valid"):
        coding.decode(COMPRESS[name](ONE)[:-7], name)


def test_an_unknown_coding_is_refused():
    with pytest.raises(Failure, match="Unknown compression"):
        coding.decode(b"x", "snappy")

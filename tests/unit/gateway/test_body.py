"""A request's body leaves nothing on the disk, also when the disk was full."""
import errno

from weir.gateway import coding
from weir.gateway.body import MEMORY_BYTES, Body


def test_a_body_that_found_no_room_leaves_no_file(tmp_path):
    body = Body(b"INSERT INTO t FORMAT TSV", tmp_path, coding.decoder("", native_framing=False))
    body.feed(b"x" * (MEMORY_BYTES + 1))
    assert len(list(tmp_path.iterdir())) == 1
    close = body._file.close

    class Full:
        def close(self):
            close()
            raise OSError(errno.ENOSPC, "No space left on device")

    body._file = Full()
    body.discard()
    assert list(tmp_path.iterdir()) == []

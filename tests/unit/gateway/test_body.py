"""A request's body leaves nothing on the disk, also when the disk was full; in memory it is whole, alone in its file, and within a bound."""
import asyncio
import errno
import gzip
import hashlib
import threading
import tracemalloc
import types

import pytest

from weir.gateway import app, coding, spool
from weir.gateway.body import MEMORY_BYTES, Body
from weir.gateway.failures import Failure
from weir.gateway.spool import Spool
from weir.gateway.statements import read

INSERT = b"INSERT INTO t FORMAT TSV"


def noise(seed, size):
    return hashlib.shake_128(str(seed).encode()).digest(size)


def body(files):
    return Body(INSERT, files, coding.decoder("", native_framing=False))


def fed(files, data):
    made = body(files)
    for at in range(0, len(data), 65536):
        made.feed(data[at : at + 65536])
    made.end()
    return made


def content(made):
    return made.data(read(INSERT)).read_bytes()


def test_a_body_that_found_no_room_leaves_no_file(tmp_path):
    made = body(Spool(tmp_path, file_bytes=0))
    made.feed(b"x" * (MEMORY_BYTES + 1))
    assert len(list(tmp_path.iterdir())) == 1
    disk = made._file._disk
    close = disk.close

    def full():
        close()
        raise OSError(errno.ENOSPC, "No space left on device")

    made._file._disk = types.SimpleNamespace(close=full, name=disk.name)
    made.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_body_that_fits_is_never_on_the_disk(tmp_path):
    files, data = Spool(tmp_path), noise(1, 3_000_000)
    made = fed(files, data)
    assert content(made) == data
    assert list(tmp_path.iterdir()) == []
    made.discard()


def test_nothing_of_a_longer_body_is_behind_a_shorter_one(tmp_path):
    files = Spool(tmp_path)
    numbers = set()
    for size in (3_000_000, 300_000, 10, 2_000_000):
        data = noise(size, size)
        made = fed(files, data)
        path = made.data(read(INSERT))
        numbers.add(path)
        assert path.read_bytes() == data
        made.discard()
    assert len(numbers) == 1  # one file, used again each time


def test_two_bodies_at_once_have_a_file_each(tmp_path):
    files, first, second = Spool(tmp_path), b"a" * 400_000, b"b" * 500_000
    one, other = fed(files, first), fed(files, second)
    assert (content(one), content(other)) == (first, second)
    one.discard()
    third = fed(files, b"c" * 300_000)
    assert content(other) == second
    assert content(third) == b"c" * 300_000
    other.discard()
    third.discard()


@pytest.mark.parametrize("bounds", [{"file_bytes": 1_000_000}, {"all_bytes": 1_000_000}, {"file_bytes": 0}, {"all_bytes": 262_145}])
def test_what_finds_no_room_in_memory_goes_on_on_the_disk_whole(tmp_path, bounds):
    files, data = Spool(tmp_path, **bounds), noise(2, 3_000_000)
    made = fed(files, data)
    assert content(made) == data
    assert len(list(tmp_path.iterdir())) == 1
    assert files.memory_bytes <= 1_000_000
    made.discard()
    assert list(tmp_path.iterdir()) == []


def test_all_files_together_keep_within_the_bound_and_rest_within_theirs(tmp_path):
    files = Spool(tmp_path, all_bytes=2_000_000, resting_bytes=700_000)
    many = [fed(files, noise(n, 600_000)) for n in range(6)]
    assert files.memory_bytes <= 2_000_000
    assert [content(made) for made in many] == [noise(n, 600_000) for n in range(6)]
    assert len(list(tmp_path.iterdir())) == 3
    for made in many:
        made.discard()
    assert 0 < files.memory_bytes <= 700_000
    files.sweep()
    assert files.memory_bytes == 0
    again = fed(files, b"z" * 600_000)
    assert content(again) == b"z" * 600_000
    again.discard()


def test_files_that_rest_make_room_for_one_that_is_needed(tmp_path):
    files = Spool(tmp_path, all_bytes=1_000_000, resting_bytes=1_000_000)
    two = [fed(files, b"x" * 450_000) for _ in range(2)]
    for made in two:
        made.discard()
    made = fed(files, b"y" * 900_000)
    assert content(made) == b"y" * 900_000
    assert list(tmp_path.iterdir()) == []
    made.discard()


def test_a_machine_without_memory_takes_the_body_on_the_disk(tmp_path, monkeypatch):
    files, data = Spool(tmp_path), noise(3, 2_000_000)
    allocate = spool.os.posix_fallocate

    def short(number, at, size):
        if at > 1_000_000:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        allocate(number, at, size)

    monkeypatch.setattr(spool.os, "posix_fallocate", short)
    made = fed(files, data)
    assert content(made) == data
    assert len(list(tmp_path.iterdir())) == 1
    made.discard()


def test_where_no_file_can_be_in_memory_the_body_is_on_the_disk(tmp_path, monkeypatch):
    def forbidden(_name):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(spool.os, "memfd_create", forbidden)
    made = fed(Spool(tmp_path), noise(4, 400_000))
    assert content(made) == noise(4, 400_000)
    assert len(list(tmp_path.iterdir())) == 1
    made.discard()


def test_a_disk_that_is_nearly_full_is_told_before_it_is_written_to(tmp_path, monkeypatch):
    monkeypatch.setattr(spool.shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=spool.FREE_BYTES - 1))
    files = Spool(tmp_path, file_bytes=500_000)
    made = body(files)
    made.feed(b"x" * 400_000)
    with pytest.raises(Failure, match="no room on the disk"):
        made.feed(b"x" * 400_000)
    made.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_query_in_the_url_with_the_first_rows_has_them_before_the_body(tmp_path):
    files = Spool(tmp_path)
    url = b"INSERT INTO t FORMAT TSV\n1\n"
    made = Body(url, files, coding.decoder("", native_framing=False))
    made.feed(b"2\n" * 200_000)
    made.end()
    assert made.data(read(url)).read_bytes().split() == [b"1", *[b"2"] * 200_000]
    made.discard()


def test_an_earlier_process_files_are_removed(tmp_path):
    (tmp_path / "left.data").write_bytes(b"x")
    Spool(tmp_path).clear()
    assert list(tmp_path.iterdir()) == []


def test_a_few_bytes_that_mean_many_do_not_fill_the_memory(tmp_path):
    raw = gzip.compress(bytes(256 << 20))
    made = Body(INSERT, Spool(tmp_path), coding.decoder("gzip", native_framing=False))
    tracemalloc.start()
    try:
        made.feed(raw)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    made.end()
    assert made.size == 256 << 20
    assert most < 16 << 20
    made.discard()


def test_a_body_whose_request_is_cancelled_is_let_go_after_its_last_piece_is_written():
    began, may_end, order = threading.Event(), threading.Event(), []

    def write(_piece):
        began.set()
        may_end.wait(10)
        order.append("written")

    async def request():
        try:
            await app._in_thread(write, b"x")
        finally:
            order.append("let go")

    async def run():
        task = asyncio.create_task(request())
        await asyncio.to_thread(began.wait, 10)
        task.cancel()
        await asyncio.sleep(0.05)
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert order == ["written", "let go"]

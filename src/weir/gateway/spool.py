"""Files for requests' bodies: in memory while there is room, else on the disk.

In: pieces of a body. Out: a path under which the engine opens them as a file. Keep: the files in memory take at most a bound, and those that rest a smaller one;
one that finds no room goes on on the disk; a file is given to the next body only after the statement that reads it has ended. A body on the disk waits there
for the engine's own writes and syncs, to be read once; pages in memory are kept for the next body, since new ones cost more than the disk's. In memory on Linux
only (memfd_create(2)).
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import IO

from weir.gateway.failures import no_room

FREE_BYTES = 1 << 30  # left free on the disk, for the engine
FILE_BYTES = 64 << 20  # in memory, of one body: a full batch of ingest is 30 MiB
ALL_BYTES = 192 << 20  # in memory, of all bodies
RESTING_BYTES = 64 << 20  # in memory, of files that no body has
_LOOK_BYTES = 64 << 20  # written to the disk between two looks at how much is free


class _Pages:
    """A file in memory, of `most` bytes at most. `taken`: bytes that its pages may take; `size`: bytes written since `again`."""

    def __init__(self, most: int) -> None:
        self.number = os.memfd_create("body")
        os.ftruncate(self.number, most)  # a map is made of what is there, and stays when it goes
        self._map = mmap.mmap(self.number, most)  # writing through it takes a fifth of write(2): pages that are there are found at once
        os.ftruncate(self.number, 0)
        self.size = self.taken = 0
        self._there = 0  # its length, as far as it may be written

    def again(self) -> None:
        self.size = 0

    def write(self, data: bytes | bytearray | memoryview) -> bool:
        """Write it; False: the machine has no memory for it, and `size` is as it was."""
        end = self.size + len(data)
        if end > self._there:
            try:
                os.posix_fallocate(self.number, self._there, end - self._there)  # past the end of the file there is nothing to write to but SIGBUS
            except OSError as error:
                if error.errno not in {errno.ENOMEM, errno.ENOSPC}:
                    raise
                return False
            self._there = end
        self._map[self.size : end] = data
        self.size = end
        return True

    def cut(self) -> None:
        """End the file behind what was written: of an earlier body nothing is left. It has a new time too, which the map alone does not give it."""
        if self._there > self.size:
            os.ftruncate(self.number, self.size)
        os.utime(self.number)
        self._there = self.size

    def close(self) -> None:
        """Free the pages."""
        self._map.close()
        os.close(self.number)


class Spool:
    """Where bodies' files are: `folder` on the disk, and in memory `file_bytes` of each, `all_bytes` in all, `resting_bytes` at rest."""

    def __init__(self, folder: Path, *, file_bytes: int = FILE_BYTES, all_bytes: int = ALL_BYTES, resting_bytes: int = RESTING_BYTES) -> None:
        self.folder = folder
        self._file_bytes, self._all_bytes, self._resting_bytes = file_bytes, all_bytes, resting_bytes
        self._resting: list[_Pages] = []
        self._lock = threading.Lock()
        self.memory_bytes = 0  # that files in memory may take now

    def file(self) -> SpoolFile:
        """Return a new, empty file."""
        return SpoolFile(self, self._pages())

    def on_disk(self) -> IO[bytes]:
        """Return a new file on the disk, which whoever asked for it removes."""
        return tempfile.NamedTemporaryFile(dir=self.folder, suffix=".data", delete=False)

    def look(self) -> None:
        """Look whether the disk has room.

        Raises:
            Failure: no more than what is left for the engine.
        """
        if shutil.disk_usage(self.folder).free < FREE_BYTES:
            raise no_room()

    def sweep(self) -> None:
        """Free the pages of files that rest."""
        with self._lock:
            idle, self._resting = self._resting, []
            self.memory_bytes -= sum(pages.taken for pages in idle)
        for pages in idle:  # without the lock: freeing takes a while
            pages.close()

    def clear(self) -> None:
        """Remove an earlier process's files: their bodies were never acknowledged."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with contextlib.suppress(OSError):
            for left in self.folder.glob("*.data"):
                left.unlink()

    def _pages(self) -> _Pages | None:
        if not self._file_bytes or not hasattr(os, "memfd_create"):
            return None
        with self._lock:
            pages = self._resting.pop() if self._resting else None  # the last that came back: likeliest to be in the processor's cache
        if pages is None:
            try:
                return _Pages(self._file_bytes)
            except OSError:  # a sandbox may forbid it
                return None
        pages.again()
        return pages

    def room(self, pages: _Pages, size: int) -> bool:
        """Say whether `pages` may take `size` bytes, and count them; files that rest make room."""
        if size <= pages.taken:
            return True
        if size > self._file_bytes:
            return False
        with self._lock:
            more = size - pages.taken
            while self._resting and self.memory_bytes + more > self._all_bytes:
                self._drop(self._resting.pop(0))
            if self.memory_bytes + more > self._all_bytes:
                return False
            self.memory_bytes += more
            pages.taken = size
            return True

    def back(self, pages: _Pages) -> None:
        """Keep pages for the next body, or free them where enough rest."""
        pages.cut()
        with self._lock:
            self.memory_bytes -= pages.taken - pages.size
            pages.taken = pages.size
            if sum(p.taken for p in self._resting) + pages.taken > self._resting_bytes:
                self._drop(pages)
            else:
                self._resting.append(pages)

    def _drop(self, pages: _Pages) -> None:
        self.memory_bytes -= pages.taken
        pages.close()


class SpoolFile:
    """One file. `path`: its name for whoever reads it in this process, once it is closed; `size`: bytes written."""

    def __init__(self, spool: Spool, pages: _Pages | None) -> None:
        self._spool, self._pages = spool, pages
        self._disk: IO[bytes] | None = None
        self.size = 0

    @property
    def path(self) -> Path:
        """Its name."""
        if self._pages is not None:
            return Path(f"/proc/self/fd/{self._pages.number}")
        return Path(self._on_disk().name)

    def fits(self, size: int) -> bool:
        """Say whether a piece of so many bytes goes into memory; keeps the room for it."""
        return self._pages is not None and self._spool.room(self._pages, self.size + size)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take a piece.

        Raises:
            Failure: the disk has no room that may be taken. OSError: it cannot be written.
        """
        if self._pages is not None and not (self.fits(len(data)) and self._pages.write(data)):
            self._move(self._pages)
        if self._pages is None:
            disk = self._on_disk()
            if (self.size + len(data)) % _LOOK_BYTES < len(data):
                self._spool.look()
            disk.write(data)
        self.size += len(data)

    def _on_disk(self) -> IO[bytes]:
        if self._disk is None:
            self._spool.look()
            self._disk = self._spool.on_disk()
        return self._disk

    def _move(self, pages: _Pages) -> None:
        pages.cut()
        with self.path.open("rb") as held:
            shutil.copyfileobj(held, self._on_disk(), 1 << 20)
        self._pages = None
        self._spool.back(pages)

    def close(self) -> None:
        """End it: from now on it is read."""
        if self._pages is not None:
            self._pages.cut()
        else:
            self._on_disk().close()

    def discard(self) -> None:
        """Remove it; nobody may read it any more."""
        pages, self._pages = self._pages, None
        if pages is not None:
            self._spool.back(pages)
        if self._disk is not None:
            with contextlib.suppress(OSError):  # closing writes what is left, and on a full disk fails as the write did: the file is to go all the same
                self._disk.close()
            Path(self._disk.name).unlink(missing_ok=True)

"""A tree of files copied or checked with its digests, holes left holes, and its progress told.

In: a source folder, or the list that an earlier copy wrote. Out: the copy, and one `Entry` for each file, folder and link. Keep: a file is told as copied only
once its bytes were read and written whole; owners are kept where root copies.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from weir.errors import Terminal

_PIECE = 1 << 20
_HOLE = bytes(_PIECE)


@dataclass(frozen=True, slots=True)
class Entry:
    """One file (`sha256` set), link (`target` set) or folder. `path` is relative; `uid` and `gid` are the owner's."""

    path: str
    mode: int
    uid: int
    gid: int
    size_bytes: int = 0
    sha256: str = ""
    target: str = ""


@dataclass(slots=True)
class Progress:
    """How far it is, by the bytes of files. `clock` returns seconds."""

    total_bytes: int
    tell: Callable[[Progress], None] = lambda _progress: None
    clock: Callable[[], float] = time.monotonic
    done_bytes: int = 0
    began_s: float = field(init=False)

    def __post_init__(self) -> None:
        """Note when it began."""
        self.began_s = self.clock()

    @property
    def rate(self) -> float:
        """Bytes a second so far."""
        return self.done_bytes / max(self.clock() - self.began_s, 1e-3)

    @property
    def eta_s(self) -> float:
        """Seconds to go at that rate."""
        return max(0, self.total_bytes - self.done_bytes) / self.rate if self.done_bytes else 0.0

    def add(self, count: int) -> None:
        """Note bytes that were copied or read."""
        self.done_bytes += count
        self.tell(self)


def size_bytes(folder: Path) -> int:
    """Return the bytes of all files below."""
    return sum(p.lstat().st_size for p in _walk(folder) if p.is_file() and not p.is_symlink())


def _walk(folder: Path) -> Iterator[Path]:
    for below in sorted(folder.iterdir()):
        yield below
        if below.is_dir() and not below.is_symlink():
            yield from _walk(below)


def copy(source: Path, target: Path, name: str, progress: Progress) -> Iterator[Entry]:
    """Copy `source` to `target`, which does not exist; yield what was copied, paths beginning with `name`."""
    for path in [source, *(_walk(source) if source.is_dir() else ())]:
        there = target / path.relative_to(source)
        about = path.lstat()
        entry = Entry(str(Path(name) / path.relative_to(source)), stat.S_IMODE(about.st_mode), about.st_uid, about.st_gid)
        if path.is_symlink():
            there.symlink_to(path.readlink())
            yield Entry(entry.path, entry.mode, entry.uid, entry.gid, target=str(path.readlink()))
        elif path.is_dir():
            there.mkdir(mode=0o700)
            yield entry
        elif path.is_file():  # a socket is none
            size, digest = _copy_file(path, there, progress)
            yield Entry(entry.path, entry.mode, entry.uid, entry.gid, size, digest)


def _copy_file(source: Path, target: Path, progress: Progress) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with source.open("rb") as file, target.open("xb") as made:
        Path(target).chmod(0o600)
        while piece := file.read(_PIECE):
            digest.update(piece)
            size += len(piece)
            if piece == _HOLE[: len(piece)]:  # Kafka's indexes and PostgreSQL's WAL are mostly holes
                made.seek(len(piece), os.SEEK_CUR)
            else:
                made.write(piece)
            progress.add(len(piece))
        made.truncate(size)
    return size, digest.hexdigest()


def rebuild(entries: Iterable[Entry], source: Path, target: Path, progress: Progress) -> None:
    """Copy what `entries` list from `source` to `target`, each file held to its digest; then modes and owners.

    Raises:
        Terminal: a file of the source is missing or differs; names it.
    """
    made = []
    for entry in entries:
        _inside(entry)
        there = target / entry.path
        if entry.target:
            there.symlink_to(entry.target)
        elif entry.sha256:
            _held(entry, lambda e=entry, t=there: _copy_file(source / e.path, t, progress))  # type: ignore[misc]  # (default) binds them now
        else:
            there.mkdir(mode=0o700)
        made.append((entry, there))
    for entry, there in reversed(made):
        if os.geteuid() == 0:
            os.chown(there, entry.uid, entry.gid, follow_symlinks=False)
        if not entry.target:
            there.chmod(entry.mode)


def check(entries: Iterable[Entry], source: Path, progress: Progress) -> None:
    """Hold each file of `source` to its digest.

    Raises:
        Terminal: one is missing or differs; names it.
    """
    for entry in entries:
        if entry.sha256:
            _held(entry, lambda e=entry: _digest(source / e.path, progress))  # type: ignore[misc]  # (default) binds it now


def _digest(path: Path, progress: Progress) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
            size += len(piece)
            progress.add(len(piece))
    return size, digest.hexdigest()


def _held(entry: Entry, read: Callable[[], tuple[int, str]]) -> None:
    try:
        found = read()
    except FileNotFoundError:
        raise Terminal(f"the backup is damaged: {entry.path} is missing", hint="use another backup (./weir backup list)") from None
    if found != (entry.size_bytes, entry.sha256):
        raise Terminal(f"the backup is damaged: {entry.path} is not what was written", hint="use another backup (./weir backup list)")


def _inside(entry: Entry) -> None:
    if entry.path.startswith("/") or ".." in Path(entry.path).parts:
        raise Terminal(f"the backup is damaged: it names {entry.path}, which is outside of it", hint="use another backup")

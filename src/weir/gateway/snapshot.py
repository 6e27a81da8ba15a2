"""A cut of a data folder: every table as it is at one moment, made of hard links, so that it takes milliseconds and no room.

In: a data folder in which nothing writes (no statement, no refreshable view; merges may run), or that no process has open. Out: a tree that an engine
opens. Keep: files that the engine changes in place are copied, those of a part, which it never changes, are linked; the engine's own tables (`system`)
and what was dropped are left out; deduplication logs are in it, so a repeated insert counts once after a restore too, which the engine's own BACKUP has not.

A part that a merge made is in place before its sources go, and they go minutes later (old_parts_lifetime, 480 s): so of a part that vanishes while it is
linked, its successor was there already.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

_PART = re.compile(r"[^_]+(?:_\d+){3,4}")
_UUID = re.compile(r"UUID '([0-9a-f-]{36})'")
_LEFT_OUT = frozenset({"metadata_dropped", "tmp", "preprocessed_configs", "metadata", "data", "store"})
_UNFINISHED = re.compile(r"(?:tmp|delete_tmp|clone)_.*|moving")


@dataclass(slots=True)
class Cut:
    """What a cut holds: files and bytes, those of linked parts included."""

    files: int = 0
    size_bytes: int = 0


def cut(data: Path, target: Path) -> Cut:
    """Make the cut of `data` at `target`, which must not exist and lie on the same file system.

    Raises:
        OSError: a file could not be linked or copied; what was made is removed.
    """
    made = Cut()
    target.mkdir(parents=True, mode=0o700)
    try:
        if data.exists():
            _metadata(data, target, made)
            _tables(data, target, made)
            for entry in data.iterdir():
                if entry.name not in _LEFT_OUT:
                    _copy(entry, target / entry.name, made)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    return made


def _metadata(data: Path, target: Path, made: Cut) -> None:
    (target / "metadata").mkdir()
    for entry in (data / "metadata").iterdir() if (data / "metadata").exists() else ():
        if entry.name not in {"system", "system.sql"}:
            _copy(entry, target / "metadata" / entry.name, made)
            if entry.is_symlink():  # an Atomic database: its tables' statements lie in the store
                real = entry.resolve()
                _copy(real, target / "store" / real.parent.name / real.name, made)


def _tables(data: Path, target: Path, made: Cut) -> None:
    known = {uuid for file in (target / "store").rglob("*.sql") for uuid in _UUID.findall(file.read_text(errors="replace"))[:1]}
    (target / "store").mkdir(exist_ok=True)
    for uuid in sorted(known):
        folder = data / "store" / uuid[:3] / uuid
        if folder.is_dir():
            _table(folder, target / "store" / uuid[:3] / uuid, made)
    (target / "data").mkdir()
    for database in (data / "data").iterdir() if (data / "data").exists() else ():
        if database.name == "system":
            continue
        (target / "data" / database.name).mkdir()
        for table in database.iterdir():
            there = target / "data" / database.name / table.name
            if not table.is_symlink():
                _table(table, there, made)
            elif (target / "data" / database.name / table.readlink()).exists():
                _copy(table, there, made)


def _table(folder: Path, target: Path, made: Cut) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for entry in folder.iterdir():
        there = target / entry.name
        if _UNFINISHED.fullmatch(entry.name):
            continue
        if entry.name == "tmp":  # of a Set or Join: without the folder the engine takes the table for a new one (src/Storages/StorageSet.cpp)
            there.mkdir()
        elif _PART.fullmatch(entry.name):  # by its name alone: it may be gone before it is asked whether it is a folder
            before = (made.files, made.size_bytes)
            try:
                _link(entry, there, made)
            except FileNotFoundError:
                shutil.rmtree(there, ignore_errors=True)
                made.files, made.size_bytes = before
        else:
            _copy(entry, there, made)


def _link(folder: Path, target: Path, made: Cut) -> None:
    target.mkdir()
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                _link(Path(entry.path), target / entry.name, made)
            else:
                os.link(entry.path, target / entry.name)
                made.files += 1
                made.size_bytes += entry.stat().st_size


def _copy(entry: Path, target: Path, made: Cut) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if entry.is_symlink():
        target.symlink_to(entry.readlink())
    elif entry.is_dir():
        target.mkdir(exist_ok=True)
        for below in entry.iterdir():
            _copy(below, target / below.name, made)
    else:
        shutil.copy2(entry, target)
        made.files += 1
        made.size_bytes += target.stat().st_size

"""The engine's deduplication logs: repaired before the engine opens a folder, and synced before an insert is acknowledged.

A table with a deduplication window has a folder `deduplication_logs` with files of lines `operation TAB part TAB block id`; 1 adds, 2 drops
(ClickHouse, src/Storages/MergeTree/MergeTreeDeduplicationLog.cpp). The engine writes the line before it renames the part into place, so a
process that is killed between the two leaves a token without a part: the table then drops the repeated insert while a view behind it takes
it, or the reverse. It never syncs the file, so a power cut can leave a part without its token.

A REPLACE PARTITION gives rows another part's name: it covers the parts that were there with an empty one, and all of them stay on the disk for
some minutes. An engine that finds the empty one when it starts takes it for a part whose rows were deleted, removes it, and drops the tokens of
all that it covers (`clearEmptyParts`, src/Storages/MergeTree/MergeTreeData.cpp), although their rows are there and their inserts may be repeated.

In: a data folder that no process has open. Out: the parts whose entries were dropped. Keep: an entry is dropped only if no part on the disk is
it or covers it, and only among the newest `RECENT` of a table: those are what can have been in flight. What was deleted on purpose long ago
keeps its token, and so does what stood in the log at a moment when nothing was in flight (`settle`): what covers it and is empty is removed before
an engine sees it, what is covered first, as the engine's own cleaner does.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from weir.gateway import parts

RECENT = 128  # more than statements can be open at once (lanes.OPEN), with retries
_ADD, _DROP = "1", "2"
_NUMBER = re.compile(r"deduplication_log_(\d+)\.txt")
Live = dict[str, tuple[str, bool]]  # by token, in the log's order: the part's name, and whether it was settled
SETTLED = "weir_settled_tokens.txt"  # in a table's folder: number of the log's newest file and its bytes; the engine reads folders and its own names alone


@dataclass(frozen=True, slots=True)
class Orphan:
    """An entry of a deduplication log without its part."""

    table: Path
    part: str
    block: str


def folders(data: Path) -> list[Path]:
    """Return the folder `deduplication_logs` of every table below `data`."""
    return sorted({*data.glob("store/*/*/deduplication_logs"), *data.glob("data/*/*/deduplication_logs")})


def _files(folder: Path) -> list[Path]:
    return sorted((path for path in folder.iterdir() if _NUMBER.fullmatch(path.name)), key=_number)


def _number(path: Path) -> int:
    match = _NUMBER.fullmatch(path.name)
    return int(match[1]) if match else 0


def _settled(folder: Path) -> tuple[int, int]:
    """Return the file, by its number, and its size up to which the log was settled; (0, 0): never."""
    try:
        number, size = (folder.parent / SETTLED).read_text().split()
        return int(number), int(size)
    except (OSError, ValueError):
        return 0, 0


def settle(logs: list[Path]) -> int:
    """Note of each of `logs` that all its entries have their rows: nothing may be in flight. Return how many were noted."""
    count = 0
    for folder in logs:
        try:
            newest = _files(folder)[-1:]
            if newest:
                there, made = folder.parent / SETTLED, folder.parent / f"{SETTLED}.new"
                made.write_text(f"{_number(newest[0])} {newest[0].stat().st_size}")
                with made.open("rb") as file:
                    os.fsync(file.fileno())
                made.replace(there)
                _sync_folder(folder.parent)
                count += 1
        except FileNotFoundError:  # the table was dropped, or its log turned over, meanwhile
            continue
    return count


def _sync_folder(folder: Path) -> None:
    """Sync a folder, so that a rename in it outlives a power cut."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _entries(files: list[Path], settled: tuple[int, int] = (0, 0)) -> Iterator[tuple[str, str, str, bool]]:
    """Yield (operation, part, block, whether it was settled) in the log's order."""
    for path in files:
        number, at = _number(path), 0
        for line in path.read_bytes().splitlines(keepends=True):
            at += len(line)
            fields = line.decode(errors="replace").rstrip("\r\n").split("\t")
            if len(fields) == 3:  # noqa: PLR2004 - operation, part, block; a line that a crash cut short has fewer
                yield fields[0], fields[1], fields[2], (number, at) <= settled


def live_of(folder: Path) -> Live:
    """Return the tokens that one table's log holds."""
    live: Live = {}
    for operation, part, block, settled in _entries(_files(folder), _settled(folder)):
        live.pop(block, None)
        if operation == _ADD:
            live[block] = part, settled
    return live


def _is_empty(part: Path) -> bool:
    try:
        return int((part / "count.txt").read_text()) == 0
    except (OSError, ValueError):  # not there or not read: a part like any other
        return False


def uncover(table: Path, live: Live) -> list[Path]:
    """Remove from a table the empty parts that cover settled tokens of its log, and before each what it covers; return those that were removed."""
    settled = [found for name, is_settled in live.values() if is_settled and (found := parts.read(name)) is not None]
    if not settled:
        return []
    there = parts.of(table)
    removed: list[Path] = []
    for cover in [entry for entry, part in there.items() if any(part.covers(s) for s in settled) and _is_empty(entry)]:
        covered = [entry for entry, part in there.items() if entry != cover and there[cover].covers(part)]
        removed += [entry for entry in covered if _remove(entry)]
        _sync_folder(table)  # else a power cut could leave what was covered without its cover: rows of before would be back
        removed += [cover] if _remove(cover) else []
    return removed


def _remove(part: Path) -> bool:
    """Remove a part's folder, by way of a name that the engine takes for nothing, so that none is seen by half; False: it is gone."""
    if not part.exists():
        return False
    gone = part.with_name(f"delete_tmp_{part.name}")
    shutil.rmtree(gone, ignore_errors=True)  # of a removal that was cut short
    shutil.rmtree(part.rename(gone))
    return True


def orphans(table: Path, live: Live) -> list[Orphan]:
    """Return the newest entries of one table's log that have no part."""
    present = parts.of(table).values()
    found = []
    for block, (name, settled) in list(live.items())[-RECENT:]:
        wanted = None if settled else parts.read(name)
        if wanted is not None and not any(p.covers(wanted) for p in present):
            found.append(Orphan(table, name, block))
    return found


def repair(data: Path) -> list[Orphan]:
    """Drop every orphan below `data` from its log, by the engine's own kind of entry; return them."""
    found = []
    for folder in folders(data):
        live = live_of(folder)
        uncover(folder.parent, live)
        files, lost = _files(folder), orphans(folder.parent, live)
        if not lost:
            continue
        with files[-1].open("r+b") as file:
            whole = file.read()
            if whole and not whole.endswith(b"\n"):  # the line that the crash cut short
                file.truncate(whole.rfind(b"\n") + 1)
            file.seek(0, os.SEEK_END)
            file.write("".join(f"{_DROP}\t{o.part}\t{o.block}\n" for o in lost).encode())
            file.flush()
            os.fsync(file.fileno())
        found += lost
    return found


def sync(logs: list[Path], since_s: float) -> int:
    """Sync the newest file of each of `logs` that was written at `since_s` (seconds since the epoch) or later; return how many."""
    count = 0
    for folder in logs:
        try:
            files = _files(folder)
            if not files or files[-1].stat().st_mtime < since_s:
                continue
            with files[-1].open("rb") as file:
                os.fsync(file.fileno())
            count += 1
        except FileNotFoundError:  # the table was dropped, or its log turned over, meanwhile
            continue
    return count


class Logs:
    """The logs of a data folder's tables, looked for once and anew after tables have come or gone. Shared between threads."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._now = object()  # another one after each change
        self._found: tuple[object, list[Path]] = (None, [])

    def changed(self) -> None:
        """Note that tables may have come or gone."""
        self._now = object()

    def sync(self, since_s: float) -> int:
        """Sync as `sync` does."""
        now = self._now
        of, logs = self._found
        if of is not now:
            logs = folders(self._data)
            self._found = now, logs  # of before a change that came meanwhile: looked for anew next time
        return sync(logs, since_s)

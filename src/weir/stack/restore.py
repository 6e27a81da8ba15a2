"""A backup put back into a home, and the word to ingest that its tables are of earlier.

In: a backup, a home in which nothing runs. Out: the parts of the backup at their places, whole. Keep: never over data without being told, and then what was
there is set aside, not deleted; staged, checked and synced under another name before anything is moved; an interruption leaves what was there, or a restore
that the same command ends and without which the stack does not start.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from weir.contracts.home import RESTORING
from weir.errors import DiskFull, Terminal
from weir.stack import backup, copying, lifecycle, supervision
from weir.stack.backup import CLICKHOUSE, SPARE_BYTES, Manifest, Tell
from weir.stack.copying import Progress
from weir.stack.settings import StackSettings

MARK: Final = "restored.json"  # in ClickHouse's folder, until the stack has told ingest
_READY: Final = ".ready"  # in the staging folder: it is whole


def find(home: Path, given: str) -> Path:
    """Return the backup that a name, a path or `latest` means.

    Raises:
        Terminal: there is none.
    """
    if given == "latest":
        there = [path for path, manifest in backup.known(backup.folder(home, None)) if manifest is not None]
        if not there:
            raise Terminal(f"there is no backup in {backup.folder(home, None)}", hint="give the path of one, or make one: ./weir backup")
        return there[-1]
    for path in (Path(given).expanduser(), backup.folder(home, None) / given):
        if path.is_dir():
            return path.resolve()
    raise Terminal(f"there is no backup {given!r}", hint="give a path, a name that ./weir backup list shows, or latest")


def restore(settings: StackSettings, given: str, *, replace: bool = False, tell: Tell = lambda _p: None) -> tuple[Manifest, list[str]]:
    """Put a backup back; return it, and the names of what was set aside.

    Raises:
        Terminal: it cannot be done as asked; says why, and nothing was changed. DiskFull: there is no room.
    """
    home, path = settings.home, find(settings.home, given)
    with _at_rest(settings):
        manifest = backup.read(path)
        _check_engine(manifest)
        staging = home / f"{RESTORING}{manifest.name}"
        unfinished = (staging / _READY).exists()
        there = [] if unfinished else [p for p in manifest.parts if _holds(home / p)]
        if there and not replace:
            raise Terminal(f"{home} holds data already: {', '.join(there)}", hint="restore into another WEIR_HOME, or give --replace to set it aside")
        for left in home.glob(f"{RESTORING}*"):
            if left != staging or not unfinished:
                shutil.rmtree(left)
        if not unfinished:
            _stage(path, manifest, staging, home, tell)
        return manifest, _place(staging, home, manifest)


@contextmanager
def _at_rest(settings: StackSettings) -> Iterator[None]:
    """Hold off `up` and `down`, in a home where nothing runs."""
    if CLICKHOUSE in settings.external:
        raise Terminal("ClickHouse is not this stack's own: clickhouse_url names another server", hint="restore it with its own RESTORE command")
    with lifecycle.turn(settings.home, lambda _name, _what: None):
        if supervision.Control(settings.home).alive():
            raise Terminal(f"the stack at {settings.home} runs", hint="./weir down first; nothing was changed")
        yield


def _check_engine(manifest: Manifest) -> None:
    import chdb

    from weir.gateway import layout

    if not manifest.engine:  # made of a folder that was never opened since folders say what made them
        return
    why = layout.refusal({"engine": manifest.engine, "layout": manifest.layout}, chdb.engine_version, Path(manifest.name))
    if why:
        raise Terminal(why)


def _holds(path: Path) -> bool:
    """Say whether something is there: a file, or a folder with a file in it."""
    return path.exists() and (not path.is_dir() or any(p.is_file() or p.is_symlink() for p in path.rglob("*")))


def _stage(path: Path, manifest: Manifest, staging: Path, home: Path, tell: Tell) -> None:
    free = shutil.disk_usage(home).free
    if free < manifest.size_bytes + SPARE_BYTES:
        raise DiskFull(f"{free >> 20} MB are free at {home}, and the restore needs {(manifest.size_bytes + SPARE_BYTES) >> 20} MB", hint="free some, or set WEIR_HOME to a larger disk")
    (staging / CLICKHOUSE).mkdir(parents=True)
    try:
        copying.rebuild(backup.entries(path), path / "data", staging, Progress(manifest.size_bytes, tell))
        engine = {"layout": manifest.layout, "engine": manifest.engine, "earlier": []}
        if manifest.engine:
            (staging / CLICKHOUSE / "layout.json").write_text(json.dumps(engine))
        mark = {"id": f"{manifest.name} {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}", "made_at": manifest.made_at}
        (staging / CLICKHOUSE / MARK).write_text(json.dumps(mark))
        os.sync()
        (staging / _READY).touch()
        os.sync()
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _place(staging: Path, home: Path, manifest: Manifest) -> list[str]:
    """Move what is staged to its place, and what is there aside first; return the names of what was set aside."""
    stamp, aside = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()), []
    for part in manifest.parts:
        if not (staging / part).exists():
            continue  # an interrupted restore had moved it
        if _holds(home / part):
            name = f"{part}.before-restore-{stamp}"
            (home / part).rename(home / name)
            aside.append(name)
        elif (home / part).is_dir():
            shutil.rmtree(home / part)
        (staging / part).rename(home / part)
    shutil.rmtree(staging)
    os.sync()
    return aside


def check_finished(home: Path) -> None:
    """See that no restore is half done.

    Raises:
        Terminal: one is.
    """
    left = next((p for p in home.glob(f"{RESTORING}*") if (p / _READY).exists()), None)
    if left is not None:
        raise Terminal(f"a restore of {left.name.removeprefix(RESTORING)} was interrupted at its end", hint="./weir restore with the same backup ends it")


def tell_ingest(home: Path, clickhouse_url: str) -> None:
    """Leave the mark in the restored tables by which ingest compares them with Kafka's commits; before a worker starts.

    Raises:
        Transient: ClickHouse does not answer.
    """
    from weir.ingest import schema

    file = home / CLICKHOUSE / MARK
    if file.exists():
        schema.mark(clickhouse_url, json.loads(file.read_text())["id"])
        file.unlink()

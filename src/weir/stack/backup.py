"""Backups of a home: ClickHouse's data as of one moment while the stack runs, or everything while it does not.

In: settings. Out: a folder with `manifest.json`, `files.jsonl` (each file with its SHA-256) and `data/`. Keep: a backup has its name only when it is whole
and on the disk; passwords are in it only when everything is, and then only its owner may read it; what runs is not stopped.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from weir.contracts import home as homes
from weir.contracts import tls
from weir.contracts.clickhouse import parse
from weir.errors import DiskFull, Terminal, Unavailable
from weir.stack import copying, supervision
from weir.stack.copying import Entry, Progress
from weir.stack.settings import StackSettings

FORMAT: Final = 1
CLICKHOUSE: Final = "clickhouse"
NOT_BACKED_UP: Final = frozenset({"logs", "run", "torture", "verify"})  # of a run, or made anew
SPARE_BYTES: Final = 256 << 20  # left free on the disk beside the backup
HOLD_S: Final = 30.0  # for the statements that write to end
_PARTIAL: Final = ".partial"
_ANSWER_S: Final = 180.0

Tell = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup is. `cut`: hot (the engine ran) or cold; `held_ms`: how long writes stood still; `engine`, `layout`: of ClickHouse's data."""

    name: str
    made_at: str
    parts: tuple[str, ...]
    cut: str
    held_ms: float
    engine: str
    layout: int
    files: int
    size_bytes: int
    list_sha256: str
    format: int = FORMAT


def folder(home: Path, to: Path | None) -> Path:
    """Return where backups go: `to`, or the home's own folder."""
    return to.expanduser().resolve() if to else home / "backups"


def make(settings: StackSettings, to: Path | None, *, whole: bool, tell: Tell = lambda _p: None) -> tuple[Path, Manifest]:
    """Make a backup and return its folder. With `whole`: everything in the home, which needs a stack that is down.

    Raises:
        Terminal: it cannot be made as asked; says why. DiskFull: there is no room. Unavailable: the gateway does not answer.
    """
    if CLICKHOUSE in settings.external:
        raise Terminal("ClickHouse is not this stack's own: clickhouse_url names another server", hint="back it up with its own BACKUP command")
    if whole and supervision.Control(settings.home).alive():
        raise Terminal("a whole backup is of a stack that is down: PostgreSQL and Kafka change their files while they run", hint="./weir down first, or leave --whole out to back up ClickHouse alone")
    if not (settings.home / CLICKHOUSE / "data").exists():
        raise Terminal(f"{settings.home / CLICKHOUSE} holds no data yet", hint="./weir up makes it")
    place = folder(settings.home, to)
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _one_at_a_time(place):
        for left in place.glob(f"*{_PARTIAL}"):
            shutil.rmtree(left)
        made_at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        name = next(n for n in [f"weir-{made_at}", *(f"weir-{made_at}-{i}" for i in range(2, 1000))] if not (place / n).exists())
        with _snapshot(settings) as cut:
            sources = {f"{CLICKHOUSE}/data": Path(cut["path"])}
            if whole:
                names = sorted(e.name for e in settings.home.iterdir() if e.name in homes.DATA - NOT_BACKED_UP - {CLICKHOUSE})
                sources |= {n: settings.home / n for n in names}
            return _written(place, name, made_at, sources, cut, tell)


@contextmanager
def _one_at_a_time(place: Path) -> Iterator[None]:
    with (place / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Terminal(f"another backup is being made in {place}", hint="wait for it, or give another folder with --to") from None
        yield


@contextmanager
def _snapshot(settings: StackSettings) -> Iterator[dict[str, Any]]:
    """Yield a cut of ClickHouse's data: by the gateway when it runs, else of the folder as it lies there."""
    path = settings.home / CLICKHOUSE
    with (path / "owner.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            cut = _cold(path)
        except BlockingIOError:
            cut = _hot(settings)
        try:
            yield cut
        finally:
            shutil.rmtree(cut["path"], ignore_errors=True)


def _cold(path: Path) -> dict[str, Any]:
    import uuid

    from weir.gateway import layout, snapshot

    target = path / "snapshots" / uuid.uuid4().hex
    try:
        said = layout.read(path)
    except RuntimeError as error:
        raise Terminal(str(error)) from error
    snapshot.cut(path / "data", target)
    return {"path": str(target), "cut": "cold", "held_ms": 0.0, "engine": said.get("engine", ""), "layout": said.get("layout", layout.LAYOUT)}


def _hot(settings: StackSettings) -> dict[str, Any]:
    server = parse(settings.endpoints.clickhouse_url)
    try:
        answer = httpx.post(f"{server.base_url}/snapshot", params={"wait_s": str(HOLD_S)}, auth=server.auth, timeout=_ANSWER_S, verify=tls.context())
    except httpx.HTTPError as error:
        raise Unavailable(f"ClickHouse does not answer: {error!r}", hint="./weir logs clickhouse shows why") from error
    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        raise Unavailable(f"no moment without a statement that writes was found in {HOLD_S:g} s ({' '.join(answer.text.split())[:200]})", hint="try again when it has ended")
    if not answer.is_success:
        raise Terminal(f"ClickHouse made no snapshot (HTTP {answer.status_code}): {' '.join(answer.text.split())[:200]}", hint="./weir logs clickhouse shows more")
    return {**answer.json(), "cut": "hot"}


def _written(place: Path, name: str, made_at: str, sources: dict[str, Path], cut: dict[str, Any], tell: Tell) -> tuple[Path, Manifest]:
    total = sum(copying.size_bytes(s) if s.is_dir() else s.stat().st_size for s in sources.values())
    free = shutil.disk_usage(place).free
    if free < total + SPARE_BYTES:
        raise DiskFull(f"{free >> 20} MB are free at {place}, and the backup needs {(total + SPARE_BYTES) >> 20} MB", hint="free some, or give another disk's folder with --to")
    partial, progress = place / f"{name}{_PARTIAL}", Progress(total, tell)
    (partial / "data" / CLICKHOUSE).mkdir(parents=True, mode=0o700)
    partial.chmod(0o700)
    try:
        files, digest = 0, hashlib.sha256()
        with (partial / "files.jsonl").open("wb") as listed:
            for part, source in sources.items():
                for entry in copying.copy(source, partial / "data" / part, part, progress):
                    line = json.dumps(asdict(entry)).encode() + b"\n"
                    listed.write(line)
                    digest.update(line)
                    files += bool(entry.sha256)
        parts = tuple(sorted({p.split("/")[0] for p in sources}))
        manifest = Manifest(name, made_at, parts, cut["cut"], cut["held_ms"], cut["engine"], cut["layout"], files, progress.done_bytes, digest.hexdigest())
        (partial / "manifest.json").write_text(json.dumps(asdict(manifest), indent=2) + "\n")
        os.sync()
        partial.rename(place / name)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    os.sync()
    return place / name, manifest


def read(path: Path) -> Manifest:
    """Return what the backup at `path` is.

    Raises:
        Terminal: it is none, or one that this version does not know, or its list is damaged.
    """
    try:
        document = json.loads((path / "manifest.json").read_text())
        if document.get("format") != FORMAT:
            raise Terminal(f"{path} has the backup format {document.get('format')}, and this version reads format {FORMAT}", hint="restore it with the version that made it")
        manifest = Manifest(**document | {"parts": tuple(document["parts"])})
        listed = hashlib.sha256((path / "files.jsonl").read_bytes()).hexdigest()
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise Terminal(f"{path} is no backup of Weir's, or not a whole one ({type(error).__name__})", hint="./weir backup list names those that there are") from error
    if listed != manifest.list_sha256:
        raise Terminal(f"the backup {path} is damaged: files.jsonl is not what was written", hint="use another backup (./weir backup list)")
    return manifest


def entries(path: Path) -> Iterator[Entry]:
    """Yield what the backup lists."""
    with (path / "files.jsonl").open() as file:
        for line in file:
            yield Entry(**json.loads(line))


def known(place: Path) -> list[tuple[Path, Manifest | None]]:
    """Return the backups of a folder, the oldest first; one that cannot be read is told as None."""
    found: list[tuple[Path, Manifest | None]] = []
    for path in sorted(place.glob("weir-*")) if place.exists() else []:
        if path.name.endswith(_PARTIAL):
            continue
        try:
            found.append((path, read(path)))
        except Terminal:
            found.append((path, None))
    return found


def check(path: Path, tell: Tell = lambda _p: None) -> Manifest:
    """Hold every file of a backup to its digest.

    Raises:
        Terminal: it is damaged; names the first file that is.
    """
    manifest = read(path)
    copying.check(entries(path), path / "data", Progress(manifest.size_bytes, tell))
    return manifest

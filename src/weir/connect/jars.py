"""The Java side's jars: locked by coordinate and SHA-256, fetched in parallel, verified, kept.

In: `connect/jars.lock`, lines of `folder group:artifact:version[:classifier] sha256`. Out: WEIR_HOME/jars/<folder>/*.jar. Keep: a jar whose
sum differs is never used, also when it was there before; what is there already is not fetched again. The repository is Maven Central by its default in jgo;
WEIR_MAVEN_URL names a mirror. Layout: https://maven.apache.org/repository/layout.html
"""

from __future__ import annotations

import hashlib
import json
import os
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from weir.errors import ContractViolation, SettingsError, Unavailable

FETCHERS = 8
TIMEOUT_S = 60
REPORT_S = 2.0
SEEN = "seen.json"
STALE_S = 3600  # no jar takes an hour: each read of a download has TIMEOUT_S


@dataclass(frozen=True, slots=True)
class Jar:
    """One locked jar."""

    folder: str
    group: str
    artifact: str
    version: str
    classifier: str
    sha256: str

    @property
    def filename(self) -> str:
        """Return the file's name in a Maven repository."""
        tail = f"-{self.classifier}" if self.classifier else ""
        return f"{self.artifact}-{self.version}{tail}.jar"

    @property
    def repository_path(self) -> str:
        """Return the path below the repository's URL."""
        return f"{self.group.replace('.', '/')}/{self.artifact}/{self.version}/{self.filename}"

    def line(self) -> str:
        """Return the lock's line."""
        coordinate = ":".join(p for p in (self.group, self.artifact, self.version, self.classifier) if p)
        return f"{self.folder} {coordinate} {self.sha256}"


def parse(text: str) -> list[Jar]:
    """Read the lock.

    Raises:
        SettingsError: a line is not of the form; names it.
    """
    jars = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        words = line.split()
        parts = words[1].split(":") if len(words) == 3 else []  # noqa: PLR2004 - folder, coordinate, sum
        if len(parts) not in {3, 4} or len(words[2]) != 64:  # noqa: PLR2004 - hex of SHA-256
            raise SettingsError(f"connect/jars.lock line {number} is not 'folder group:artifact:version sha256'", hint="make the lock anew")
        jars.append(Jar(words[0], parts[0], parts[1], parts[2], parts[3] if len(parts) == 4 else "", words[2]))  # noqa: PLR2004 - coordinate with a classifier
    return jars


def lock_path() -> Path:
    """Return where the lock is."""
    return Path(__file__).resolve().parents[3] / "connect" / "jars.lock"


def _repository() -> str:
    from jgo.constants import MAVEN_CENTRAL_URL

    return os.environ.get("WEIR_MAVEN_URL", MAVEN_CENTRAL_URL).rstrip("/")


class _Meter:
    """Bytes that all fetchers have taken; `ended` has them give up (an interrupted start must not wait for a download)."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.size_bytes = 0
        self._lock = threading.Lock()

    def add(self, size_bytes: int) -> None:
        with self._lock:
            self.size_bytes += size_bytes


def _download(jar: Jar, temporary: Path, meter: _Meter) -> str:
    """Download to `temporary` and return the SHA-256."""
    import httpx

    url = f"{_repository()}/{jar.repository_path}"
    digest = hashlib.sha256()
    try:
        trust = ssl.create_default_context()  # the machine's certificates, which a mirror or proxy is known by; not a bundled list
        with httpx.stream("GET", url, timeout=TIMEOUT_S, follow_redirects=True, verify=trust) as answer, temporary.open("wb") as file:
            answer.raise_for_status()
            for chunk in answer.iter_bytes(1 << 16):
                if meter.ended.is_set():
                    raise Unavailable(f"{jar.filename} was not fetched: stopped")
                digest.update(chunk)
                file.write(chunk)
                meter.add(len(chunk))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(
            f"{jar.filename} could not be fetched: {error}", hint="the first run needs a network; WEIR_MAVEN_URL names a mirror"
        ) from error
    return digest.hexdigest()


def _fetch_one(jar: Jar, target: Path, meter: _Meter) -> None:
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")  # own name: two homes may share the folder
    os.close(descriptor)
    temporary = Path(name)
    try:
        if _download(jar, temporary, meter) != jar.sha256:
            raise ContractViolation(f"{jar.filename} has another SHA-256 than connect/jars.lock", hint="do not use it; ask the mirror's owner")
        temporary.chmod(0o644)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def line_of_progress(done: int, total: int, size_bytes: int, elapsed_s: float) -> str:
    """Return one line: how many of the missing jars, how fast, how long to go (by jars, since the lock knows no sizes). Pure."""
    to_go = f"{(total - done) * elapsed_s / done:.0f} s to go" if done else "time to go not known yet"
    return f"{done} of {total} fetched · {size_bytes / max(elapsed_s, 1e-6) / 1e6:.1f} MB/s · {to_go}"


def _seen(folder: Path) -> dict[str, list[Any]]:
    """Return what was summed before, by path below `folder`: [size, time of change in ns, SHA-256]; empty when that is not known."""
    try:
        found = json.loads((folder / SEEN).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write_seen(folder: Path, seen: dict[str, list[Any]]) -> None:
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=f".{SEEN}.")
    with os.fdopen(descriptor, "w") as file:
        json.dump(seen, file)
    Path(name).replace(folder / SEEN)


def _missing(folder: Path, jars: Iterable[Jar]) -> list[tuple[Jar, Path]]:
    """Return the jars that are not there or are not what the lock says. A file is summed once, and again when its size or time of change differs."""
    missing, before, seen = [], _seen(folder), {}
    for jar in jars:
        target = folder / jar.folder / jar.filename
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            status, key = target.stat(), f"{jar.folder}/{jar.filename}"
            known = before.get(key, [])
            same = known[:2] == [status.st_size, status.st_mtime_ns]
            seen[key] = known if same else [status.st_size, status.st_mtime_ns, _sum(target)]
            if seen[key][2] == jar.sha256:
                continue
        missing.append((jar, target))
    if seen != before:
        _write_seen(folder, seen)
    return missing


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(home: Path, report: Callable[[str], None] = lambda _line: None) -> Path:
    """Fetch every locked jar that is not there yet, or has other bytes than the lock says; return the jars' folder.

    Args:
        home: WEIR_HOME.
        report: called with a line of progress each REPORT_S.

    Raises:
        Unavailable: the repository could not be reached. ContractViolation: a sum differs.
    """
    jars = parse(lock_path().read_text())
    folder = home / "jars"
    missing, meter, began = _missing(folder, jars), _Meter(), time.monotonic()
    if missing:
        pool = ThreadPoolExecutor(max_workers=FETCHERS)
        waiting = {pool.submit(_fetch_one, jar, target, meter) for jar, target in missing}
        try:
            while waiting:
                done, waiting = wait(waiting, timeout=REPORT_S, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
                report(line_of_progress(len(missing) - len(waiting), len(missing), meter.size_bytes, time.monotonic() - began))
        finally:
            meter.ended.set()
            pool.shutdown(wait=False, cancel_futures=True)
    wanted = {(j.folder, j.filename) for j in jars}
    for path in folder.glob("*/*.jar"):  # a jar of an older lock must not stay on the class path
        if (path.parent.name, path.name) not in wanted:
            path.unlink(missing_ok=True)
    for path in folder.glob("*/.*.part"):  # left by a fetch that was killed
        if time.time() - path.stat().st_mtime > STALE_S:
            path.unlink(missing_ok=True)
    return folder


def class_path(home: Path, folder: str) -> str:
    """Return the explicit, sorted class path of one folder (sorted, so that a class-data archive stays valid)."""
    return os.pathsep.join(str(p) for p in sorted((home / "jars" / folder).glob("*.jar")))


def resolve(home: Path) -> Iterable[Jar]:
    """Fetch every jar of `connect/jars.in` (folder and coordinate a line) into `home` and yield it with its sum; needs a network."""
    for line in (lock_path().with_name("jars.in")).read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            jar = parse(f"{line} {'0' * 64}")[0]
            target = home / jar.filename
            yield replace(jar, sha256=_download(jar, target, _Meter()))


if __name__ == "__main__":
    sys.stdout.write("# Made by: ./weir run python -m weir.connect.jars > connect/jars.lock\n")
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.writelines(jar.line() + "\n" for jar in resolve(Path(folder)))

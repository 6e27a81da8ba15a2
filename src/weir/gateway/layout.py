"""Which engine and which layout made a data folder: asked before the engine opens it, noted before it may change it.

In: the folder, and the version of the engine that would open it. Out: `layout.json` beside the engine's data. Keep: data that a newer engine, or another
layout, may have written is never opened; a folder that a newer engine touched says so even if that engine then died.
An older engine's data is opened: ClickHouse reads the parts of earlier versions, and never promises the reverse (its documentation, "Upgrading" and "Downgrading").
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

LAYOUT = 1  # of what lies beside the engine's own data: `data`, owner.lock, spool, backups, snapshots
FILE = "layout.json"


def _release(version: str) -> tuple[int, int]:
    """Return year and month of a version such as 26.9.2.1; what is behind them are repairs, which change no format."""
    major, minor, *_ = version.split(".")
    return int(major), int(minor)


def read(path: Path) -> dict[str, Any]:
    """Return what the folder says of itself; empty when it was made before folders did, or is new.

    Raises:
        RuntimeError: the file is not understood.
    """
    file = path / FILE
    if not file.exists():
        return {}
    try:
        found = json.loads(file.read_text())
        _release(found["engine"])
        int(found["layout"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RuntimeError(f"{file} is not understood ({type(error).__name__}), so it is unknown what made the data: restore a backup, or put the file back") from error
    return dict(found)


def refusal(found: dict[str, Any], engine: str, path: Path) -> str:
    """Return why data that says `found` of itself is not opened by the engine of version `engine`, in a sentence, or an empty string. Pure."""
    if not found:
        return ""
    if int(found["layout"]) != LAYOUT:
        return (f"{path} has layout {found['layout']}, and this program knows layout {LAYOUT}: start the version that made it, or restore a backup that has layout {LAYOUT}")
    if _release(found["engine"]) > _release(engine):
        return (f"{path} was opened by ClickHouse {found['engine']}, and this is {engine}, which may not read what a newer one wrote: "
                f"start a version with {found['engine']} or newer, or restore a backup that was made before the upgrade")
    return ""


def claim(path: Path, engine: str) -> str:
    """Note that the engine of version `engine` opens the folder now; return the version that had it before, or an empty string.

    Raises:
        RuntimeError: it must not.
    """
    found = read(path)
    if why := refusal(found, engine, path):
        raise RuntimeError(why)
    before = str(found.get("engine", ""))
    if before != engine:
        earlier = [*found.get("earlier", []), *([before] if before else [])]
        descriptor, temporary = tempfile.mkstemp(dir=path, prefix=".layout-")
        with os.fdopen(descriptor, "w") as file:
            json.dump({"layout": LAYOUT, "engine": engine, "earlier": earlier}, file)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path / FILE)
    return before

"""The engine's logs of queries, parts and views, kept over its end.

The engine's database `system` is in memory: one that is opened makes its tables of logs anew, without the parts that stood in their folders. So those are put aside before, and attached to
the new tables once these stand.

In: a data folder that no process has open, then the same with the engine open. Out: how many parts came back. Keep: what cannot be attached (of another engine's columns, or cut short by a
kill: logs are not synced) is left out with a warning, and never stops a start; their TTL bounds what is kept.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from weir.gateway import parts
from weir.gateway.config import LOGS

log = logging.getLogger("weir.gateway")

ASIDE: Final = "logs"  # in the gateway's folder, beside the engine's


def put_aside(path: Path) -> None:
    """Take the logs' parts out of the way of the engine that will be opened: to `path`/logs, in a numbered folder for each time."""
    for table in LOGS:
        folder = path / "data" / "data" / "system" / table
        found = parts.of(folder) if folder.is_dir() else {}
        if found:
            aside = path / ASIDE / table
            aside.mkdir(parents=True, exist_ok=True)
            to = aside / str(1 + max((int(f.name) for f in aside.iterdir() if f.name.isdigit()), default=0))
            to.mkdir()
            for part in found:
                part.rename(to / part.name)


def attach(path: Path, ask: Callable[[str], str]) -> int:
    """Attach what was put aside to the tables that stand now, and remove the rest; return how many parts came back."""
    count = 0
    for table in LOGS:
        for folder in sorted((path / ASIDE / table).glob("*"), key=lambda f: f.name):
            for part in parts.uncovered(parts.of(folder).items()):
                detached = path / "data" / "data" / "system" / table / "detached" / part.name
                try:
                    part.rename(detached)
                    ask(f"ALTER TABLE system.{table} ATTACH PART '{part.name}'")
                    count += 1
                except Exception as error:  # noqa: BLE001 - whatever it is, the log of before is worth no failed start
                    log.warning("a part of system.%s from before this start is left out: %s", table, str(error).partition("\n")[0][:200])
                    shutil.rmtree(detached, ignore_errors=True)
    shutil.rmtree(path / ASIDE, ignore_errors=True)
    return count

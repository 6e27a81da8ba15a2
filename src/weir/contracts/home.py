"""What WEIR_HOME holds: the folders that the rooms make there, and so all that `./weir clean` may delete. Whoever adds one names it here (a house test sees to it)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

DATA: Final = frozenset({
    "clickhouse", "connect", "dbt", "demo", "evidence", "feast", "kafka", "load", "logs", "mlflow", "models", "postgres", "redis", "run", "secrets", "torture", "verify",
    "users.toml",  # hashes of what is in secrets: the two go together
})
KEPT: Final = frozenset({"jars", "browser", "backups", "stack-test"})  # the last: home of the stacks of ./weir test, which may run; fetched, and the same for every stack; what is to outlive the data; the environments beside them are the launcher's
_BENCHMARKS: Final = re.compile(r"bench-[a-z]+|bench-env-[0-9a-f]{12}|\.bench-env\.lock")  # homes, jars and environments of `./weir bench`
RESTORING: Final = ".restoring-"  # begins the name of a folder in which weir.stack.restore stages a backup
# What weir.connect.postgres leaves of a start that was killed, and weir.stack.restore of what it replaced, or when it was killed.
_SET_ASIDE: Final = re.compile(r"postgres\.set-aside-[0-9]+|\.pw-[0-9]+|[a-z.]+\.before-restore-[0-9TZ]+|\.restoring-.+")


def is_data(name: str) -> bool:
    """Say whether an entry of WEIR_HOME holds a stack's data. Pure."""
    return name in DATA or _BENCHMARKS.fullmatch(name) is not None or _SET_ASIDE.fullmatch(name) is not None


def foreign(entries: Iterable[Path]) -> list[str]:
    """Return the names of what Weir did not make, sorted. Pure."""
    launchers = re.compile(r"env-[0-9a-f]{12}|\.env\.lock")
    return sorted(e.name for e in entries if not (is_data(e.name) or e.name in KEPT or launchers.fullmatch(e.name)))

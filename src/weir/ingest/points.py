"""The named points of a lane's loop, and what an experiment may have happen at one: nothing, unless its variables are set.

In: WEIR_INGEST_CRASH_AT=point[:n], at whose n-th pass the process ends itself by SIGKILL; WEIR_INGEST_TRAIL=file, to which each pass is appended before that. Out: what `Lane.reach`
calls. Keep: without the variables nothing is opened, written or counted; a line of the trail is one write, so it outlives the process that wrote it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Final

# In the order of the loop; the last two are of a replay, when partitions with an open intent are assigned.
POINTS: Final = ("before_declare", "after_declare", "after_insert", "after_finish", "before_replay", "after_replay")
CRASH_AT: Final = "WEIR_INGEST_CRASH_AT"
TRAIL: Final = "WEIR_INGEST_TRAIL"


def reaching(environment: Mapping[str, str]) -> Callable[[str], None]:
    """Return what to do at a named point."""
    setting, path = environment.get(CRASH_AT, ""), environment.get(TRAIL, "")
    if not setting and not path:
        return lambda _name: None
    point, _, times = setting.partition(":")
    left = {point: int(times or 1)}
    trail = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644) if path else None

    def reach(name: str) -> None:
        if trail is not None:
            os.write(trail, f"{name}\n".encode())
        if name in left:
            left[name] -= 1
            if left[name] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return reach


def in_flight(trail: Sequence[str]) -> bool:
    """Say whether a batch was formed, declared or inserted and its end not committed, by a process's trail. Pure.

    After a replay nothing tells whether its commit was kept: that counts as none, but at the point itself, where the commit is still to come.
    """
    return bool(trail) and trail[-1] not in {"after_finish", "after_replay"}

"""Named points of a process's work, and what an experiment may have happen at one: nothing, unless its variables are set.

In: a variable `point[:n]`, at whose n-th pass the process ends itself by SIGKILL; another with a file, to which each pass is appended before that. Out: what the work
calls at each point. Keep: without the variables nothing is opened, written or counted; a line of the trail is one write, so it outlives the process that wrote it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping


def reaching(environment: Mapping[str, str], crash_at: str, trail_file: str) -> Callable[[str], None]:
    """Return what to do at a named point. `crash_at`, `trail_file`: the names of the two variables."""
    setting, path = environment.get(crash_at, ""), environment.get(trail_file, "")
    if not setting and not path:
        return nothing
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


def nothing(_name: str) -> None:
    """Reach a point of which nobody asks."""

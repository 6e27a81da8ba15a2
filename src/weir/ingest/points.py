"""The named points of a lane's loop (weir.telemetry.points says what may happen at one).

In: WEIR_INGEST_CRASH_AT=point[:n], WEIR_INGEST_TRAIL=file. Out: what `Lane.reach` calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from weir.telemetry import points

# In the order of the loop; the last two are of a replay, when partitions with an open intent are assigned.
POINTS: Final = ("before_declare", "after_declare", "after_insert", "after_finish", "before_replay", "after_replay")
CRASH_AT: Final = "WEIR_INGEST_CRASH_AT"
TRAIL: Final = "WEIR_INGEST_TRAIL"


def reaching(environment: Mapping[str, str]) -> Callable[[str], None]:
    """Return what to do at a named point."""
    return points.reaching(environment, CRASH_AT, TRAIL)


def in_flight(trail: Sequence[str]) -> bool:
    """Say whether a batch was formed, declared or inserted and its end not committed, by a process's trail. Pure.

    After a replay nothing tells whether its commit was kept: that counts as none, but at the point itself, where the commit is still to come.
    """
    return bool(trail) and trail[-1] not in {"after_finish", "after_replay"}

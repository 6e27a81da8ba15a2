"""Whether Kafka may delete what is not landed yet: the lanes' commits against each topic's retention (`weir.topics.retention`).

In: a broker, its offsets. Out: alarms and a `Check` each. Keep: nothing is wrong yet while records only near their deletion, so the verdict is *unknown*; it is *no* once
some were deleted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from weir.quality.ask import Offsets
from weir.quality.judge import Check, Verdict
from weir.topics import retention
from weir.topics.retention import Alarm, Position

NAME = "retention"


def ask(bootstrap: str, offsets: Mapping[tuple[str, int], Offsets] | None) -> list[Alarm] | None:
    """Return the alarms; None: Kafka could not be asked."""
    return None if offsets is None else retention.alarms(bootstrap, {p: Position(o.begin, o.end, o.committed) for p, o in offsets.items()})


def judge_retention(alarms: Sequence[Alarm] | None) -> list[Check]:
    """Judge the worst partition of each topic. Pure. No check: nothing that is not landed is old."""
    if alarms is None:
        return [Check(NAME, Verdict.UNKNOWN, "Kafka could not be asked what it keeps")]
    return [Check(NAME, Verdict.NO if a.lost else Verdict.UNKNOWN, a.text) for a in retention.worst(alarms)]

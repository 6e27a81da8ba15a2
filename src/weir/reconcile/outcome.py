"""What a cycle says of one table or one feature view."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from weir.reconcile.source import text_of


class Answer(StrEnum):
    """Yes: the same, or repaired and seen to be the same. Unknown never passes."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass
class Outcome:
    """Counts are of keys. `verified_lsn`: every key but `left` is as the source was at this LSN or later; 0: not verified."""

    kind: str  # table, mart or view
    name: str
    outcome: Answer = Answer.UNKNOWN
    reason: str = ""
    verified_lsn: int = 0
    verified_at_ms: int = 0
    rows_checked: int = 0
    missing: int = 0
    extra: int = 0
    doubled: int = 0
    different: int = 0
    stale: int = 0
    repaired: int = 0
    left: int = 0
    oversized: int = 0  # of those that stand: their row is larger than a record may be
    seconds: float = 0.0
    cost_s: float = 0.0  # of one core, see weir.reconcile.meter
    unchecked: tuple[str, ...] = field(default_factory=tuple)
    repairable: bool | None = None  # could --repair cure what was found; None: nothing was found, or not known

    @property
    def found(self) -> int:
        """Return how many keys differed."""
        return self.missing + self.extra + self.doubled + self.different + self.stale

    def add(self, other: Outcome) -> None:
        """Take in what was said of another slice of the same: counts add up, the worst answer and the earliest LSN stand."""
        first = not self.seconds
        self.outcome = other.outcome if first else overall([self, other])
        self.reason = self.reason or other.reason
        self.verified_lsn = other.verified_lsn if first else min(self.verified_lsn, other.verified_lsn)
        self.verified_at_ms = other.verified_at_ms if first else min(self.verified_at_ms, other.verified_at_ms)
        self.unchecked = other.unchecked or self.unchecked
        for name in ("rows_checked", "missing", "extra", "doubled", "different", "stale", "repaired", "left", "oversized", "cost_s"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        told = [r for r in (self.repairable, other.repairable) if r is not None]
        self.repairable = all(told) if told else None
        self.seconds += other.seconds or 1e-6

    def document(self) -> dict[str, Any]:
        """Return it as JSON values: `verified_through` is null or its LSN and time."""
        at = datetime.fromtimestamp(self.verified_at_ms / 1000, UTC).isoformat(timespec="milliseconds")
        through = {"lsn": text_of(self.verified_lsn), "at": at} if self.verified_lsn else None
        rest = {k: v for k, v in asdict(self).items() if k not in {"verified_lsn", "verified_at_ms"}}
        return {"verified_through": through, **rest, "outcome": str(self.outcome)}


def overall(outcomes: Iterable[Outcome]) -> Answer:
    """Return no when one is no, else unknown when one is or there are none, else yes."""
    answers = {o.outcome for o in outcomes}
    if Answer.NO in answers:
        return Answer.NO
    return Answer.UNKNOWN if Answer.UNKNOWN in answers or not answers else Answer.YES

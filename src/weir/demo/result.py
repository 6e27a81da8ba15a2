"""What the story found, as values. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows of source and sink. `events_in`: records that the topic holds, read one by one; `freshness_ms`: age of the newest landed record."""

    source_rows: dict[str, int]
    sink_rows: dict[str, int]
    events_in: int
    events_in_clickhouse: int
    events_quarantined: int
    freshness_ms: int = 0

    def lag(self) -> int:
        """Return the records that are on the topic and neither landed nor in quarantine (negative: doubled)."""
        return self.events_in - self.events_in_clickhouse - self.events_quarantined

    def missing(self) -> int:
        """Return how many rows and records are not at the sink yet."""
        return sum(max(0, n - self.sink_rows.get(t, 0)) for t, n in self.source_rows.items()) + max(0, self.lag())

    def reconciled(self) -> bool:
        """Return whether every count of a source equals its sink's."""
        return self.source_rows == self.sink_rows and self.lag() == 0


@dataclass(frozen=True, slots=True)
class Hops:
    """Milliseconds of each hop of one change, as polled from outside; they add up to the time until the recommendations changed."""

    to_landed_ms: float  # from producing, or from before the commit
    landed_to_feature_ms: float
    feature_to_recommendations_ms: float

    @classmethod
    def between(cls, began_s: float, landed_s: float, feature_s: float, changed_s: float) -> Hops:
        """Return the hops between four readings of one clock; a landing seen after its feature was there by then."""
        landed_s = min(landed_s, feature_s)
        return cls((landed_s - began_s) * 1000, (feature_s - landed_s) * 1000, (changed_s - feature_s) * 1000)

    @property
    def to_feature_ms(self) -> float:
        """Return the milliseconds until the feature was served."""
        return self.to_landed_ms + self.landed_to_feature_ms

    @property
    def to_recommendations_ms(self) -> float:
        """Return the milliseconds until the recommendations changed."""
        return self.to_feature_ms + self.feature_to_recommendations_ms


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The story's numbers; `document()` is what `--json` prints."""

    user_id: int
    clicked_item_id: int
    recommendations_before: list[int]
    recommendations_after: list[int]
    event: Hops
    cdc: Hops
    counts: Counts
    seconds_to_ready: float
    notes: dict[str, float] = field(default_factory=dict)

    def document(self) -> dict[str, object]:
        """Return the JSON document of `./weir demo --json`. Times in ms, `seconds_to_ready` from the command to the first recommendation without downloads."""
        return {
            "recommendations_before": self.recommendations_before,
            "recommendations_after": self.recommendations_after,
            "event_to_feature_ms": self.event.to_feature_ms,
            "event_hops": asdict(self.event),
            "cdc_to_feature_ms": self.cdc.to_feature_ms,
            "cdc_hops": asdict(self.cdc),
            "events_in": self.counts.events_in,
            "events_in_clickhouse": self.counts.events_in_clickhouse,
            "events_quarantined": self.counts.events_quarantined,
            "source_rows": self.counts.source_rows,
            "sink_rows": self.counts.sink_rows,
            "seconds_to_ready": self.seconds_to_ready,
        }


def others_changed(before: Sequence[int], after: Sequence[int], clicked: int) -> bool:
    """Return whether the answer changed beyond the clicked item leaving it and the rest moving up by one."""
    kept = [i for i in before if i != clicked]
    return [i for i in after if i != clicked][: len(kept)] != kept

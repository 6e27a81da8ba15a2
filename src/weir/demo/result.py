"""What the story found, as values. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows of source and sink. `events_in`: records on the topic by the broker's offsets; `freshness_ms`: age of the newest landed record."""

    source_rows: dict[str, int]
    sink_rows: dict[str, int]
    events_in: int
    events_in_clickhouse: int
    events_quarantined: int
    freshness_ms: int = 0

    def lag(self) -> int:
        """Return the records that are on the topic and neither landed nor in quarantine (negative: doubled)."""
        return self.events_in - self.events_in_clickhouse - self.events_quarantined

    def reconciled(self) -> bool:
        """Return whether every count of a source equals its sink's."""
        return self.source_rows == self.sink_rows and self.lag() == 0


@dataclass(frozen=True, slots=True)
class Hops:
    """Milliseconds from producing (or commit) until seen at each hop, as polled from outside."""

    produced_to_landed_ms: float
    landed_to_feature_ms: float


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The story's numbers; `document()` is what `--json` prints."""

    user_id: int
    clicked_item_id: int
    recommendations_before: list[int]
    recommendations_after: list[int]
    event_to_feature_ms: float
    cdc_to_feature_ms: float
    counts: Counts
    hops: Hops
    seconds_to_ready: float
    notes: dict[str, float] = field(default_factory=dict)

    def document(self) -> dict[str, object]:
        """Return the JSON document of `./weir demo --json`. Times in ms, `seconds_to_ready` from the command to the first recommendation without downloads."""
        return {
            "recommendations_before": self.recommendations_before,
            "recommendations_after": self.recommendations_after,
            "event_to_feature_ms": self.event_to_feature_ms,
            "cdc_to_feature_ms": self.cdc_to_feature_ms,
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

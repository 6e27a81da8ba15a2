"""How fast records pass each stage, and how far each hop's output is behind its input. Pure.

In: two reports (rates), one report (hops). Out: one row a stage of `contracts.path`, one a hop. Keep: what was not told is None, never zero; an age
says how old the newest record is, `behind_ms` how much fresher it could be, so that a quiet stream is old and not behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from weir.contracts import names
from weir.contracts.path import PATH
from weir.quality.judge import Report

# Hop, the newest of its input, the newest of its output: both by the time when the event occurred. The first hop is judged by Kafka's lag.
HOPS: Final = (
    ("landing → view", "event time landed", "mart user_activity"),
    ("view → feature", "mart user_activity", "feature written"),
    ("feature → served", "feature written", "feature served"),
)
STAGE_TOPICS: Final[Mapping[str, tuple[str, ...]]] = {"ingest": tuple(names.PARTITIONS)}


@dataclass(frozen=True, slots=True)
class StageFlow:
    """One stage. `rate` in records a second (served requests for serving); `eta_s`: until its lag is gone at that rate."""

    name: str
    rate: float | None
    lag_records: int | None
    eta_s: float | None


@dataclass(frozen=True, slots=True)
class HopDelay:
    """One hop. `age_ms`: of the newest record of its output; `behind_ms`: how much older that is than the newest of its input."""

    name: str
    age_ms: int | None
    behind_ms: int | None


def rates(before: Report | None, now: Report) -> dict[str, float | None]:
    """Return each stage's records a second between two reports; None: not counted in both, or counted anew after a restart."""
    found: dict[str, float | None] = {stage.name: None for stage in PATH}
    if before is None or now.checked_at_ms <= before.checked_at_ms:
        return found
    for name in found:
        first, last = before.counters.get(name), now.counters.get(name)
        if first is not None and last is not None and last >= first:
            found[name] = (last - first) * 1000 / (now.checked_at_ms - before.checked_at_ms)
    return found


def lag(report: Report, topics: tuple[str, ...]) -> int | None:
    """Return the records of `topics` that are not landed, or None when one partition's are not known or there are none."""
    lags = [p.lag for p in report.partitions if p.topic in topics]
    known = [x for x in lags if x is not None]
    return sum(known) if known and len(known) == len(lags) else None


def stages(before: Report | None, now: Report) -> list[StageFlow]:
    """Return the path's stages with rate, lag and the time until the lag is gone."""
    per_second, rows = rates(before, now), []
    for stage in PATH:
        rate, topics = per_second[stage.name], STAGE_TOPICS.get(stage.name)
        behind = lag(now, topics) if topics else None
        rows.append(StageFlow(stage.name, rate, behind, behind / rate if behind and rate else None))
    return rows


def hops(report: Report) -> list[HopDelay]:
    """Return how fresh each hop from an event to what is served is."""
    newest = {h.name: h for h in report.hops}

    def age(name: str) -> int | None:
        return newest[name].age_ms if name in newest else None

    waiting, landed = lag(report, (names.TOPIC_USER_EVENTS,)), age("event landed")
    found = [HopDelay("event → landing", landed, None if waiting is None else 0 if waiting == 0 else landed)]
    for name, source, output in HOPS:
        first, last = age(source), age(output)
        found.append(HopDelay(name, last, None if first is None or last is None else max(0, last - first)))
    return found

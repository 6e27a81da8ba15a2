"""How fast records pass each stage, and how far each stage and hop is behind its input. Pure.

In: two reports (rates), one report (hops). Out: one row a stage of `contracts.path`, one a hop. Keep: what was not told is None, never zero; an age
says how old the newest record is, `behind_ms` how much fresher it could be, so that a quiet stream is old and not behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from weir.contracts import names
from weir.contracts.path import PATH
from weir.quality.judge import TRANSACTIONAL, Report

# Hop, the newest of its input, the newest of its output: both by the time when the event occurred. The hops before these are judged by themselves.
HOPS: Final = (
    ("landing → view", "event time landed", "mart user_activity"),
    ("view → feature", "mart user_activity", "feature written"),
    ("feature → served", "feature written", "feature served"),
)
STAGE_TOPICS: Final[Mapping[str, tuple[str, ...]]] = {"ingest": tuple(names.PARTITIONS)}
STAGE_HOP: Final[Mapping[str, str]] = {"transform": "landing → view", "features": "view → feature", "serving": "feature → served"}


class Unit(StrEnum):
    """In what a stage's lag is told: what its input counts in."""

    RECORDS = "records"
    BYTES = "bytes of WAL"
    MS = "ms"


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a stage is behind its input; None: not known."""

    value: int | None
    unit: Unit


@dataclass(frozen=True, slots=True)
class StageFlow:
    """One stage. `rate` in records a second (served requests for serving); `lag`: None where nothing is its input; `eta_s`: until a lag in records is gone at that rate."""

    name: str
    rate: float | None
    lag: Lag | None
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


def lags(report: Report) -> dict[str, Lag | None]:
    """Return how far each stage is behind its input: connect in WAL, ingest in records, those behind it in the time of the newest event."""
    behind = {h.name: h.behind_ms for h in hops(report)}
    found: dict[str, Lag | None] = {stage.name: None for stage in PATH}
    found["connect"] = Lag(report.capture.behind_bytes, Unit.BYTES)
    found |= {stage: Lag(lag(report, topics), Unit.RECORDS) for stage, topics in STAGE_TOPICS.items()}
    return found | {stage: Lag(behind[hop], Unit.MS) for stage, hop in STAGE_HOP.items()}


def stages(before: Report | None, now: Report) -> list[StageFlow]:
    """Return the path's stages with rate, lag and the time until the lag is gone."""
    per_second, behind, rows = rates(before, now), lags(now), []
    for stage in PATH:
        rate, found = per_second[stage.name], behind[stage.name]
        records = found.value if found and found.unit is Unit.RECORDS else None
        rows.append(StageFlow(stage.name, rate, found, records / rate if records and rate else None))
    return rows


def hops(report: Report) -> list[HopDelay]:
    """Return how fresh each hop is from a commit to landing, and from an event to what is served.

    A commit's time in Kafka against its time at the source is how far Debezium was behind, which is not known while it does not read. What waits in Kafka has no
    time here: with a lag, landing is behind by the age of what landed last.
    """
    newest = {h.name: h for h in report.hops}

    def age(name: str) -> int | None:
        return newest[name].age_ms if name in newest else None

    def behind(source: int | None, output: int | None) -> int | None:
        return None if source is None or output is None else max(0, output - source)

    def landing(name: str, topics: tuple[str, ...], landed: int | None) -> HopDelay:
        waiting = lag(report, topics)
        return HopDelay(name, landed, None if waiting is None else 0 if waiting == 0 else landed)

    committed, sent = age("change committed"), age("change landed")
    return [
        HopDelay("commit → topic", committed, behind(sent, committed) if report.capture.reads else None),
        landing("change → landing", TRANSACTIONAL, sent),
        landing("event → landing", (names.TOPIC_USER_EVENTS,), age("event landed")),
        *(HopDelay(name, age(output), behind(age(source), age(output))) for name, source, output in HOPS),
    ]

"""Which offsets a replay is of, and the SQL conditions that say so. Pure.

In: what an operator asked for, each partition's bounds and commit. Out: `Span` by partition. Keep: only offsets below the group's commit are replayed, since what lies above
may belong to a batch that is open; what Kafka no longer holds is a refusal that names it, never a shorter range.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from weir.contracts.clickhouse import literal
from weir.errors import ContractViolation, SettingsError
from weir.ingest.verify.outcome import Bounds

Pair = tuple[str, int]  # topic and partition
Marks = Mapping[Pair, int]  # the first offset that has not been looked at
_OFFSET: Final = re.compile(r"(?:(?P<partition>\d{1,5}):)?(?P<offset>\d{1,18})\Z")
EVERY: Final = -1  # stands for all partitions


@dataclass(frozen=True, slots=True)
class Span:
    """Offsets `first` to below `after` of one partition."""

    first: int
    after: int


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for: offsets by partition (EVERY: of all), or Kafka timestamps in ms since the epoch. None: no bound."""

    first: Mapping[int, int]
    after: Mapping[int, int]
    since_ms: int | None = None
    until_ms: int | None = None

    @property
    def named(self) -> frozenset[int]:
        """Return the partitions that are named."""
        return frozenset({*self.first, *self.after} - {EVERY})

    @property
    def every(self) -> bool:
        """Whether those that are not named are meant too."""
        return not self.named or EVERY in {*self.first, *self.after}


def offsets(option: str, given: Iterable[str]) -> dict[int, int]:
    """Read `OFFSET` or `PARTITION:OFFSET` values of an option.

    Raises:
        SettingsError: one is neither, or a partition is named twice.
    """
    found: dict[int, int] = {}
    for text in given:
        match = _OFFSET.match(text)
        partition = int(match["partition"]) if match and match["partition"] else EVERY
        if match is None or partition in found:
            raise SettingsError(f"{option} {text} is no OFFSET, or no PARTITION:OFFSET of a partition given once", hint=f"such as {option} 1000, or {option} 0:1000 {option} 3:250")
        found[partition] = int(match["offset"])
    return found


def time_ms(option: str, text: str) -> int:
    """Read a time of ISO 8601, of UTC where it names no zone; return ms since the epoch.

    Raises:
        SettingsError: it is none.
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise SettingsError(f"{option} {text} is no time", hint=f"such as {option} 2026-11-30T08:00, which is UTC, or {option} 2026-11-30T09:00+01:00") from error
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def asked(first: Sequence[str], after: Sequence[str], since: str, until: str) -> Asked:
    """Read the four options.

    Raises:
        SettingsError: none is given, offsets and times are, or one cannot be read.
    """
    if bool(first or after) == bool(since or until):
        raise SettingsError("a replay is of a range of offsets, or of a range of times", hint="give --from-offset and --to-offset, or --since and --until; one of a pair is enough")
    return Asked(offsets("--from-offset", first), offsets("--to-offset", after), time_ms("--since", since) if since else None, time_ms("--until", until) if until else None)


def spans(asked: Asked, bounds: Mapping[int, Bounds], since: Mapping[int, int], until: Mapping[int, int], topic: str) -> dict[int, Span]:
    """Return the range by partition, those with nothing in it left out. `since`, `until`: first offsets at or after those times, by partition; one that is missing has none.

    Raises:
        SettingsError: a partition is named that the topic has not. ContractViolation: Kafka no longer holds the range, ends below the commit, or nothing landed is in the range.
    """
    if unknown := sorted(asked.named - set(bounds)):
        raise SettingsError(f"{topic} has no partition {unknown[0]}", hint=f"it has 0 to {max(bounds)}")
    found = {}
    for partition, at in bounds.items():
        if not asked.every and partition not in asked.named:
            continue
        first = asked.first.get(partition, asked.first.get(EVERY, at.low)) if asked.since_ms is None else since.get(partition, at.end)
        after = asked.after.get(partition, asked.after.get(EVERY, at.committed)) if asked.until_ms is None else until.get(partition, at.end)
        if at.end < at.committed:
            raise ContractViolation(f"{topic}/{partition} ends at offset {at.end}, and {at.committed} were committed: it was made anew or lost its end, so its offsets may be of other records than those that landed",
                                    hint="what has landed serves on; a replay of partitions that are whole takes --from-offset and --to-offset with their numbers")
        if first < at.low:
            raise ContractViolation(f"Kafka no longer holds {topic}/{partition}, offsets {first} to {at.low - 1}", hint=f"--from-offset {partition}:{at.low} takes what is still there")
        if first < min(after, at.committed):
            found[partition] = Span(first, min(after, at.committed))
    if not found:
        raise ContractViolation("no record that has landed is in the range", hint="./weir verify events shows the offsets of each partition")
    return found


def within(topic: str, found: Mapping[int, Span], horizon_ms: int) -> str:
    """Return the condition for rows of the range. `horizon_ms`: rows produced before it may have been taken by the landing table's TTL, and are in no range."""
    parts = " OR ".join(f"partition = {p} AND offset >= {s.first} AND offset < {s.after}" for p, s in sorted(found.items()))
    return f"(topic = {literal(topic)} AND produced_at >= fromUnixTimestamp64Milli({horizon_ms}) AND ({parts}))"


def from_on(marks: Marks, column: str = "offset") -> str:
    """Return the condition for rows at or past the marks."""
    parts = " OR ".join(f"topic = {literal(t)} AND partition = {p} AND {column} >= {m}" for (t, p), m in sorted(marks.items()))
    return f"({parts or '0'})"


def between(marks: Marks, later: Marks, column: str = "offset") -> str:
    """Return the condition for rows at or past the marks, and before the later ones."""
    return f"({from_on(marks, column)} AND NOT {from_on(later, column)})"

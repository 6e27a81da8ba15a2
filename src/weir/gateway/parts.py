"""Names of a MergeTree table's parts: partition, first and last block, level, and the mutation that made it (ClickHouse, src/Storages/MergeTree/MergeTreePartInfo.h)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_NAME: Final = re.compile(r"(?P<partition>[^_]+)_(?P<low>\d+)_(?P<high>\d+)_(?P<level>\d+)(?:_(?P<mutation>\d+))?")


@dataclass(frozen=True, slots=True)
class Part:
    """A part, as its name tells it."""

    partition: str
    low: int
    high: int
    level: int
    mutation: int

    def covers(self, other: Part) -> bool:
        """Say whether its blocks are all of the other's, whichever was made of which."""
        return self.partition == other.partition and self.low <= other.low and other.high <= self.high


def read(name: str) -> Part | None:
    """Return the part of this name; None: it names none. Pure."""
    match = _NAME.fullmatch(name)
    return Part(match["partition"], int(match["low"]), int(match["high"]), int(match["level"]), int(match["mutation"] or 0)) if match else None


def of(folder: Path) -> dict[Path, Part]:
    """Return the parts that stand in a folder."""
    return {entry: found for entry in folder.iterdir() if (found := read(entry.name)) is not None}


def uncovered(parts: Iterable[tuple[Path, Part]]) -> list[Path]:
    """Return the parts but those that were merged, or mutated, into another one of them. Pure."""
    kept: list[tuple[Path, Part]] = []
    for path, part in sorted(parts, key=lambda p: (p[1].low - p[1].high, -p[1].level, -p[1].mutation)):
        if not any(other.covers(part) for _, other in kept):
            kept.append((path, part))
    return [path for path, _ in kept]

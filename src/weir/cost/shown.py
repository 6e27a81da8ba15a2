"""What stands beside the sum of the costs: of how many of the parts it is, and of which day its prices are.

In: the parts that were sampled lately, the services' states, prices.yaml. Out: lines for reading. Keep: a part without a sample is named, never left out in silence.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from weir.contracts import names
from weir.cost.pricing import PRICES_FILE, load
from weir.cost.sampler import PLATFORM
from weir.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Coverage:
    """The parts that a sum is of, and those that it should be of too. `missing` None: which parts there are is not known."""

    sampled: int
    missing: tuple[str, ...] | None

    @property
    def short(self) -> str | None:
        """Return `n of m parts` while some are missing, else None."""
        return f"{self.sampled} of {self.sampled + len(self.missing)} parts" if self.missing else None


def coverage(sampled: Collection[str], services: Sequence[Mapping[str, Any]] | None) -> Coverage:
    """Return of which parts the sum is; `services`: the rows of run/services.json. Pure. An external service is somebody else's cost."""
    if services is None:
        return Coverage(len(sampled), None)
    wanted = {str(s["name"]) for s in services if s.get("state") not in {names.EXTERNAL_ANSWERS, names.EXTERNAL_SILENT}} | {PLATFORM}
    return Coverage(len(sampled), tuple(sorted(wanted - set(sampled))))


def noted_on(path: Path = PRICES_FILE) -> str | None:
    """Return the oldest day on which one of the prices was noted; None when they cannot be read."""
    try:
        return load(path).noted_on
    except (OSError, SettingsError, yaml.YAMLError):
        return None


def line(found: Coverage, day: str | None, within_s: int) -> str:
    """Return of what the sum is, for reading; `within_s`: how old a sample may be. Pure."""
    if found.missing is None:
        of = f"{found.sampled} parts, of how many is unknown"
    elif found.missing:
        of = f"{found.short}; no sample in the last {within_s} s of {', '.join(found.missing)}"
    else:
        of = f"all {found.sampled} parts"
    return f"Cost: {of}; " + ("the day of the prices is unknown" if day is None else f"list prices, the oldest noted on {day}")

"""Usage to cost an hour. Pure.

In: a `Usage` and `Prices`. Out: a `Cost`. Keep: the whole is the sum of its parts; nothing used costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from weir.errors import SettingsError

PRICES_FILE: Final = Path(__file__).resolve().parents[3] / "cost" / "prices.yaml"
HOURS_A_MONTH: Final = 730.0
_GIB: Final = 1 << 30
_GB: Final = 10**9


@dataclass(frozen=True, slots=True)
class Prices:
    """Unit prices in USD; `noted_on`: the oldest of the days on which they were noted."""

    cpu_core_hour: float
    memory_gib_hour: float
    disk_gb_month: float
    noted_on: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What one part used: `cpu_seconds` over `seconds` of wall clock, and its memory and disk at the end of them."""

    part: str
    seconds: float
    cpu_seconds: float
    memory_bytes: int
    memory_kind: str
    disk_bytes: int


@dataclass(frozen=True, slots=True)
class Cost:
    """USD an hour."""

    cpu: float
    memory: float
    disk: float

    @property
    def total(self) -> float:
        """The sum."""
        return self.cpu + self.memory + self.disk


def parse(document: Any) -> Prices:
    """Return the prices of a prices.yaml document.

    Raises:
        SettingsError: one is missing, negative, or has no source or date; names it.
    """
    entries = (document or {}).get("prices", {})
    found = {}
    for name in ("cpu_core_hour", "memory_gib_hour", "disk_gb_month"):
        entry = entries.get(name) or {}
        if not isinstance(entry.get("usd"), int | float) or entry["usd"] < 0:
            raise SettingsError(f"prices.{name}.usd is missing or negative", hint="state it in cost/prices.yaml", key=name)
        if not entry.get("source") or not entry.get("noted_on"):
            raise SettingsError(f"prices.{name} has no source or date", hint="state both in cost/prices.yaml", key=name)
        found[name] = float(entry["usd"])
    return Prices(**found, noted_on=str(min(str(entries[name]["noted_on"]) for name in found)))


def load(path: Path = PRICES_FILE) -> Prices:
    """Read the prices."""
    return parse(yaml.safe_load(path.read_text()))


def price(usage: Usage, prices: Prices) -> Cost:
    """Return what `usage` costs an hour when it goes on like this."""
    cores = usage.cpu_seconds / usage.seconds if usage.seconds > 0 else 0.0
    return Cost(
        cpu=cores * prices.cpu_core_hour,
        memory=usage.memory_bytes / _GIB * prices.memory_gib_hour,
        disk=usage.disk_bytes / _GB * prices.disk_gb_month / HOURS_A_MONTH,
    )

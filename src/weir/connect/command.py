"""A process to start, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Command:
    """What to run: argument vector, environment, folder; `uid` to run under when we are root, else None."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path | None
    uid: int | None

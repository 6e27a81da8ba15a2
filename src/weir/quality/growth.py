"""How long the slot's WAL lasts: samples of it over time, and hours to the limit at the growth that they show.

In: PostgreSQL, samples kept by the watcher. Out: `Growth`. Keep: no growth is no number of hours, never an infinite or a made-up one.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from weir.contracts import cdc

FILE: Final = "slot.json"  # in WEIR_HOME/run
KEPT_S: Final = 600.0  # what "at present" means
HOUR_S: Final = 3600.0
APART_S: Final = 1.0  # of two samples, where the watcher has kept none


@dataclass(frozen=True, slots=True)
class Sample:
    """One look. `written`: the insert LSN in bytes; `retained`, `left`: of the slot, in bytes; `left` is None without a limit."""

    at_s: float
    written: int
    retained: int
    left: int | None


@dataclass(frozen=True, slots=True)
class Growth:
    """`growth_bytes_per_hour`: of what the slot keeps; `wal_bytes_per_hour`: of what is written at all. Hours are None where nothing grows or nothing limits.

    `hours_to_limit`: at the slot's present growth; `hours_if_stopped`: were nothing read from now on, which is the budget of a stopped connector.
    """

    seconds: float
    growth_bytes_per_hour: int
    wal_bytes_per_hour: int
    hours_to_limit: float | None
    hours_if_stopped: float | None


def ask(dsn: str) -> Sample | None:
    """Return a sample, or None when there is no slot or PostgreSQL could not be asked."""
    import psycopg

    with contextlib.suppress(psycopg.Error, OSError), psycopg.connect(dsn, connect_timeout=3, autocommit=True) as c:
        row = c.execute(
            "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn, pg_current_wal_lsn() - restart_lsn, safe_wal_size FROM pg_replication_slots"
            " WHERE slot_name = %s AND restart_lsn IS NOT NULL", (cdc.SLOT,)).fetchone()
        if row is not None:
            return Sample(time.time(), int(row[0]), int(row[1]), None if row[2] is None else int(row[2]))
    return None


def judge(samples: Sequence[Sample]) -> Growth | None:
    """Return the growth between the first and the last sample; None when they are not two. Pure."""
    if len(samples) < 2 or samples[-1].at_s <= samples[0].at_s:  # noqa: PLR2004 - a line needs two points
        return None
    first, last = samples[0], samples[-1]
    hours = (last.at_s - first.at_s) / HOUR_S
    growth, wal = (last.retained - first.retained) / hours, (last.written - first.written) / hours

    def until(rate: float) -> float | None:
        return round(last.left / rate, 2) if last.left is not None and rate > 0 else None

    return Growth(round(last.at_s - first.at_s, 1), round(growth), round(wal), until(growth), until(wal))


def kept(home: Path) -> list[Sample]:
    """Return the samples of the last minutes that the watcher has kept."""
    try:
        found = [Sample(**s) for s in json.loads((home / "run" / FILE).read_text())]
    except (OSError, ValueError, TypeError):
        return []
    return [s for s in found if s.at_s > time.time() - KEPT_S]


def keep(home: Path, sample: Sample) -> None:
    """Append a sample, atomically."""
    samples = [*kept(home), sample]
    path = home / "run" / FILE
    fresh = path.with_suffix(".tmp")
    fresh.write_text(json.dumps([asdict(s) for s in samples]))
    fresh.replace(path)


def now(dsn: str, home: Path) -> Growth | None:
    """Return the growth over the watcher's minutes up to now; without them, over a second."""
    samples = kept(home)
    latest = ask(dsn)
    if latest is None:
        return None
    if not samples:
        time.sleep(APART_S)
        second = ask(dsn)
        return judge([latest, second]) if second else None
    return judge([*samples, latest])

"""Lines of progress: how far, how fast, and the time to go, by a count where there is one and else by how long a phase took the last time it ended well.

In: counts; phases by name, their seconds. Out: a line now and then; WEIR_HOME/run/usual.json. Keep: a record that cannot be read or written is no trouble of the phase's; a first one tells its seconds alone.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

FILE: Final = "usual.json"
EVERY_S: Final = 5.0

Told = TypeVar("Told")


@dataclass
class Phase:
    """What runs: how long it took the last time (None: not known), and whether its time is worth keeping."""

    last_s: float | None
    well: bool = True


def _kept(home: Path) -> dict[str, float]:
    try:
        found = json.loads((home / "run" / FILE).read_text())
    except (OSError, ValueError):
        return {}
    return {k: float(v) for k, v in found.items() if isinstance(v, int | float) and math.isfinite(v) and v >= 0} if isinstance(found, dict) else {}


def last(home: Path, name: str) -> float | None:
    """Return the seconds that the phase took the last time it ended well; None when that is not known."""
    return _kept(home).get(name)


def keep(home: Path, name: str, seconds: float) -> None:
    """Keep what the phase took, for the next one."""
    path = home / "run" / FILE
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{FILE}.{os.getpid()}-{threading.get_ident()}")
        beside.write_text(json.dumps(_kept(home) | {name: round(seconds, 1)}))
        beside.replace(path)


def so_far(seconds: float, last_s: float | None) -> str:
    """Return how long it has run, and by the last time how long it has to go. Pure."""
    if last_s is None:
        return f"{seconds:.0f} s so far"
    return f"{seconds:.0f} s so far, about {last_s - seconds:.0f} s to go (as the last time)" if seconds < last_s else f"{seconds:.0f} s so far ({last_s:.0f} s the last time)"


def counted(done: int, total: int, seconds: float) -> str:
    """Return the rate, and the time to go at that rate; nothing before the first is done. Pure."""
    if not done or seconds <= 0:
        return ""
    rate = done / seconds
    return f"{f'{rate:,.1f}/s' if rate >= 1 else f'{60 * rate:.0f} a minute'}, about {max(0, total - done) / rate:.0f} s to go"


class Lessening:
    """Tells how fast what is left grows less since it was first told, and how long that goes on."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: tuple[float, int] | None = None

    def to_go(self, left: int) -> str:
        """Return rate and time to go; nothing while none is left, or before any has gone."""
        now = self._clock()
        began, first = self._first = self._first or (now, left)
        return counted(first - left, first, now - began) if 0 < left < first else ""


def sparing(say: Callable[[Told], None], every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic) -> Callable[[Told], None]:
    """Return what hands on to `say` at most each `every_s` seconds, the first time after so long."""
    told = clock()

    def hand_on(at: Told) -> None:
        nonlocal told
        if (now := clock()) - told > every_s:
            told = now
            say(at)

    return hand_on


@contextmanager
def now_and_then(act: Callable[[float], None], every_s: float) -> Iterator[None]:
    """Call `act` each `every_s` seconds from beside, with the seconds since the beginning."""
    ended, began = threading.Event(), time.monotonic()

    def acting() -> None:
        while not ended.wait(every_s):
            with suppress(OSError, ValueError):  # who reads is gone, or an answer was none: no trouble of what runs
                act(time.monotonic() - began)

    beside = threading.Thread(target=acting, daemon=True)
    beside.start()
    try:
        yield
    finally:
        ended.set()
        beside.join()


@contextmanager
def phase(home: Path, name: str, say: Callable[[str], None], every_s: float = EVERY_S) -> Iterator[Phase]:
    """Tell now and then how long what is in it runs and has to go; keep its seconds when it ends without an error and `well`."""
    now, began = Phase(last(home, name)), time.monotonic()
    with now_and_then(lambda seconds: say(so_far(seconds, now.last_s)), every_s):
        yield now
    if now.well:
        keep(home, name, time.monotonic() - began)

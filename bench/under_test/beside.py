"""Light queries alone, beside one heavy reader and beside two: the same on several sides, in turn.

In: `Side`s, each with a way to ask and a way to open one more connection. Out: what light queries took on each, and what the heavy ones did meanwhile. Keep: one side is under load at a time;
each round visits every side, in the order of before turned round, so that all meet the same machine; light queries begin when the heavy ones are old.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

LIGHT = ("SELECT {n}", "SELECT count(), max(value) FROM b.stored WHERE user_id = {n}")
HEAVY = (
    "SELECT sum(cityHash64(number, number + {n})) FROM numbers_mt(200000000)",
    "SELECT item_id, count(), uniq(user_id), quantile(0.9)(length(value) + {n}) FROM b.stored GROUP BY item_id ORDER BY item_id LIMIT 10",
)
OLD_S = 1.5  # by then the gateway knows them for long ones, and has looked at their threads
PAUSE_S = 0.004  # between two light queries, so that they are no load themselves

Ask = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Side:
    """One way to the engine. `ask`: on a kept connection; `another`: opens one more."""

    name: str
    ask: Ask
    another: Callable[[], Ask]


@dataclass(slots=True)
class Seen:
    """What a side took: `light_ms` of each light query, `heavy_s` of each heavy one, and for how long there was a load."""

    light_ms: list[float] = field(default_factory=list)
    heavy_s: list[float] = field(default_factory=list)
    loaded_s: float = 0.0

    def told(self, quantile: Callable[[list[float], float], float]) -> dict[str, float]:
        """Return the light queries' times in ms, and the heavy ones' number a second. Pure."""
        found = {"light_queries": len(self.light_ms), "ms_p50": round(statistics.median(self.light_ms), 3), "ms_p99": round(quantile(self.light_ms, 0.99), 3), "ms_max": round(max(self.light_ms), 3)}
        return found | ({"heavy_ones": len(self.heavy_s), "heavy_per_s": round(len(self.heavy_s) / self.loaded_s, 3)} if self.heavy_s else {})


class Reader(threading.Thread):
    """Asks a heavy query, once at least, again and again until `stop`."""

    def __init__(self, ask: Ask, text: str, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._ask, self._text, self._stop_asking, self.taken = ask, text, stop, []  # type: Ask, str, threading.Event, list[float]

    def run(self) -> None:
        """Ask."""
        while not (self.taken and self._stop_asking.is_set()):
            began = time.perf_counter()
            self._ask(self._text.format(n=len(self.taken)))
            self.taken.append(time.perf_counter() - began)


def visit(side: Side, heavy: int, light: int, seen: Seen) -> None:
    """Ask `light` light queries of a side beside `heavy` readers."""
    stop = threading.Event()
    readers = [Reader(side.another(), HEAVY[n % len(HEAVY)], stop) for n in range(heavy)]
    began = time.perf_counter()
    for reader in readers:
        reader.start()
    time.sleep(OLD_S if heavy else 0)
    for turn in range(light):
        at = time.perf_counter()
        side.ask(LIGHT[turn % len(LIGHT)].format(n=turn))
        seen.light_ms.append((time.perf_counter() - at) * 1000)
        time.sleep(PAUSE_S)
    stop.set()
    for reader in readers:
        reader.join()
        seen.heavy_s += reader.taken
    seen.loaded_s += time.perf_counter() - began


def measure(sides: Sequence[Side], rounds: int, light: int, quantile: Callable[[list[float], float], float]) -> dict[str, Any]:
    """Return by number of heavy readers and side what was seen in `rounds` rounds of `light` queries each."""
    found: dict[str, Any] = {}
    for name, heavy in (("alone", 0), ("beside_one", 1), ("beside_two", 2)):
        seen = {side.name: Seen() for side in sides}
        for turn in range(rounds):
            for side in sides if turn % 2 == 0 else reversed(sides):
                visit(side, heavy, light, seen[side.name])
        found[name] = {side: one.told(quantile) for side, one in seen.items()}
    return found

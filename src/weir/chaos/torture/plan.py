"""Which kills, in which order, and what was seen of each. Pure.

Keep: of many kills five in six hit a worker at a named point, each point as often as any other, but the one without a batch in flight a third as often, so that nine of ten kills
have one; the rest come at random moments, one in three of those at the gateway.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from weir.ingest.points import POINTS

RANDOM: Final = "random"
WORKER, GATEWAY = "worker", "gateway"
PASSES: Final = 4  # a point is met at its first to fourth pass, so that processes of different ages die
_IDLE: Final = "after_finish"  # no batch is in flight there
_IDLE_EVERY: Final = 3  # rounds
_REPLAY: Final = frozenset(p for p in POINTS if p.endswith("replay"))


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill to make: of a worker at the `nth` pass of `where`, or of a worker or the gateway at random."""

    what: str
    where: str
    nth: int = 1


@dataclass(frozen=True, slots=True)
class Made:
    """One kill as it went. `hit`: the process died of it, there; `in_flight`: by the worker's trail; `open_intents`: batches declared in the group's commits just after.

    `lived_s`: from the process's start to its death; `second`: since the run began.
    """

    slot: int
    what: str
    where: str
    nth: int
    hit: bool
    in_flight: bool
    open_intents: int
    lived_s: float
    second: float


def plan(kills: int, seed: int) -> list[Kill]:
    """Return the kills in order; the same for the same seed. Each round of the points comes in another order, with a random kill at its end."""
    rng = random.Random(seed)  # noqa: S311 - repeatable on purpose
    found: list[Kill] = []
    rounds = 0
    while len(found) < kills:
        points = [p for p in POINTS if p != _IDLE or rounds % _IDLE_EVERY == 0]
        rng.shuffle(points)
        points.sort(key=lambda p: p in _REPLAY)  # after kills that leave an open intent
        found += [Kill(WORKER, p, 1 if p in _REPLAY else rng.randint(1, PASSES)) for p in points]
        rounds += 1
        found.append(Kill(GATEWAY if rounds % 3 == 0 else WORKER, RANDOM))
    return found[:kills]


def summary(made: Sequence[Made]) -> dict[str, Any]:
    """Return how many kills hit, where, and how many with a batch in flight."""
    hits = [m for m in made if m.hit]
    flying = sum(m.in_flight for m in hits)
    by = Counter(f"{m.what} {m.where}" for m in hits)
    return {"kills": len(made), "hit": len(hits), "in_flight": flying, "in_flight_share": round(flying / len(hits), 3) if hits else 0.0,
            "hit_by_place": dict(sorted(by.items())), "missed": dict(sorted(Counter(f"{m.what} {m.where}" for m in made if not m.hit).items()))}


def rows(made: Sequence[Made]) -> list[list[Any]]:
    """Return the kills as rows under their fields' names, for a record that stays small."""
    return [list(Made.__slots__), *[list(asdict(m).values()) for m in sorted(made, key=lambda m: m.second)]] if made else []

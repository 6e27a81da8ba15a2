"""What the data set lacks, derived by stated, seeded rules (docs/reference/demo-data.md).

In: a `Dataset`, a seed, `now`. Out: users, items and events. Keep: pure; event ids do not depend on `now`; event times keep the ratings'
order.
"""

from __future__ import annotations

import bisect
import hashlib
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from weir.contracts.events import EVENT_SCHEMA_VERSION, EventType
from weir.simulation.dataset import Dataset, RawRating

DEFAULT_SEED: Final = 1
COUNTRIES: Final = (("US", 45), ("DE", 15), ("GB", 12), ("FR", 10), ("BR", 8), ("JP", 6), ("IN", 4))  # percent
SPAN_MS: Final = 30 * 86_400_000
HOUR_MS: Final = 3_600_000
LAST_SHARE: Final = 0.02  # of the ratings, newest first, fall in the last hour
SESSION_GAP_S: Final = 1800
LEAD_S: Final = (10, 90)  # a view or click happens this long before its rating, in the original time
POSITIVE_RATING: Final = 4.0
SESSION_PREFIX: Final = "ml-"  # session ids of derived events; an oracle finds them by it
_NAMESPACE: Final = uuid.UUID("6f0d7c9e-3c1b-5d0e-9a8e-2f1b7a5c4d31")
_VARIANT: Final = {f"{n:x}": f"{n & 3 | 8:x}" for n in range(16)}  # the two bits that say RFC 9562


@dataclass(frozen=True, slots=True)
class User:
    """A row of public.users."""

    user_id: int
    age: int
    gender: str
    occupation: str
    zip_code: str
    country: str
    preferred_genre: str | None


@dataclass(frozen=True, slots=True)
class Item:
    """A row of public.items."""

    item_id: int
    title: str
    release_year: int | None
    genres: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """A user event; `occurred_at` in milliseconds since the epoch, UTC."""

    event_id: str
    user_id: int
    item_id: int
    event_type: EventType
    rating: float | None
    session_id: str
    country: str
    occurred_at: int

    def body(self) -> dict[str, object]:
        """Return the fields of the wire contract (`ingest/contracts/user_event.schema.json`); no rating, no field."""
        fields: dict[str, object] = {
            "schema_version": EVENT_SCHEMA_VERSION, "event_id": self.event_id, "user_id": self.user_id, "item_id": self.item_id,
            "event_type": self.event_type.value, "session_id": self.session_id, "country": self.country, "occurred_at": self.occurred_at,
        }
        return fields if self.rating is None else {**fields, "rating": self.rating}


def digest(seed: int, *parts: object) -> int:
    """Return a 64-bit number that depends on all arguments and on nothing else (BLAKE2b)."""
    text = "|".join(map(str, (seed, *parts)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def country(zip_code: str, user_id: int, seed: int = DEFAULT_SEED) -> str:
    """Return CA for a Canadian zip code (it starts with a letter), else a country drawn by hash with COUNTRIES' percentages."""
    if zip_code[:1].isalpha():
        return "CA"
    point = digest(seed, "country", user_id) % 100
    for code, percent in COUNTRIES:
        point -= percent
        if point < 0:
            return code
    return COUNTRIES[0][0]


def preferred_genres(data: Dataset) -> dict[int, str]:
    """Return each user's most frequent genre among items rated at least 4; ties go to the first by name; absent when there is none."""
    genres = {i.item_id: i.genres for i in data.items}
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    for r in data.ratings:
        if r.rating >= POSITIVE_RATING:
            counts[r.user_id].update(genres.get(r.item_id, ()))
    return {user: min(c, key=lambda g: (-c[g], g)) for user, c in counts.items() if c}


def users(data: Dataset, seed: int = DEFAULT_SEED) -> Iterator[User]:
    """Yield the shop's users in order of id."""
    preferred = preferred_genres(data)
    for u in data.users:
        yield User(u.user_id, u.age, u.gender, u.occupation, u.zip_code, country(u.zip_code, u.user_id, seed), preferred.get(u.user_id))


def items(data: Dataset) -> Iterator[Item]:
    """Yield the shop's items in order of id."""
    for i in data.items:
        yield Item(i.item_id, i.title, i.release_year, i.genres)


@dataclass(frozen=True, slots=True)
class Clock:
    """Maps original seconds onto the last 30 days up to `now_ms`: two straight lines that meet one hour before now, at `turn_s`."""

    first_s: int
    turn_s: int
    last_s: int
    now_ms: int

    @classmethod
    def of(cls, ratings: Sequence[RawRating], now_ms: int) -> Clock:
        """Return the clock whose last hour holds the newest LAST_SHARE of the ratings (which are sorted by time)."""
        turn = ratings[int(len(ratings) * (1 - LAST_SHARE))].at_s
        return cls(ratings[0].at_s, turn, ratings[-1].at_s, now_ms)

    def at(self, original_s: int) -> int:
        """Return milliseconds since the epoch; never decreasing in `original_s`, never after `now_ms`."""
        if original_s >= self.turn_s:
            share = min(1.0, (original_s - self.turn_s) / max(1, self.last_s - self.turn_s))
            return int(self.now_ms - HOUR_MS + share * HOUR_MS)
        share = max(0.0, (original_s - self.first_s) / max(1, self.turn_s - self.first_s))
        return int(self.now_ms - SPAN_MS + share * (SPAN_MS - HOUR_MS))


class _Neighbours:
    """Items next to an item among those with the same first genre, in order of id, as in a ring."""

    def __init__(self, data: Dataset) -> None:
        self._first = {i.item_id: i.genres[0] if i.genres else "" for i in data.items}
        self._rings: dict[str, list[int]] = defaultdict(list)
        for i in data.items:
            self._rings[self._first[i.item_id]].append(i.item_id)

    def of(self, item_id: int, steps: int) -> int:
        ring = self._rings.get(self._first.get(item_id, ""), [item_id])
        return ring[(bisect.bisect_left(ring, item_id) + steps) % len(ring)]


def _plan(number: int) -> tuple[int, int]:
    """Return (views, clicks): views 1, 2 or 3 with 70, 20, 10 percent; clicks 0, 1 or 2 with 50, 35, 15 percent."""
    point, other = number % 100, number // 100 % 100
    return 1 + (point >= 70) + (point >= 90), (other >= 50) + (other >= 85)  # noqa: PLR2004 - the percentages above


def sessions(again: int = 0) -> str:
    """Return how the ids of a load's sessions begin; those of every load begin with SESSION_PREFIX. Pure."""
    return f"{SESSION_PREFIX}again{again}-" if again else SESSION_PREFIX


def events(data: Dataset, now_ms: int, seed: int = DEFAULT_SEED, *, again: int = 0) -> Iterator[Event]:
    """Yield the ratings in order of time, each after its views and clicks. `again`: how many loads came before: one that is not the first has what falls in the last hour alone, as other events.

    Rule: a rating is led by 1 to 3 views and 0 to 2 clicks, the first of each of the rated item, the second and third of its neighbours
    (same first genre, next ids), 10 to 90 seconds before it. A user's session ends after 30 minutes without a rating (original time).
    """
    clock, neighbours = Clock.of(data.ratings, now_ms), _Neighbours(data)
    countries = {u.user_id: country(u.zip_code, u.user_id, seed) for u in data.users}
    last: dict[int, tuple[int, int]] = {}
    tag = f"{seed}:again{again}" if again else str(seed)
    for r in data.ratings:
        before_s, session = last.get(r.user_id, (r.at_s, 0))
        session += r.at_s - before_s > SESSION_GAP_S
        last[r.user_id] = (r.at_s, session)
        if again and clock.at(r.at_s) < now_ms - HOUR_MS:
            continue
        name = f"{sessions(again)}{r.user_id}-{session}"
        number = digest(seed, r.user_id, r.item_id)
        views, clicks = _plan(number)
        kinds = [(EventType.VIEW, n) for n in range(views)] + [(EventType.CLICK, n) for n in range(clicks)]
        leads = sorted((LEAD_S[0] + (number >> 8 * k & 0xFF) * (LEAD_S[1] - LEAD_S[0]) // 255 for k in range(len(kinds))), reverse=True)
        for (kind, n), lead_s in zip(kinds, leads, strict=True):
            item = neighbours.of(r.item_id, n)
            yield Event(_id(tag, kind, r, n), r.user_id, item, kind, None, name, countries.get(r.user_id, "US"), clock.at(r.at_s - lead_s))
        yield Event(
            _id(tag, EventType.RATE, r, 0), r.user_id, r.item_id, EventType.RATE, r.rating, name, countries.get(r.user_id, "US"), clock.at(r.at_s)
        )


def _id(tag: str, kind: EventType, rating: RawRating, n: int) -> str:
    """Return the version 5 UUID (RFC 9562, 5.5) of what the event is, as `uuid.uuid5` makes it: that spends most of its time on parts which are not asked for."""
    made = hashlib.sha1(_NAMESPACE.bytes + f"{tag}:{kind.value}:{rating.user_id}:{rating.item_id}:{n}".encode(), usedforsecurity=False).hexdigest()
    return f"{made[:8]}-{made[8:12]}-5{made[13:16]}-{_VARIANT[made[16]]}{made[17:20]}-{made[20:32]}"


def bad_events(seed: int = DEFAULT_SEED, now_ms: int = 0) -> list[bytes]:
    """Return seven records that belong in the quarantine, one a reason (`weir.contracts.events.RejectReason`)."""
    import json

    from weir.contracts.events import MAX_EVENT_BYTES

    good = Event(str(uuid.uuid5(_NAMESPACE, f"{seed}:bad")), 1, 1, EventType.VIEW, None, f"{SESSION_PREFIX}bad", "DE", now_ms).body()
    missing = {k: v for k, v in good.items() if k != "user_id"}
    variants = [
        {**good, "padding": "x" * MAX_EVENT_BYTES}, {**good, "event_type": "teleport"}, {**good, "user_id": -1}, missing,
        {**good, "occurred_at": now_ms + 86_400_000}, {**good, "schema_version": 99},
    ]
    return [b'{"event_id": "cut', *(json.dumps(v).encode() for v in variants)]

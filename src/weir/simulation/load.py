"""The load generator: sessions of skewed users on skewed items, as many events a second as asked or as fast as it can.

In: a `Shape`, a seed. Out: records on topic user-events, keyed by user; a journal of what the broker acknowledged. Keep: drawn by column (numpy), so that
Python's part is one format and one dictionary an event; the same seed draws the same events (their times are the clock's); event ids are UUIDs of the seed's
own stream, so two seeds never share one. Skew: ranks follow a bounded power law (inverse of its continuous distribution), rank 1 being the most frequent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from weir.contracts.events import EVENT_SCHEMA_VERSION
from weir.errors import Unavailable
from weir.simulation import derive
from weir.simulation.journal import Journal
from weir.simulation.produce import FLUSH_S, Progress, bulk, progress, send_all
from weir.telemetry import Telemetry, setup

CHUNK: Final = 20_000  # events drawn and handed over at once
TICKS: Final = 20  # chunks a second when a rate is asked, so that it is no burst
LATE_MS: Final = (60_000, 6 * 3_600_000)
KINDS: Final = (b"view", b"click", b"rate")
KIND_SHARES: Final = (0.7, 0.2, 0.1)
_DASHES: Final = (8, 13, 18, 23)
_HEX: Final = np.frombuffer(b"0123456789abcdef", np.uint8)
_EVENT: Final = (b'{"schema_version":%d,"event_id":"%%b","user_id":%%d,"item_id":%%d,"event_type":"%%b","session_id":"%%b","country":"%%b",'
                 b'"occurred_at":%%d%%b}' % EVENT_SCHEMA_VERSION)


@dataclass(frozen=True, slots=True)
class Shape:
    """What is drawn.

    `events` in all; `rate` a second (0: as fast as it can); `skew`: exponent of the power laws; `sessions`: mean events of a session; `bad`, `late`,
    `dup`: shares of the records.
    """

    events: int = 1_000_000
    rate: float = 0.0
    users: int = 1_000_000
    items: int = 100_000
    skew: float = 0.8
    sessions: float = 6.0
    bad: float = 0.001
    late: float = 0.01
    dup: float = 0.001


@dataclass(frozen=True, slots=True)
class Chunk:
    """Records in order; of the good ones: how many, their ids' sum (see `Journal.note`), how many are late, and how many records repeat one."""

    records: list[dict[str, Any]]
    good: int
    id_sum: int
    late: int
    bad: int
    repeated: int


def ranks(uniform: Any, count: int, skew: float) -> Any:
    """Return ranks 1 to `count` for uniform draws in [0, 1): P(rank) falls as rank^-skew. Pure."""
    power = 1 - skew
    found = count**uniform if power == 0 else ((count**power - 1) * uniform + 1) ** (1 / power)
    return np.clip(found.astype(np.int64), 1, count)


def uuids(raw: Any) -> bytes:
    """Return the texts of (n, 16) random bytes as UUIDs of version 4, 36 characters each, one after another. `raw` gets version and variant. Pure."""
    raw[:, 6] = raw[:, 6] & 0x0F | 0x40
    raw[:, 8] = raw[:, 8] & 0x3F | 0x80
    digits = np.empty((len(raw), 32), np.uint8)
    digits[:, 0::2], digits[:, 1::2] = _HEX[raw >> 4], _HEX[raw & 0x0F]
    text = np.full((len(raw), 36), ord("-"), np.uint8)
    text[:, [i for i in range(36) if i not in _DASHES]] = digits
    return text.tobytes()


def _sessions(rng: Any, shape: Shape, count: int, first: int) -> tuple[list[int], list[bytes], list[bytes]]:
    """Return user, session id and country of `count` events: whole sessions, interleaved as they overlap in time."""
    lengths = rng.geometric(1 / max(1.0, shape.sessions), count)
    users = ranks(rng.random(count), shape.users, shape.skew)
    of = np.repeat(np.arange(count), lengths)[:count]  # event to session
    place = np.arange(count) - np.concatenate([[0], np.cumsum(lengths)])[of]
    of = of[np.argsort(rng.random(count)[of] + place * (1 / count**0.5), kind="stable")]
    codes, weights = zip(*derive.COUNTRIES, strict=True)
    country = np.repeat(np.array(codes, "S2"), weights)[users % 100]
    labels = [b"s%x-%d" % (u, first + n) for n, u in enumerate(users[: of.max() + 1].tolist())]
    return users[of].tolist(), [labels[i] for i in of.tolist()], country[of].tolist()


def chunk(rng: Any, shape: Shape, count: int, first: int, now_ms: int) -> Chunk:
    """Draw `count` records, the `first`-th and on. Pure but for the generator's state."""
    users, sessions, countries = _sessions(rng, shape, count, first)
    items = ranks(rng.random(count), shape.items, shape.skew).tolist()
    kinds = rng.choice(len(KINDS), count, p=KIND_SHARES)
    ratings = np.where(kinds == len(KINDS) - 1, rng.integers(1, 11, count), 0)
    tails = [b""] + [b',"rating":%b' % str(n / 2).encode() for n in range(1, 11)]
    late = rng.random(count) < shape.late
    at = now_ms - rng.integers(0, 2000, count) - np.where(late, rng.integers(*LATE_MS, count), 0)
    raw = np.frombuffer(rng.bytes(count * 16), np.uint8).reshape(count, 16).copy()
    texts = uuids(raw)
    values = [
        _EVENT % (texts[36 * n : 36 * n + 36], user, item, KINDS[kind], session, country, when, tails[rating])
        for n, (user, item, kind, session, country, when, rating) in enumerate(
            zip(users, items, kinds.tolist(), sessions, countries, at.tolist(), ratings.tolist(), strict=True))
    ]
    records = [{"key": b"%d" % user, "value": value} for user, value in zip(users, values, strict=True)]
    draw = rng.random(count)
    good, spoilt = np.ones(count, bool), np.flatnonzero(draw < shape.bad)
    if spoilt.size:
        variants = derive.bad_events(1, now_ms)
        for n, index in enumerate(spoilt.tolist()):
            good[index], records[index] = False, {"key": b"bad", "value": variants[(first + n) % len(variants)]}
    repeats = [dict(records[i]) for i in np.flatnonzero((draw >= 1 - shape.dup) & good).tolist()]
    ids = raw[good, :8].copy().view(">u8").ravel()
    return Chunk([*records, *repeats], int(good.sum()), int(np.sum(ids, dtype=np.uint64)), int((late & good).sum()), spoilt.size, len(repeats))


def _sizes(shape: Shape) -> Iterator[int]:
    most = min(CHUNK, max(1, int(shape.rate / TICKS))) if shape.rate else CHUNK
    for done in range(0, shape.events, most):
        yield min(most, shape.events - done)


def run(
    bootstrap: str, shape: Shape, seed: int, *, report: Callable[[Progress], None] = lambda _: None, telemetry: Telemetry | None = None,
    clock: Callable[[], float] = time.time, keep: Callable[[Journal], None] = lambda _: None,
) -> Journal:
    """Produce `shape.events` records, and the repeats beside them; return the journal once all are acknowledged.

    `keep` is given the journal before the first record and at the end, however that comes: `complete` says whether all were acknowledged.

    Raises:
        Unavailable: the broker refused records or did not acknowledge them in time.
    """
    telemetry = telemetry or setup("weir-simulation")
    rng, journal = np.random.Generator(np.random.PCG64(seed)), Journal(seed, int(clock() * 1000))
    keep(journal)
    refused: list[Any] = []
    client = bulk(bootstrap, lambda error, _message: refused.append(error))
    try:
        _produce(client, rng, journal, shape, telemetry, report, clock)
    finally:
        journal.failed = client.flush(FLUSH_S) + len(refused)
        journal.complete = not journal.failed and journal.produced + journal.bad == shape.events
        keep(journal)
    telemetry.count("weir.simulation.events_produced", journal.produced)
    if journal.failed:
        raise Unavailable(f"Kafka left {journal.failed} events unacknowledged", hint="./weir logs kafka shows why; load again with another seed")
    return journal


def _produce(
    client: Any, rng: Any, journal: Journal, shape: Shape, telemetry: Telemetry, report: Callable[[Progress], None], clock: Callable[[], float],
) -> None:
    """Hand all records over, on time where a rate is asked."""
    began, done = time.monotonic(), 0
    for size in _sizes(shape):
        if shape.rate:
            time.sleep(max(0.0, began + done / shape.rate - time.monotonic()))
        drawn = chunk(rng, shape, size, done, int(clock() * 1000))
        send_all(client, drawn.records, telemetry)
        journal.note_all(drawn.good, drawn.id_sum)
        journal.late, journal.bad, journal.repeated = journal.late + drawn.late, journal.bad + drawn.bad, journal.repeated + drawn.repeated
        done += size
        client.poll(0)
        report(progress(done, shape.events, time.monotonic() - began))

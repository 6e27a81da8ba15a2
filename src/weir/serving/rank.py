"""Ranking: which items a user is shown, from the model and the served features. Pure.

In: a catalogue of items as arrays, a model's rows aligned to it (or none), one user's served features, trending lists.
Out: ordered items with the share of each signal. Keep: the same inputs give the same answer (no clock, no chance; ties go to the smaller
item id); an inactive or seen item is never in the answer.

Every active item is scored exactly (numpy), so the union of the model's nearest and the trending ones needs no step of its own:
1,682 items take 0.1 ms, 100,000 x 64 about 3 ms.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from weir.contracts.events import EVENT_WEIGHT, EventType

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

# Weights of the signals, each scaled to at most 1. The model leads; what the user did a moment ago and said they like must be able to
# reorder its top, or a click would show nothing; what others do now only breaks near ties.
WEIGHT_MODEL: Final = 1.0
WEIGHT_RECENT: Final = 0.8
WEIGHT_GENRE: Final = 0.5
WEIGHT_TRENDING: Final = 0.3
WEIGHT_COUNTRY: Final = 0.2
WEIGHT_ACTIVITY: Final = 0.1
WEIGHT_POPULARITY: Final = 0.05  # with a model; alone (no champion) popularity leads with WEIGHT_MODEL
RECENT_MAX: Final = 20  # newest events that shape the answer; older ones weigh below 0.9^20 = 0.12
RECENT_DECAY: Final = 0.9


@dataclass(frozen=True, slots=True)
class Items:
    """The catalogue as arrays, one row an item, ids ascending. `genres` rows are unit multi-hot vectors (items, genre names)."""

    ids: Ints
    active: Bools
    genres: Floats
    genre_names: tuple[str, ...]
    activity: Floats  # served item_activity.trending_score
    popularity: Floats  # served item_history.interactions
    index: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class AlignedModel:
    """One model's item factors in the rows of `Items` (zeros where the model does not know the item), and their unit vectors."""

    factors: Floats
    unit: Floats


@dataclass(frozen=True, slots=True)
class UserSignals:
    """What is served about one user. `user_factors` None: the model does not know the user, or there is no model."""

    user_factors: Floats | None = None
    seen: Sequence[int] | Ints = ()
    recent_items: Sequence[int] = ()  # newest first
    recent_types: Sequence[str] = ()
    preferred_genre: str = ""
    genre_scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trending:
    """Served country_trending: item ids with scores, of everyone and of the user's country."""

    overall: Mapping[int, float] = field(default_factory=dict)
    country: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ranked:
    """One recommended item and the shares that add up to its score."""

    item_id: int
    score: float
    parts: Mapping[str, float]


def unit_rows(matrix: Floats) -> Floats:
    """Return the rows scaled to length 1; zero rows stay zero."""
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    return np.asarray(np.divide(matrix, norms, out=np.zeros_like(matrix), where=norms > 0), np.float32)


def align(items: Items, item_ids: Ints, factors: Floats) -> AlignedModel:
    """Put a model's item factors into the rows of the catalogue."""
    out = np.zeros((len(items.ids), factors.shape[1]), dtype=np.float32)
    if len(item_ids):
        at = np.clip(np.searchsorted(item_ids, items.ids), 0, len(item_ids) - 1)
        known = item_ids[at] == items.ids
        out[known] = factors[at[known]]
    return AlignedModel(out, unit_rows(out))


def _scaled(values: Floats) -> Floats:
    """Divide by the largest absolute value, so that signals of any unit meet in [-1, 1]."""
    top = float(np.abs(values).max(initial=0.0))
    return np.asarray(values / top, np.float32) if top > 0 else values


def _spread(items: Items, scores: Mapping[int, float]) -> Floats:
    out = np.zeros(len(items.ids), dtype=np.float32)
    for item_id, score in scores.items():
        row = items.index.get(item_id)
        if row is not None:
            out[row] = score
    return _scaled(out)


def recent_similarity(items: Items, model: AlignedModel | None, user: UserSignals) -> Floats:
    """Return each item's similarity to the newest events, in [-1, 1].

    An event weighs by its kind (EVENT_WEIGHT) and its place (RECENT_DECAY per step). Half is the model's cosine and half the genres';
    without a model, or for items it does not know, the genres' alone remains.
    """
    size = len(items.ids)
    rows, weights = [], []
    for place, item_id in enumerate(user.recent_items[:RECENT_MAX]):
        row = items.index.get(item_id)
        if row is None:
            continue
        kind = user.recent_types[place] if place < len(user.recent_types) else EventType.VIEW
        rows.append(row)
        weights.append(RECENT_DECAY**place * EVENT_WEIGHT.get(EventType(kind), 1.0) if kind in set(EventType) else RECENT_DECAY**place)
    if not rows:
        return np.zeros(size, dtype=np.float32)
    weight = np.asarray(weights, dtype=np.float32)
    weight /= weight.sum()
    by_genre = np.asarray(items.genres @ (weight @ items.genres[rows]), np.float32)
    if model is None:
        return _scaled(by_genre)
    by_model = model.unit @ (weight @ model.unit[rows])
    return _scaled(np.asarray((_scaled(by_model) + _scaled(by_genre)) / 2, np.float32))


def genre_match(items: Items, user: UserSignals) -> Floats:
    """Return 1 for items of the preferred genre, less for the genres of the user's history, 0 otherwise."""
    wanted = {name: min(1.0, max(0.0, score)) * 0.5 for name, score in user.genre_scores.items()}
    if user.preferred_genre:
        wanted[user.preferred_genre] = 1.0
    out = np.zeros(len(items.ids), dtype=np.float32)
    for column, name in enumerate(items.genre_names):
        score = wanted.get(name, 0.0)
        if score > 0:
            np.maximum(out, np.where(items.genres[:, column] > 0, np.float32(score), np.float32(0)), out=out)
    return out


def rank(items: Items, model: AlignedModel | None, user: UserSignals, trending: Trending, k: int) -> list[Ranked]:
    """Return the best `k` active items that the user has not seen, best first.

    Raises:
        ValueError: k is below 1.

    """
    if k < 1:
        raise ValueError("k is at least 1")
    if not len(items.ids):
        return []
    personal = model is not None and user.user_factors is not None
    parts: dict[str, Floats] = {
        "recent": WEIGHT_RECENT * recent_similarity(items, model, user),
        "genre": WEIGHT_GENRE * genre_match(items, user),
        "trending": WEIGHT_TRENDING * _spread(items, trending.overall),
        "country": WEIGHT_COUNTRY * _spread(items, trending.country),
        "activity": WEIGHT_ACTIVITY * _scaled(items.activity),
        "popularity": (WEIGHT_POPULARITY if model is not None else WEIGHT_MODEL) * _scaled(np.asarray(np.log1p(items.popularity), np.float32)),
    }
    if personal:
        assert model is not None and user.user_factors is not None  # noqa: S101, PT018 - narrows the types for mypy (personal says so)
        parts["model"] = WEIGHT_MODEL * _scaled(model.factors @ user.user_factors)
    elif not user.recent_items:  # a new user: what is trending leads
        parts["trending"] = parts["trending"] * np.float32(WEIGHT_MODEL * 2 / WEIGHT_TRENDING)
    total = np.sum(list(parts.values()), axis=0)
    allowed = items.active.copy()
    hidden = [row for i in (*user.recent_items, *user.seen) if (row := items.index.get(int(i))) is not None]
    allowed[hidden] = False
    return _best(items, total, allowed, parts, k)


def similar(items: Items, model: AlignedModel | None, item_id: int, k: int) -> list[Ranked]:
    """Return the `k` active items most similar to one item; empty when the catalogue does not know it."""
    if item_id not in items.index:
        return []
    scores = recent_similarity(items, model, UserSignals(recent_items=(item_id,), recent_types=(EventType.VIEW,)))
    allowed = items.active.copy()
    allowed[items.index[item_id]] = False
    return _best(items, scores, allowed, {"similarity": scores}, k)


def _best(items: Items, total: Floats, allowed: Bools, parts: Mapping[str, Floats], k: int) -> list[Ranked]:
    rows = np.flatnonzero(allowed)
    order = np.lexsort((items.ids[rows], -total[rows]))[:k]
    return [
        Ranked(int(items.ids[row]), round(float(total[row]), 6), {n: round(float(p[row]), 4) for n, p in parts.items() if p[row]})
        for row in rows[order]
    ]

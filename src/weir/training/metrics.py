"""Recall@k and NDCG@k with binary relevance, and the popularity baseline. Pure.

Keep: a user without held-out items is not counted; items seen in training are never recommended to that user, by either ranking.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Set as AbstractSet


@dataclass(frozen=True, slots=True)
class Scores:
    """Means over the counted users."""

    recall: float
    ndcg: float
    users: int


def recall_at_k(ranked: Sequence[int], relevant: AbstractSet[int], k: int) -> float:
    """Return the share of relevant items in the first k, of the most that fits in k: hits / min(k, |relevant|)."""
    if not relevant:
        return 0.0
    return sum(item in relevant for item in ranked[:k]) / min(k, len(relevant))


def ndcg_at_k(ranked: Sequence[int], relevant: AbstractSet[int], k: int) -> float:
    """Return DCG / ideal DCG with gain 1 and discount 1 / log2(place + 1) (Järvelin and Kekäläinen, 2002)."""
    if not relevant:
        return 0.0
    gained = sum(1.0 / math.log2(place + 2) for place, item in enumerate(ranked[:k]) if item in relevant)
    return gained / sum(1.0 / math.log2(place + 2) for place in range(min(k, len(relevant))))


def evaluate(recommend: Callable[[int, int], Sequence[int]], held_out: Mapping[int, AbstractSet[int]], k: int) -> Scores:
    """Return the mean scores of `recommend(user_id, k)` over users with held-out items."""
    users = [user for user in sorted(held_out) if held_out[user]]
    if not users:
        return Scores(0.0, 0.0, 0)
    recall = ndcg = 0.0
    for user in users:
        ranked = recommend(user, k)
        recall += recall_at_k(ranked, held_out[user], k)
        ndcg += ndcg_at_k(ranked, held_out[user], k)
    return Scores(recall / len(users), ndcg / len(users), len(users))


def most_popular(order: Sequence[int], seen: AbstractSet[int], k: int) -> list[int]:
    """Return the first k of `order` that were not seen."""
    out: list[int] = []
    for item in order:
        if item not in seen:
            out.append(item)
            if len(out) == k:
                break
    return out

"""Implicit ALS on interactions: split by time, fit, compare with popularity, export. Pure but for CPU time.

In: interactions as arrays. Out: `Trained`: factors, scores of the time split, the verdict. Keep: a seed and one thread, so the same rows
give the same factors; nothing after the split's moment reaches the fit that is judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from weir.contracts.model import Factors, Floats, Ints
from weir.errors import Undecided
from weir.training.metrics import Scores, evaluate, most_popular

SEED: Final = 20_261_124


@dataclass(frozen=True, slots=True)
class Settings:
    """Of one training. `train_share`: the first part of time that is fitted; the rest is held out.

    Factors, regularization and alpha were chosen on MovieLens 100k by NDCG on the last fifth of the *training* part, never on the held-out
    part: 0.196 against popularity's 0.142 there, then 0.199 against 0.146 on the held-out part. With regularization 0.05, alpha 4 and
    32 factors popularity won.
    """

    factors: int = 16
    iterations: int = 10
    regularization: float = 10.0
    alpha: float = 1.0  # confidence = 1 + alpha * weight (Hu, Koren and Volinsky, 2008)
    train_share: float = 0.8
    k: int = 10
    seed: int = SEED
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Interactions:
    """Rows of equal length: who, what, how strongly, when (milliseconds since the epoch)."""

    users: Ints
    items: Ints
    weights: Floats
    at_ms: Ints

    def rows(self, chosen: npt.NDArray[np.bool_]) -> Interactions:
        """Return the chosen rows."""
        return Interactions(self.users[chosen], self.items[chosen], self.weights[chosen], self.at_ms[chosen])


@dataclass(frozen=True, slots=True)
class Trained:
    """The factors fitted on all rows, and how the same settings did on the time split."""

    factors: Factors
    model: Scores
    popularity: Scores
    events: int
    newest_event_at_ms: int


def split_by_time(data: Interactions, train_share: float) -> tuple[Interactions, Interactions]:
    """Return (train, test): test is every row strictly after the moment at which `train_share` of the rows had come.

    Rows of one moment stay together, so no row of a burst is used to foretell its twin.
    """
    if not len(data.at_ms):
        return data, data
    ordered = np.sort(data.at_ms)
    moment = ordered[max(0, min(len(ordered) - 1, int(len(ordered) * train_share) - 1))]
    after = data.at_ms > moment
    return data.rows(~after), data.rows(after)


def fit(data: Interactions, settings: Settings) -> Factors:
    """Fit ALS on all rows; equal (user, item) pairs add up."""
    from implicit.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    user_ids, rows = np.unique(data.users, return_inverse=True)
    item_ids, columns = np.unique(data.items, return_inverse=True)
    matrix = csr_matrix((data.weights.astype(np.float32), (rows, columns)), shape=(len(user_ids), len(item_ids)))
    matrix.sum_duplicates()
    matrix.sort_indices()
    with threadpool_limits(limits=settings.threads):  # BLAS takes every core of a shared machine otherwise
        als = AlternatingLeastSquares(
            factors=settings.factors, iterations=settings.iterations, regularization=settings.regularization, alpha=settings.alpha,
            random_state=settings.seed, num_threads=settings.threads, use_gpu=False,
        )
        als.fit(matrix, show_progress=False)
    return Factors(
        user_ids.astype(np.int64), item_ids.astype(np.int64), np.asarray(als.user_factors, np.float32),
        np.asarray(als.item_factors, np.float32), matrix.indptr.astype(np.int64), item_ids[matrix.indices].astype(np.int64),
    )


def recommend(factors: Factors, user_id: int, k: int) -> list[int]:
    """Return the best k unseen items of a user; empty when the user is unknown. Ties go to the smaller item id."""
    row = factors.user_row(user_id)
    if row < 0:
        return []
    scores = factors.item_factors @ factors.user_factors[row]
    seen = factors.seen_items[factors.seen_starts[row] : factors.seen_starts[row + 1]]
    scores[np.searchsorted(factors.item_ids, seen)] = -np.inf
    return [int(factors.item_ids[i]) for i in np.argsort(-scores, kind="stable")[:k] if np.isfinite(scores[i])]


def judge(train_rows: Interactions, test_rows: Interactions, settings: Settings) -> tuple[Scores, Scores]:
    """Return the scores of ALS and of popularity on the held-out rows.

    Users with no rows before the split are left out of both: the served answer for them is trending, not the model. Held-out items that
    the user already had in training are no news and do not count.

    Raises:
        Undecided: no user has rows on both sides of the split.

    """
    seen: dict[int, set[int]] = {}
    for user, item in zip(train_rows.users.tolist(), train_rows.items.tolist(), strict=True):
        seen.setdefault(user, set()).add(item)
    held_out: dict[int, set[int]] = {}
    for user, item in zip(test_rows.users.tolist(), test_rows.items.tolist(), strict=True):
        if user in seen and item not in seen[user]:
            held_out.setdefault(user, set()).add(item)
    if not held_out:
        raise Undecided("no user has interactions on both sides of the time split", hint="train when more events have come")
    ids = np.unique(train_rows.items)
    pairs = np.unique(np.stack([train_rows.users, train_rows.items]), axis=1)  # users per item: views do not multiply popularity
    counts = np.bincount(np.searchsorted(ids, pairs[1]), minlength=len(ids))
    order = ids[np.lexsort((ids, -counts))].tolist()
    factors = fit(train_rows, settings)
    model = evaluate(lambda user, k: recommend(factors, user, k), held_out, settings.k)
    return model, evaluate(lambda user, k: most_popular(order, seen[user], k), held_out, settings.k)


def train(data: Interactions, settings: Settings, whole: Interactions | None = None) -> Trained:
    """Judge the settings on the time split of `data`, then fit `whole` (the interaction matrix), or `data` when there is none.

    Raises:
        Undecided: there are no rows, or none on both sides of the split.

    """
    if len(data.users) == 0:
        raise Undecided("there are no interactions to train on", hint="load events, then run dbt build")
    model, popularity = judge(*split_by_time(data, settings.train_share), settings)
    final = whole if whole is not None and len(whole.users) else data
    newest = max(int(data.at_ms.max()), int(final.at_ms.max()))
    return Trained(fit(final, settings), model, popularity, len(data.users), newest)

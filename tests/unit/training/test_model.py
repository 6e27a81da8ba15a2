"""Metrics against hand-computed values; the split; ALS on a small two-taste world."""
import math

import numpy as np
import pytest

from weir.errors import Undecided
from weir.training import metrics as x
from weir.training import model as m


def test_recall_is_hits_over_what_fits():
    assert x.recall_at_k([1, 2, 3], {2, 9}, 3) == 0.5
    assert x.recall_at_k([1, 2, 3], {1, 2, 3, 4}, 2) == 1.0
    assert x.recall_at_k([1], set(), 3) == 0.0


def test_ndcg_is_as_reckoned_by_hand():
    expected = (1 / math.log2(3) + 1 / math.log2(4)) / (1 + 1 / math.log2(3))
    assert x.ndcg_at_k([7, 1, 2], {1, 2}, 3) == pytest.approx(expected)
    assert expected == pytest.approx(0.6934264)
    assert x.ndcg_at_k([1, 2, 7], {1, 2}, 3) == 1.0
    assert x.ndcg_at_k([7], {1}, 1) == 0.0


def test_users_without_held_out_items_do_not_count():
    found = x.evaluate(lambda user, k: [1, 2], {1: {1}, 2: set(), 3: {9}}, 2)
    assert found == x.Scores(0.5, 0.5, 2)


def test_popularity_leaves_out_what_was_seen():
    assert x.most_popular([5, 4, 3, 2], {5, 3}, 2) == [4, 2]


def rows(users, items, at):
    return m.Interactions(np.array(users), np.array(items), np.ones(len(users), np.float32), np.array(at))


def test_the_split_lets_nothing_of_the_later_part_into_the_fit():
    data = rows([1] * 10, range(10), [5, 1, 9, 3, 7, 2, 8, 4, 6, 10])
    train, test = m.split_by_time(data, 0.8)
    assert sorted(train.at_ms) == list(range(1, 9))
    assert sorted(test.at_ms) == [9, 10]


def test_rows_of_one_moment_stay_together():
    train, test = m.split_by_time(rows([1] * 5, range(5), [1, 2, 2, 2, 3]), 0.4)
    assert sorted(train.at_ms) == [1, 2, 2, 2]
    assert list(test.at_ms) == [3]


def two_tastes():
    rng = np.random.default_rng(1)
    users, items, at = [], [], []
    for user in range(60):
        liked = rng.permutation(20)[:12] + (0 if user % 2 else 20)
        for place, item in enumerate(liked):
            users.append(user), items.append(int(item) + 1), at.append(place * 1000 + user)
    return rows(users, items, at)


SMALL = m.Settings(factors=4, iterations=5)


def test_als_beats_popularity_where_tastes_differ_and_is_repeatable():
    first, second = m.train(two_tastes(), SMALL), m.train(two_tastes(), SMALL)
    assert first.model.ndcg > first.popularity.ndcg
    assert first.model.recall >= first.popularity.recall
    assert (first.factors.user_factors == second.factors.user_factors).all()
    assert first.model == second.model


def test_seen_items_go_with_the_model_and_are_not_recommended():
    data = two_tastes()
    factors = m.fit(data, SMALL)
    mine = set(data.items[data.users == 3].tolist())
    row = factors.user_row(3)
    assert set(factors.seen_items[factors.seen_starts[row]:factors.seen_starts[row + 1]].tolist()) == mine
    assert not mine & set(m.recommend(factors, 3, 40))
    assert m.recommend(factors, 999, 5) == []


def test_too_little_data_is_undecided_not_a_pass():
    with pytest.raises(Undecided):
        m.train(rows([], [], []), SMALL)
    with pytest.raises(Undecided):
        m.train(rows([1, 2], [1, 2], [1, 2]), SMALL)

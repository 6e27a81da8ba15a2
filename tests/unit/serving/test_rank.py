"""Ranking, on a catalogue small enough to reckon by hand."""
from dataclasses import replace

import numpy as np
import pytest

from weir.serving import rank as r

IDS = np.array([1, 2, 3, 4, 5, 6], dtype=np.int64)
GENRES = {1: "Drama", 2: "Drama", 3: "Comedy", 4: "Comedy", 5: "War", 6: "War"}
NAMES = ("Comedy", "Drama", "War")
FACTORS = np.array([[1, 0, 0], [0.9, 0.1, 0], [0, 1, 0], [0, 0.9, 0.1], [0, 0, 1], [0.1, 0, 0.9]], dtype=np.float32)


def catalogue(**changes):
    hot = np.array([[float(GENRES[int(i)] == n) for n in NAMES] for i in IDS], dtype=np.float32)
    base = r.Items(IDS, np.ones(6, dtype=bool), hot, NAMES, np.zeros(6, dtype=np.float32), np.zeros(6, dtype=np.float32),
                   {int(i): n for n, i in enumerate(IDS)})
    return replace(base, **changes)


ITEMS = catalogue()
MODEL = r.align(ITEMS, IDS, FACTORS)
DRAMA_FAN = r.UserSignals(user_factors=np.array([1, 0, 0], dtype=np.float32))
NONE = r.Trending()


def ids(found):
    return [x.item_id for x in found]


def test_the_model_leads_when_nothing_else_is_known():
    assert ids(r.rank(ITEMS, MODEL, DRAMA_FAN, NONE, 2)) == [1, 2]


def test_a_click_changes_the_other_items_and_hides_the_clicked_one():
    before = ids(r.rank(ITEMS, MODEL, DRAMA_FAN, NONE, 6))
    after = ids(r.rank(ITEMS, MODEL, replace(DRAMA_FAN, recent_items=[5], recent_types=["click"]), NONE, 6))
    assert 5 not in after
    assert [i for i in before if i != 5] != [i for i in after if i != 5]
    assert after.index(6) < after.index(3)


def test_a_preferred_genre_lifts_its_items():
    before = ids(r.rank(ITEMS, MODEL, DRAMA_FAN, NONE, 6))
    after = ids(r.rank(ITEMS, MODEL, replace(DRAMA_FAN, preferred_genre="War"), NONE, 6))
    assert after.index(5) < before.index(5)


def test_seen_and_inactive_items_are_left_out():
    quiet = catalogue(active=np.array([False, True, True, True, True, True]))
    assert set(ids(r.rank(quiet, MODEL, replace(DRAMA_FAN, seen=[2], recent_items=[3]), NONE, 9))) == {4, 5, 6}


def test_a_new_user_gets_what_is_trending_in_its_order():
    assert ids(r.rank(ITEMS, MODEL, r.UserSignals(), r.Trending({4: 3.0, 6: 2.0}), 2)) == [4, 6]


def test_the_country_breaks_a_tie():
    assert ids(r.rank(ITEMS, MODEL, r.UserSignals(), r.Trending({4: 1.0, 6: 1.0}, {6: 1.0}), 2)) == [6, 4]


def test_without_a_model_popularity_serves():
    popular = catalogue(popularity=np.array([1, 5, 2, 9, 3, 4], dtype=np.float32))
    assert ids(r.rank(popular, None, r.UserSignals(), NONE, 3)) == [4, 2, 6]


def test_without_a_model_a_click_still_lifts_its_genre():
    assert ids(r.rank(ITEMS, None, r.UserSignals(recent_items=[5], recent_types=["click"]), NONE, 1)) == [6]


def test_the_same_inputs_give_the_same_answer_and_ties_go_to_the_smaller_id():
    first = r.rank(ITEMS, None, r.UserSignals(), NONE, 6)
    assert ids(first) == [1, 2, 3, 4, 5, 6]
    assert r.rank(ITEMS, None, r.UserSignals(), NONE, 6) == first


def test_the_parts_add_up_to_the_score():
    for row in r.rank(ITEMS, MODEL, replace(DRAMA_FAN, preferred_genre="War", recent_items=[4]), r.Trending({6: 1.0}), 5):
        assert sum(row.parts.values()) == pytest.approx(row.score, abs=1e-3)


def test_an_item_the_model_does_not_know_gets_no_model_score():
    aligned = r.align(ITEMS, IDS[:2], FACTORS[:2])
    assert not aligned.factors[2:].any()
    assert (aligned.factors[:2] == FACTORS[:2]).all()


def test_similar_items_leave_out_the_item_itself_and_inactive_ones():
    quiet = catalogue(active=np.array([True, True, True, True, True, False]))
    assert ids(r.similar(ITEMS, MODEL, 5, 1)) == [6]
    assert 6 not in ids(r.similar(quiet, MODEL, 5, 9))
    assert r.similar(ITEMS, MODEL, 99, 3) == []


def test_an_unknown_event_type_and_an_empty_catalogue_are_survived():
    assert r.rank(ITEMS, MODEL, replace(DRAMA_FAN, recent_items=[99, 2], recent_types=["?", "?"]), NONE, 1)
    empty = r.Items(IDS[:0], np.zeros(0, bool), np.zeros((0, 0), np.float32), (), np.zeros(0, np.float32), np.zeros(0, np.float32), {})
    assert r.rank(empty, None, r.UserSignals(), NONE, 3) == []

"""Which keys are due: by trigger, past the watermark, never back."""
from hypothesis import given
from hypothesis import strategies as st

from weir.contracts.features import ALL_COUNTRIES, FEATURE_VIEWS
from weir.features.due import Changes, Watermark, due, user_of

partitions = st.dictionaries(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 5)), st.integers(0, 1000), max_size=8)


def test_an_event_makes_its_user_item_and_country_due_and_the_overall_list():
    found = {name: keys for name, (_, keys) in due(Changes(frozenset({1}), frozenset({2}), frozenset({"DE"}))).items()}
    assert found == {"user_activity": {1}, "item_activity": {2}, "country_trending": {"DE", ALL_COUNTRIES}}


def test_a_change_in_the_source_makes_just_its_own_views_due():
    found = {name: keys for name, (_, keys) in due(Changes(cdc_users=frozenset({3}), cdc_items=frozenset({4}))).items()}
    assert found == {"user_profile": {3}, "item_catalogue": {4}}


def test_nothing_changed_makes_nothing_due():
    assert due(Changes()) == {}


def test_batch_views_are_due_on_no_change():
    everything = Changes(frozenset({1}), frozenset({1}), frozenset({"DE"}), frozenset({1}), frozenset({1}))
    assert set(due(everything)).isdisjoint(v.name for v in FEATURE_VIEWS if v.triggers == ("batch",))


@given(partitions, partitions)
def test_a_watermark_never_goes_back_and_survives_its_text(start, ends):
    before = Watermark(start)
    after = before.advanced(ends)
    assert all(after.offsets[key] >= offset for key, offset in start.items())
    assert all(after.offsets[key] >= last + 1 for key, last in ends.items())
    assert Watermark.decode(after.encode()) == after


def test_partitions_not_seen_yet_are_read_from_their_beginning():
    assert "partition NOT IN (0)" in Watermark({("t", 0): 5}).condition(["t"])
    assert "offset >= 5" in Watermark({("t", 0): 5}).condition(["t"])
    assert Watermark().condition(["t"]) == "((topic = 't' AND (1)))"


def test_a_key_of_another_table_or_form_is_nobodys():
    assert user_of("shop.public.users", '{"user_id":7}') == ("users", 7)
    assert user_of("shop.public.other", '{"user_id":7}') is None
    assert user_of("shop.public.users", "not json") is None

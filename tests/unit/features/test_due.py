"""Which keys are due: by trigger, past the watermark, never back."""
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from weir.contracts.features import ALL_COUNTRIES, FEATURE_VIEWS
from weir.features.due import Changes, Exports, Watermark, due, emptied, look_back_s, user_of
from weir.features.materialize import changed

partitions = st.dictionaries(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 5)), st.integers(0, 1000), max_size=8)


def test_an_event_makes_its_user_item_and_country_due_and_the_overall_list():
    found = {name: keys for name, (_, keys) in due(Changes(frozenset({1}), frozenset({2}), frozenset({"DE"}))).items()}
    assert found == {"user_activity": {1}, "user_seen": {1}, "item_activity": {2}, "country_trending": {"DE", ALL_COUNTRIES}}


def test_a_change_in_the_source_makes_just_its_own_views_due():
    found = {name: keys for name, (_, keys) in due(Changes(cdc_users=frozenset({3}), cdc_items=frozenset({4}))).items()}
    assert found == {"user_profile": {3}, "item_catalogue": {4}}


def test_nothing_changed_makes_nothing_due():
    assert due(Changes()) == {}


def test_a_truncate_makes_all_keys_of_its_own_views_due_though_it_names_none():
    assert [v.name for v in emptied(Changes(truncated=frozenset({"users"})))] == [v.name for v in FEATURE_VIEWS if v.entity == "user_id"]
    assert [v.name for v in emptied(Changes(truncated=frozenset({"items"})))] == [v.name for v in FEATURE_VIEWS if v.entity == "item_id"]
    assert Changes(truncated=frozenset({"items"}))
    assert emptied(Changes(cdc_users=frozenset({1}))) == []


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


def test_a_row_made_or_deleted_in_the_source_makes_every_view_of_its_entity_due():
    rows = [("shop.public.users", 0, 1, '{"user_id":3}', 0, "d"), ("shop.public.items", 0, 1, '{"item_id":4}', 0, "c"), ("shop.public.users", 0, 2, '{"user_id":5}', 0, "u")]
    found = {name: keys for name, (_, keys) in due(changed([], rows, [])).items()}
    assert found == {v.name: {"user_id": {3}, "item_id": {4}}[v.entity] for v in FEATURE_VIEWS if v.entity != "country"} | {"user_profile": {3, 5}}


def test_an_unreadable_key_is_passed_by():
    assert not changed([], [("shop.public.users", 0, 1, "", 0, "d")], [])
    assert not changed([("user-events", 0, 9, [0], [0], [""], [], [])], [], [])


def test_of_a_partition_not_seen_yet_only_what_a_view_can_still_show_is_read():
    condition = Watermark({("t", 0): 5}).condition(["t"], "fresh")
    assert condition == "((topic = 't' AND ((partition = 0 AND offset >= 5) OR (partition NOT IN (0) AND fresh))))"
    assert Watermark().condition(["t"], "fresh") == "((topic = 't' AND (fresh)))"


def test_looking_back_ends_where_every_view_of_events_forgets():
    assert look_back_s() == max(v.window_s or v.ttl_s for v in FEATURE_VIEWS if "events" in v.triggers and "batch" not in v.triggers) == 7 * 86400
    assert look_back_s([replace(FEATURE_VIEWS[1], ttl_s=0)]) == 0  # one that never forgets


def test_a_bulk_load_is_due_once_when_its_count_has_settled():
    exports = Exports(done=10, seen=10, settle_s=1)
    assert not exports.due(10, 0)
    assert not exports.due(20, 5)
    assert not exports.due(30, 5.9)  # the next block: it waits again
    assert not exports.due(30, 6.8)
    assert exports.due(30, 6.9)
    exports.done = 30
    assert not exports.due(30, 9)
    assert not exports.due(20, 10)
    assert exports.due(20, 11)  # fewer: a load was dropped

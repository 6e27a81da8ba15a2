"""The snapshot of items and trending lists: what it is as old as, and what is past its time."""
from weir.contracts import online
from weir.contracts.features import FEATURE_VIEWS
from weir.serving.answers import Flag
from weir.serving.catalogue import CatalogueBuilder, trending_of
from weir.serving.features import VIEWS

NOW, HOUR = 1_796_000_000_000, 3_600_000


def raw(name, values, at):
    row = online.encode_row(VIEWS[name], values, at)
    return tuple(row.get(field) for field in online.view_fields(VIEWS[name]))


def item(at, activity_at, history_at):
    return (
        *raw("item_catalogue", ["Alien", ["Horror"], 1979, True], at), *raw("item_activity", [4, 2.0], activity_at),
        *raw("item_history", [9, 3, 4.0, 4.0], history_at),
    )


ITEMS = {1: item(NOW - 9, NOW - 8, NOW - 7)}
COUNTRIES = {"ALL": raw("country_trending", [[1], [2.0]], NOW - 6), "DE": raw("country_trending", [[1], [1.0]], NOW - HOUR)}


def test_a_snapshot_knows_the_newest_input_of_each_view():
    found = CatalogueBuilder().build(ITEMS, COUNTRIES, NOW)
    assert (found.catalogue_event_ms, found.item_event_ms, found.history_event_ms, found.trending_event_ms) == (NOW - 9, NOW - 8, NOW - 7, NOW - 6)
    assert found.problems == ()


def test_lists_and_activity_that_nobody_renews_are_left_out_after_their_ttl_and_said():
    """The same bytes at each read, as while the materializer is away."""
    builder = CatalogueBuilder()
    builder.build(ITEMS, COUNTRIES, NOW)
    one = builder.build(ITEMS, COUNTRIES, NOW + HOUR + 1)  # only DE is past its two hours
    assert (one.trending["DE"].country, one.trending["DE"].overall) == ({}, {1: 2.0})
    assert one.problems == (("country_trending", "expired"),)
    late = builder.build(ITEMS, COUNTRIES, NOW + 2 * HOUR)
    assert trending_of(late, "DE") == trending_of(late, "ALL") == trending_of(late, "FR")
    assert trending_of(late, "DE").overall == {}
    assert (late.item_event_ms, late.trending_event_ms) == (None, None)
    assert late.items.activity.tolist() == [0.0]
    assert (late.catalogue_event_ms, late.history_event_ms) == (NOW - 9, NOW - 7)
    assert late.problems == (("country_trending", "expired"), ("item_activity", "expired"))


def test_renewed_lists_serve_again():
    builder = CatalogueBuilder()
    builder.build(ITEMS, COUNTRIES, NOW + 3 * HOUR)
    found = builder.build(ITEMS, {"ALL": raw("country_trending", [[1], [2.0]], NOW + 3 * HOUR)}, NOW + 3 * HOUR)
    assert trending_of(found, "DE").overall == {1: 2.0}
    assert found.problems == (("item_activity", "expired"),)


def test_what_happens_within_one_hour_is_kept_for_two():
    """Longer than the window, so that only what nobody renews is past it."""
    assert {v.name: v.ttl_s for v in FEATURE_VIEWS if v.window_s} == {"item_activity": 7200, "country_trending": 7200}


def test_every_problem_of_a_view_has_its_flag_and_no_flag_is_of_a_view_that_is_not_there():
    owed = {f"{v.name}_unreadable" for v in FEATURE_VIEWS} | {f"{v.name}_expired" for v in FEATURE_VIEWS if v.ttl_s}
    assert {*Flag} == owed | {"features_unavailable", "catalogue_empty", "catalogue_stale", "no_champion", "model_unreadable"}

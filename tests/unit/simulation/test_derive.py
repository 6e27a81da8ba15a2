import random
import uuid
from collections import Counter
from itertools import pairwise

import pytest

from weir.contracts.events import RejectReason
from weir.errors import MissingTool, SettingsError
from weir.ingest.decode import user_events
from weir.ingest.record import Record
from weir.simulation import dataset, derive
from weir.simulation.journal import Journal, load
from weir.simulation.produce import progress

NOW = 1_790_000_000_000


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    print("seed 7")  # noqa: T201 - a failure is repeated with it
    rng = random.Random(7)  # noqa: S311 - test data
    folder = tmp_path_factory.mktemp("ml-100k")
    (folder / "ml-100k.user").write_text("head\n" + "".join(f"{u}\t30\tF\tnone\t{'V3N' if u == 1 else '94043'}\n" for u in range(1, 51)))
    (folder / "ml-100k.item").write_text("head\n" + "".join(f"{i}\tTitle {i}\t1995\tAnimation Children's\n" for i in range(1, 80)) + "80\t\tV\t\n")
    ratings = {(rng.randint(1, 50), rng.randint(1, 80)) for _ in range(2000)}
    lines = [f"{u}\t{i}\t{rng.randint(1, 5)}\t{880_000_000 + rng.randint(0, 18_000_000)}\n" for u, i in sorted(ratings)]
    (folder / "ml-100k.inter").write_text("head\n" + "".join(lines))
    return dataset.read(folder)


def test_the_same_seed_and_now_make_the_same_events(data):
    assert list(derive.events(data, NOW)) == list(derive.events(data, NOW))
    assert list(derive.events(data, NOW, 2)) != list(derive.events(data, NOW, 1))


def test_event_ids_are_unique_and_do_not_depend_on_now(data):
    first = [e.event_id for e in derive.events(data, NOW)]
    assert len(first) == len(set(first))
    assert first == [e.event_id for e in derive.events(data, NOW + 86_400_000)]


def test_an_event_id_is_the_version_5_uuid_of_what_the_event_is(data):
    rating = {(r.user_id, r.item_id) for r in data.ratings}
    rated = [e for e in derive.events(data, NOW) if e.event_type == "rate"]
    assert {(e.user_id, e.item_id) for e in rated} == rating
    assert [e.event_id for e in rated] == [str(uuid.uuid5(derive._NAMESPACE, f"1:rate:{e.user_id}:{e.item_id}:0")) for e in rated]


def test_the_clock_never_goes_back_and_never_passes_now(data):
    clock = derive.Clock.of(data.ratings, NOW)
    times = [clock.at(s) for s in range(data.ratings[0].at_s - 100, data.ratings[-1].at_s + 100, 997)]
    assert all(a <= b for a, b in pairwise(times))
    assert times[0] >= NOW - derive.SPAN_MS
    assert clock.at(data.ratings[-1].at_s) == NOW


def test_the_newest_two_percent_of_the_ratings_fall_in_the_last_hour(data):
    rated = [e.occurred_at for e in derive.events(data, NOW) if e.rating is not None]
    assert sum(t >= NOW - derive.HOUR_MS for t in rated) / len(rated) == pytest.approx(derive.LAST_SHARE, abs=0.002)


def test_every_rating_follows_one_to_three_views_and_up_to_two_clicks_of_its_session(data):
    since, seen = Counter(), 0
    for e in derive.events(data, NOW):
        since[e.event_type.value] += 1
        if e.event_type == "rate":
            assert 1 <= since["view"] <= 3
            assert since["click"] <= 2
            since, seen = Counter(), seen + 1
    assert seen == len(data.ratings)


def test_ingest_accepts_every_derived_event(data):
    import json

    records = [Record("user-events", 0, n, NOW, None, json.dumps(e.body()).encode(), "") for n, e in enumerate(derive.events(data, NOW))]
    assert set(user_events(records, "b")["reject_reason"].to_pylist()) == {""}


def test_each_bad_event_meets_a_reason_of_its_own():
    records = [Record("user-events", 0, n, NOW, None, v, "") for n, v in enumerate(derive.bad_events(1, NOW))]
    assert sorted(user_events(records, "b")["reject_reason"].to_pylist()) == sorted(RejectReason)


def test_genres_split_by_space_and_a_year_that_is_no_number_is_none(data):
    assert data.items[0].genres == ("Animation", "Children's")
    assert data.items[-1] == dataset.RawItem(80, "item 80", None, ())


def test_canadian_zip_codes_are_canada_and_the_rest_is_drawn_by_share():
    assert derive.country("V3N4P", 5) == "CA"
    drawn = Counter(derive.country("94043", n) for n in range(5000))
    assert {c: round(100 * drawn[c] / 5000) for c, _ in derive.COUNTRIES} == pytest.approx(dict(derive.COUNTRIES), abs=3)


def test_a_missing_data_set_is_named(tmp_path):
    with pytest.raises(SettingsError, match="WEIR_DATASET_DIR is not set"):
        dataset.directory({})
    with pytest.raises(MissingTool, match=r"ml-100k\.user"):
        dataset.directory({"WEIR_DATASET_DIR": str(tmp_path)})


def test_the_journal_sums_without_order_and_survives_a_restart(tmp_path):
    ids = ["ffffffff-ffff-ffff-8000-000000000000", "00000000-0000-0003-8000-000000000000"]
    one, two = Journal(1, NOW), Journal(1, NOW)
    for a, b in zip(ids, reversed(ids), strict=True):
        one.note(a)
        two.note(b)
    assert one == two
    assert one.id_sum == 2
    one.save(tmp_path / "x" / "journal.json")
    assert load(tmp_path / "x" / "journal.json") == one
    assert load(tmp_path / "none.json") is None


def test_the_eta_is_what_is_left_at_the_rate_so_far():
    assert progress(100, 300, 10).eta_s == pytest.approx(20)


def test_a_load_that_follows_has_the_last_hour_alone_in_other_events_and_sessions(data):
    first = list(derive.events(data, NOW))
    again = list(derive.events(data, NOW, again=1))
    rated = [e for e in first if e.event_type == "rate" and e.occurred_at >= NOW - derive.HOUR_MS]
    assert [(e.user_id, e.item_id, e.rating, e.occurred_at) for e in again if e.event_type == "rate"] == [(e.user_id, e.item_id, e.rating, e.occurred_at) for e in rated]
    assert not {e.event_id for e in again} & {e.event_id for e in first}
    assert not {e.event_id for e in again} & {e.event_id for e in derive.events(data, NOW, again=2)}
    assert {e.session_id.rsplit("-", 2)[0] for e in again} == {"ml-again1"}

"""What the soak says of what it saw, and what its oracle counts, without a gateway."""
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def soak(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import soak

    return soak


@pytest.fixture
def mixed(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    from under_test import mixed

    return mixed


def _samples(count, every=10.0, **of):
    return [{"at_s": i * every, "rss_mib": 500.0, "open_files": 100, "threads": 40, "parts": 10} | {name: values(i) for name, values in of.items()} for i in range(count)]


def _found(samples, **more):
    counted = {"rows": 5, "rows_found": 5, "keys_that_differ": {"events": 0, "by_key": 0}}
    return {"errors": {}, "stuck": [], "left": {"sessions": 0}, "exit_status": 0, "counted": counted, "counted_after_restart": counted,
            "samples": samples, "slices": [{"light_ms_p99": 12.0}, {"light_ms_p99": 49.0}]} | more


def test_a_slope_is_of_the_second_half_alone(soak):
    rising = [(float(i), 100.0 * min(i, 50)) for i in range(200)]  # caches fill, then nothing
    assert soak.slope_per_hour(rising) == 0
    assert round(soak.slope_per_hour([(i * 10.0, 5.0 + i) for i in range(100)])) == 360
    assert soak.slope_per_hour([(0, 1), (1, 2)]) == 0


def test_one_leak_of_each_kind_fails_its_aim_and_no_other(soak):
    assert all(aim["met"] for aim in soak.verdict(_found(_samples(100)))["aims"].values())
    for name, leaking in (("rss_mib_per_hour", {"rss_mib": lambda i: 500.0 + i}), ("open_files_growth", {"open_files": lambda i: 100 + i}),
                          ("threads_growth", {"threads": lambda i: 40 + i}), ("parts_growth", {"parts": lambda i: 10 + i})):  # fmt: skip
        aims = soak.verdict(_found(_samples(100, **leaking)))["aims"]
        assert [n for n, aim in aims.items() if not aim["met"]] == [name]
    slow = soak.verdict(_found(_samples(100), slices=[{"light_ms_p99": 51.0}, {"light_ms_p99": 2.0}]))
    assert slow["aims"]["light_ms_p99_worst_slice"] == {"aim": 50.0, "measured": 51.0, "met": False}


def test_a_short_run_says_nothing_of_trends(soak):
    assert soak.verdict(_found(_samples(10, rss_mib=lambda i: 500 + 100 * i)))["aims"] == {}


@pytest.mark.parametrize(("name", "wrong"), [
    ("no_error", {"errors": {"light 241": 1}}), ("nobody_stuck", {"stuck": ["heavy-0"]}), ("nothing_left", {"left": {"sessions": 1}}), ("closed_properly", {"exit_status": 1}),
    ("exact", {"counted": {"rows": 5, "rows_found": 6, "keys_that_differ": {}}}),
    ("exact", {"counted_after_restart": {"rows": 5, "rows_found": 5, "keys_that_differ": {"by_bucket": 1}}}),
])  # fmt: skip
def test_whatever_does_not_hold_is_named(soak, name, wrong):
    holds = soak.verdict(_found(_samples(10), **wrong))["holds"]
    assert [n for n, held in holds.items() if not held] == [name]


def test_slices_have_their_own_times_and_a_short_rest_belongs_to_the_last(soak, mixed):
    journal = mixed.Journal()
    journal.light = [(1.0, 1.0), (299.0, 3.0), (301.0, 7.0), (650.0, 9.0)]
    journal.light_in_crowd = [(302.0, 400.0)]
    found = soak.slices(journal, _samples(66, rss_mib=float), 660.0)
    assert [(s["from_s"], s["light_queries"], s["light_ms_max"], s["rss_mib_max"]) for s in found] == [(0.0, 2, 3.0, 29.0), (300.0, 2, 9.0, 65.0)]
    assert [s["light_in_crowd_queries"] for s in found] == [0, 1]


def test_the_oracle_counts_rows_and_sums_of_each_key_and_bucket(mixed):
    oracle, rows = mixed.Oracle(), [mixed.batch(1, 2, 50), mixed.batch(0, 0, 1)]
    for made in rows:
        oracle.add(made)
    by_hand = {}
    for made in rows:
        for row in made:
            n, total = by_hand.get(int(row["k"]), (0, 0))
            by_hand[int(row["k"])] = (n + 1, total + int(row["v"]))
    assert oracle.by_key() == by_hand
    assert sum(n for n, _ in oracle.by_bucket().values()) == oracle.rows == 51
    assert sum(total for _, total in oracle.by_bucket().values()) == sum(total for _, total in by_hand.values())


def test_a_batch_is_the_same_each_time_it_is_made(mixed):
    assert mixed.batch(3, 7, 100).tobytes() == mixed.batch(3, 7, 100).tobytes() != mixed.batch(3, 8, 100).tobytes()
    assert len(mixed.batch(3, 7, 100).tobytes()) == 100 * 20


def test_an_error_counts_as_asked_for_only_by_its_own_code(mixed):
    soak = mixed.Soak("x", 1, "p", 1)

    class Refusing:
        def ask(self, *_):
            raise mixed.RefusedError(500, "241", "no memory")

    client = mixed.Client(soak)
    assert client.ask("SELECT 1", asked="241", http=Refusing()) is None
    with pytest.raises(mixed.RefusedError):
        client.ask("SELECT 1", asked="394", http=Refusing())
    soak.journal.failed("light", mixed.RefusedError(500, "241", "no memory"))
    assert (dict(soak.journal.asked), dict(soak.journal.errors)) == ({"client 241": 1}, {"light 241": 1})

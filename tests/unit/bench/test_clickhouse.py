"""What the benchmark of the embedded ClickHouse says of what it measured."""
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def clickhouse(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import clickhouse

    return clickhouse


def test_each_of_a_pair_goes_first_in_turn(clickhouse):
    order = []
    for turn in (0, 1):
        clickhouse.paired(lambda: order.append("http"), lambda: order.append("in process"), turn)
    assert order == ["http", "in process", "in process", "http"]


def test_ratios_and_costs_are_of_pairs_not_of_medians(clickhouse):
    found = clickhouse.told([(0.002, 0.001), (0.010, 0.010), (0.100, 0.099)])
    assert (found["cost_ms_p50"], found["speed_ratio_p50"]) == (1.0, 0.99)
    assert (found["http_ms_p50"], found["in_process_ms_p50"], found["http_ms_p99"]) == (10.0, 10.0, 100.0)


def test_the_worst_of_each_kind_is_held_to_its_aim(clickhouse):
    found = {
        "inserts": {"speed_ratio_p50": 0.8}, "queries": {"a": {"cost_ms_p50": 0.1, "http_ms_p99": 9.0}, "b": {"cost_ms_p50": 0.6, "http_ms_p99": 1.0}},
        "streams": {"table_a": {"speed_ratio_p50": 0.9}, "table_b": {"speed_ratio_p50": 0.7}, "made_up_Native": {"speed_ratio_p50": 0.1}},
        "idle": {"mib": 99.0}, "beside_heavy": {"alone": {"gateway": {"ms_p99": 90.0}}, "beside_one": {"gateway": {"ms_p99": 9.0}, "in_process": {"ms_p99": 80.0}}, "beside_two": {"gateway": {"ms_p99": 60.0}}},
    }  # fmt: skip
    told = {name: (one["measured"], one["met"]) for name, one in clickhouse.verdict(found).items()}
    assert told == {"insert_ratio": (0.8, True), "query_cost_ms_p50": (0.6, False), "query_ms_p99": (9.0, False), "stream_ratio": (0.7, False),
                    "idle_mib": (99.0, True), "light_beside_heavy_ms_p99": (60.0, False)}  # fmt: skip


def test_parts_that_did_not_run_have_no_aim(clickhouse):
    assert clickhouse.verdict({"idle": {"mib": 1.0}}) == {"idle_mib": {"aim": 100.0, "measured": 1.0, "met": True}}


def test_every_side_is_visited_in_each_round_in_turn_beside_none_one_and_two(clickhouse, monkeypatch):
    beside = clickhouse.beside
    monkeypatch.setattr(beside, "OLD_S", 0)
    monkeypatch.setattr(beside, "PAUSE_S", 0)
    asked, heavy = [], {"a": set(), "b": set()}

    def side(name):
        def another():
            me = object()
            return lambda _sql: heavy[name].add((len(asked) // 6, me))

        return beside.Side(name, lambda sql: asked.append((name, sql)), another)

    found = beside.measure([side("a"), side("b")], rounds=2, light=2, quantile=clickhouse.quantile)
    assert [name for name, _ in asked] == ["a", "a", "b", "b", "b", "b", "a", "a"] * 3
    assert [sql for name, sql in asked if name == "a"][:2] == ["SELECT 0", "SELECT count(), max(value) FROM b.stored WHERE user_id = 1"]
    assert {name: [len({me for _, me in heavy[name]}), *(one[name]["light_queries"] for one in found.values())] for name in heavy} == {"a": [6, 4, 4, 4], "b": [6, 4, 4, 4]}
    assert ["heavy_ones" in found[name]["a"] for name in found] == [False, True, True]

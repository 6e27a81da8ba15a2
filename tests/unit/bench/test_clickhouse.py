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
        "idle": {"mib": 99.0}, "beside_heavy": {"http": {"ms_p99": 60.0}},
    }  # fmt: skip
    told = {name: (one["measured"], one["met"]) for name, one in clickhouse.verdict(found).items()}
    assert told == {"insert_ratio": (0.8, True), "query_cost_ms_p50": (0.6, False), "query_ms_p99": (9.0, False), "stream_ratio": (0.7, False),
                    "idle_mib": (99.0, True), "cheap_beside_heavy_ms_p99": (60.0, False)}  # fmt: skip

"""What the benchmarks of change data capture and of reconciliation make of what they saw."""
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def cdc(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import cdc

    return cdc


@pytest.fixture
def reconcile(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import reconcile

    return reconcile


def _document(rows_s, p99_ms, who="weir"):
    return {"snapshot": {"rows_per_s": rows_s}, "latency": [{"measured": who, "asked_per_s": 50, "to_queryable": {"p99_ms": p99_ms}}, {"measured": "debezium to kafka alone", "asked_per_s": 50}]}


def test_a_snapshot_or_a_delay_past_its_limit_is_told_and_only_then(cdc):
    assert cdc.past_limits(_document(25_000, 1000.0)) == []
    assert cdc.past_limits(_document(24_999, 1000.0)) == ["24999 rows/s of a snapshot, and 25000 is the limit"]
    assert cdc.past_limits(_document(25_000, 1000.1)) == ["1000.1 ms to queryable for 99 of 100 at 50 changes/s, and 1000 is the limit"]
    assert cdc.past_limits(_document(25_000, 9000.0, "logical replica")) == []


def test_a_delay_runs_from_the_commit_to_the_first_look_that_had_it_and_the_first_second_is_left_out(cdc):
    seen = cdc.Seen(range(1, 202))
    seen.at = {i: 100.0 + i / 100 + (0.5 if i < 100 else 0.020) for i in range(1, 202)}
    found = cdc.delays({i: 100.0 + i / 100 for i in range(1, 202)}, seen)
    assert (found["changes"], found["p50_ms"], found["p99_ms"], found["max_ms"]) == (101, 20.0, 20.0, 20.0)


def test_an_id_counts_from_when_it_was_first_seen_and_others_do_not_count(cdc, monkeypatch):
    seen, times = cdc.Seen(range(1, 3)), iter((5.0, 6.0))
    monkeypatch.setattr(cdc.time, "monotonic", lambda: next(times))
    seen.note([1, 7])
    assert not seen.whole()
    seen.note([1, 2])
    assert (seen.whole(), seen.at) == (True, {1: 5.0, 2: 6.0})


def test_what_reconciliation_takes_is_told_by_each_way_of_looking_and_so_is_the_noise(reconcile):
    def seen(companion, cores, own, reported):
        return {"companion": companion, "cores_it_works_in": cores, "reported_cores": reported, "cores": {"reconcile": own} if own else {}}

    windows = [seen("stopped", 0.50, 0, 0.0), seen("running", 0.53, 0.004, 0.014), seen("stopped", 0.52, 0, 0.0), seen("running", 0.55, 0.006, 0.016)]
    assert reconcile.judge(windows, 0.015) == {"own_process": 0.005, "reported": 0.015, "status": 0.015, "difference": 0.03, "noise": 0.02}

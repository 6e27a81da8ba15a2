"""Rates, lags and delays by hand; what was not told stays unknown."""
import io
from dataclasses import replace

import pytest
from rich.console import Console

from weir.contracts import names
from weir.quality import counters, flow, terminal
from weir.quality.ask import newest_feature
from weir.quality.facts import ClickHouseFacts
from weir.quality.judge import Capture, Hop, PartitionCount, TableCount, judge


def _report(*, now_ms=10_000, end=100, committed=100, hops=(), counted=None, tables=()):
    p = PartitionCount(names.TOPIC_USER_EVENTS, 0, 0, end, committed, committed, committed, committed, committed)
    report = judge(tables, [p], [Hop(n, now_ms - a, a) for n, a in hops], {}, cdc_topics={}, now_ms=now_ms)
    return replace(report, counters=counted or {})


def test_a_rate_is_what_passed_over_the_time_between_two_askings():
    before, now = _report(counted={"ingest": 100, "features": None, "transform": 500}), _report(now_ms=12_000, counted={"ingest": 300, "features": 7, "transform": 20})
    found = flow.rates(before, now)
    assert found["ingest"] == 100.0
    assert found["features"] is None
    assert found["transform"] is None  # counted anew after a restart
    assert set(flow.rates(None, now).values()) == {None}


def test_the_time_until_the_lag_is_gone_follows_from_lag_and_rate():
    before, now = _report(counted={"ingest": 0}), _report(now_ms=12_000, end=1100, counted={"ingest": 400})
    ingest = next(s for s in flow.stages(before, now) if s.name == "ingest")
    assert (ingest.rate, ingest.lag, ingest.eta_s) == (200.0, flow.Lag(1000, flow.Unit.RECORDS), 5.0)


def test_each_hop_is_behind_its_own_input_only():
    ages = {"event landed": 300, "event time landed": 1000, "mart user_activity": 1400, "feature written": 1500, "feature served": 2100}
    found = {h.name: (h.age_ms, h.behind_ms) for h in flow.hops(_report(hops=ages.items()))[2:]}
    assert found == {"event → landing": (300, 0), "landing → view": (1400, 400), "view → feature": (1500, 100), "feature → served": (2100, 600)}


@pytest.mark.parametrize(("reads", "behind"), [(True, 40), (False, None)])
def test_a_commit_is_behind_by_its_way_to_kafka_which_nobody_knows_while_debezium_does_not_read(reads, behind):
    report = replace(_report(hops=[("change committed", 940), ("change landed", 900)]), capture=Capture(5, reads))
    first = flow.hops(report)[0]
    assert (first.name, first.age_ms, first.behind_ms) == ("commit → topic", 940, behind)


@pytest.mark.parametrize(("end", "behind"), [(50, 0), (60, 900), (None, None)])
def test_a_change_is_landed_or_behind_by_the_age_of_the_one_that_landed_last(end, behind):
    cdc = [PartitionCount(topic, 0, 0, end, 50, 50, 50, 50, 50) for topic in (names.TOPIC_CDC_USERS, names.TOPIC_CDC_ITEMS)]
    assert flow.hops(replace(_report(hops=[("change landed", 900)]), partitions=tuple(cdc)))[1] == flow.HopDelay("change → landing", 900, behind)


def test_each_stage_but_the_source_has_a_lag_in_what_its_input_counts_in():
    ages = {"event time landed": 1000, "mart user_activity": 1400, "feature written": 1500, "feature served": 2100}
    report = replace(_report(end=1100, hops=ages.items()), capture=Capture(12_345, reads=True))
    assert [terminal.lag(s.lag) for s in flow.stages(None, report)] == ["-", "12.3 kB of WAL", "1,000 records", "400 ms", "100 ms", "600 ms"]


def test_with_a_lag_the_landing_is_behind_by_the_age_of_what_landed_last():
    assert flow.hops(_report(end=200, hops=[("event landed", 900)]))[2].behind_ms == 900


def test_what_was_not_told_is_unknown_at_its_hop_and_the_next():
    found = flow.hops(_report(end=None, hops=[("event landed", 1), ("event time landed", 5), ("feature written", 7)]))
    assert [h.behind_ms for h in found] == [None] * 6


def test_the_newest_feature_is_that_of_an_event_and_not_of_a_profile():
    assert newest_feature({"newest_event_ms": {"user_profile": 99, "user_activity": 5, "item_activity": 7}}) == 7
    assert newest_feature({"state": "starting"}) is None


def test_a_stage_that_was_not_asked_is_not_counted_as_zero():
    p = PartitionCount("user-events", 0, 0, None, None, None, 4, 4)
    found = counters([p], ClickHouseFacts(), {}, None)
    assert found == {"source": None, "connect": None, "ingest": 4, "transform": None, "features": None, "serving": None}


def test_the_terminal_shows_every_stage_hop_and_row_and_a_question_mark_for_what_is_unknown():
    report = _report(tables=[TableCount("users", 943, 942), TableCount("items", 5, None)])
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(terminal.tables(None, report))
    text = console.export_text()
    for word in ("source", "serving", "event → landing", "feature → served", "users 943 ≠ 942", "items 5 ? ?", "landed rows 100"):
        assert word in text
    assert "\n" not in terminal.line(None, report)
    assert "lag 0" in terminal.line(None, report)


def test_what_debezium_wrote_is_counted_apart_from_all_that_was_produced():
    places = [PartitionCount(topic, 0, 0, end, end, end, end, end) for topic, end in ((names.TOPIC_USER_EVENTS, 70), (names.TOPIC_ITEM_CATALOGUE, 20), (names.TOPIC_CDC_USERS, 9))]
    found = counters(places, ClickHouseFacts(), {}, None)
    assert (found["source"], found["connect"]) == (99, 9)


def test_the_status_tells_the_verdict_with_every_reason():
    report = _report(tables=[TableCount("users", 943, 942)])
    told = terminal.verdict_lines(report)
    assert told[0].startswith(f"correct: {report.verdict} · users 943 ≠ 942 · landed rows 100")
    assert told[1:] == [f"  {reason}" for reason in report.reasons]
    assert any("942 in staging" in line for line in told[1:])

import io
import re
import time
from types import SimpleNamespace

import httpx
import pytest
from rich.console import Console

from weir.demo import follow, loading, story
from weir.demo.result import Counts, DemoResult, Hops, others_changed
from weir.demo.screen import Screen
from weir.errors import Terminal
from weir.simulation import journal
from weir.simulation.produce import Progress
from weir.stack import usual

COUNTS = Counts({"users": 2}, {"users": 2}, 10, 7, 3, 1500)


def test_the_document_has_exactly_the_keys_that_the_issue_names_and_the_hops():
    document = DemoResult(1, 2, [2, 3], [4, 3], Hops(1, 2, 4), Hops(8, 16, 32), COUNTS, 9.0).document()
    assert set(document) == {
        "recommendations_before", "recommendations_after", "event_to_feature_ms", "cdc_to_feature_ms", "events_in", "events_in_clickhouse",
        "events_quarantined", "source_rows", "sink_rows", "seconds_to_ready", "event_hops", "cdc_hops",
    }
    assert (document["event_to_feature_ms"], document["cdc_to_feature_ms"]) == (3, 24)
    assert document["event_hops"] == {"to_landed_ms": 1, "landed_to_feature_ms": 2, "feature_to_recommendations_ms": 4}
    assert document["events_in"] == document["events_in_clickhouse"] + document["events_quarantined"]


@pytest.mark.parametrize(
    ("after", "changed"), [([2, 3, 9], False), ([1, 2, 3], False), ([3, 2, 9], True), ([2, 9, 8], True), ([2, 1, 3], False)]
)
def test_only_a_change_beyond_the_clicked_item_counts(after, changed):
    assert others_changed([1, 2, 3], after, 1) is changed


def test_a_lost_a_doubled_and_a_missing_row_are_not_reconciled():
    assert COUNTS.reconciled()
    assert not Counts({"users": 2}, {"users": 2}, 10, 6, 3).reconciled()
    assert not Counts({"users": 2}, {"users": 2}, 10, 8, 3).reconciled()
    assert not Counts({"users": 2}, {"users": 1}, 10, 7, 3).reconciled()


def test_what_is_missing_of_the_source_and_of_the_topic_is_counted_together():
    assert [Counts({"users": 9, "items": 4}, {"users": 2}, 10, 5, 3).missing(), COUNTS.missing(), Counts({}, {}, 10, 20, 0).missing()] == [13, 0, 0]


def test_a_step_keeps_its_seconds_for_the_next_story_and_a_build_tells_its_nodes(tmp_path, monkeypatch):
    out = io.StringIO()
    screen = Screen(Console(file=out, width=140), lambda: None, every_s=0)
    dbt = SimpleNamespace(run=lambda _env, _words, report: [report(done, 4) for done in (1, 2)] and (0, ""))
    monkeypatch.setattr(story.build, "build", lambda env, words, dbt: dbt(env, words))
    stage = story._Stage(None, tmp_path, screen, {}, None, dbt)
    stage.dbt_build("dbt build", "test")
    assert usual.last(tmp_path, "demo dbt build") is None  # it took no time: skipped, as a load that is complete
    monkeypatch.setattr(story, "KEPT_S", 0.0)
    stage.dbt_build("dbt build", "test")
    assert re.search(r"    dbt build: 2 of 4 nodes · [\d,.]+/s, about 0 s to go\n", out.getvalue())
    assert usual.last(tmp_path, "demo dbt build") is not None
    with pytest.raises(Terminal), stage.step("broken"):
        raise Terminal("no")
    assert usual.last(tmp_path, "demo broken") is None


def test_a_complete_load_is_not_produced_again(tmp_path):
    journal.Journal(1, int(time.time() * 1000) - 3_500_000, produced=3, complete=True).save(loading.journal_path(tmp_path))
    found, produced = loading.events(None, None, tmp_path, lambda _: None, lambda _: None)
    assert (found.produced, produced) == (3, False)


def test_a_failed_command_tells_its_last_line_and_its_log(tmp_path):
    with pytest.raises(Terminal, match=r"x failed \(3\): no such table.*demo-x\.log"):
        loading.command("x", ["sh", "-c", "echo no such table; exit 3"], {}, tmp_path)


def test_waiting_ends_with_a_sentence():
    began = time.monotonic()
    with pytest.raises(Terminal, match="the thing did not show"):
        follow.until(lambda: False, "the thing", 0.05)
    assert time.monotonic() - began < 2


class Landed:
    def __init__(self, after_s):
        self.at = after_s and time.monotonic() + after_s

    def join(self, timeout=None):
        pass


def test_a_change_is_followed_to_other_recommendations_and_its_hops_are_positive_and_add_up():
    began = time.monotonic()
    answers = iter([[1, 2], [1, 2], [2, 3]])
    landing = Landed(0.001)
    served = iter([False, False, True])
    found = follow.followed("the click", began, landing, lambda: next(served), lambda: next(answers), lambda now: now != [1, 2])
    whole_ms = (time.monotonic() - began) * 1000
    hops = found.hops
    assert found.recommendations == [2, 3]
    assert min(hops.to_landed_ms, hops.landed_to_feature_ms, hops.feature_to_recommendations_ms) > 0
    assert hops.to_feature_ms == hops.to_landed_ms + hops.landed_to_feature_ms >= 40  # two polls
    assert whole_ms >= hops.to_recommendations_ms == hops.to_feature_ms + hops.feature_to_recommendations_ms >= 80


def test_a_landing_that_is_seen_after_its_feature_was_there_by_then():
    assert Hops.between(1.0, 3.0, 2.0, 2.5) == Hops(1000, 0, 500)


@pytest.mark.parametrize(("landing", "changed", "words"), [(Landed(0), True, "not in the landing table"), (Landed(1), False, "recommendations changed by x did not show")])
def test_a_hop_that_was_not_seen_ends_the_story(monkeypatch, landing, changed, words):
    monkeypatch.setattr(follow, "CHANGED_S", 0.05)
    with pytest.raises(Terminal, match=words):
        follow.followed("x", time.monotonic(), landing, lambda: True, lambda: [1], lambda _: changed)


def test_a_feature_is_asked_for_as_a_part_of_a_trace():
    asked = []
    api = follow.Api("http://api.example")
    api._client = httpx.Client(base_url="http://api.example", transport=httpx.MockTransport(lambda r: asked.append(r.headers.get("traceparent")) or httpx.Response(200, json={"features": {}})))
    api.features(1)
    api.features(1, "00-1-2-01")
    assert asked == [None, "00-1-2-01"]


def test_the_line_of_a_change_tells_each_hop():
    assert story.line_of_hops("commit", Hops(1, 2, 4)) == "commit → landed 1 ms → feature 2 ms → recommendations 4 ms: 7 ms"


@pytest.mark.parametrize(("name", "before", "after", "line"), [
    ("recent_item_ids", [346, 12, 9, 8], [50, 346, 12, 9, 8], "served recent_item_ids: 346 12 9 … → 50 346 12 …"),
    ("recent_item_ids", [], [50], "served recent_item_ids: none → 50"),
    ("session_events", 12, 1, "served session_events: 12 → 1"),
    ("preferred_genre", None, "Sci-Fi", "served preferred_genre: nothing → Sci-Fi")])
def test_the_line_of_a_feature_tells_what_was_served_before_and_after(name, before, after, line):
    assert story.line_of_feature(name, {name: before}, {name: after, "session_id": "a"}) == line


def test_the_line_of_a_feature_that_was_not_served_says_so():
    assert story.line_of_feature("session_events", {}, {"session_events": 1}) == "served session_events: nothing → 1"


@pytest.mark.parametrize(("name", "value"), [("recent_item_ids", [1 << 62] * 9), ("preferred_genre", "x" * 200), ("session_events", 1 << 62)])
def test_the_line_of_a_feature_fits_into_80_columns_and_shows_both_values(name, value):
    line = "    " + story.line_of_feature(name, {name: value}, {name: value})
    before, after = line.split(": ")[1].split(" → ")
    assert before == after == story._value(value)
    assert len(line) <= 80


def test_a_view_is_asked_for_and_its_newest_answer_kept():
    answers = iter([{}, {"user_activity": {"session_events": 1}}, {"user_profile": {}}])
    api = follow.Api("http://api.example")
    api._client = httpx.Client(base_url="http://api.example", transport=httpx.MockTransport(lambda r: httpx.Response(200, json={"features": next(answers)})))
    served = follow.Served(api, 7, "user_activity")
    for wanted in ({}, {"session_events": 1}, {}):
        assert served.ask() == served.values == wanted


def test_lines_show_rate_eta_lag_and_freshness():
    assert story.line_of_progress(Progress(5000, 300000, 50000.0, 5.9)) == "events produced 5,000 of about 300,000 · 50,000/s · 6 s to go"
    assert story.line_of_counts(COUNTS) == "lag 0 · newest landed 1.5 s old · landed 7 · users 2/2"

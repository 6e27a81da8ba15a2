import time

import pytest

from weir.demo import follow, loading, story
from weir.demo.result import Counts, DemoResult, Hops, others_changed
from weir.errors import Terminal
from weir.simulation import journal
from weir.simulation.produce import Progress

COUNTS = Counts({"users": 2}, {"users": 2}, 10, 7, 3, 1500)


def test_the_document_has_exactly_the_keys_that_the_issue_names():
    document = DemoResult(1, 2, [2, 3], [4, 3], 1.0, 2.0, COUNTS, Hops(1, 2), 9.0).document()
    assert set(document) == {
        "recommendations_before", "recommendations_after", "event_to_feature_ms", "cdc_to_feature_ms", "events_in", "events_in_clickhouse",
        "events_quarantined", "source_rows", "sink_rows", "seconds_to_ready",
    }
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


def test_a_complete_load_is_not_produced_again(tmp_path):
    journal.Journal(1, 5, produced=3, complete=True).save(loading.journal_path(tmp_path))
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


def test_lines_show_rate_eta_lag_and_freshness():
    assert story.line_of_progress(Progress(5000, 300000, 50000.0, 5.9)) == "events produced 5,000 of about 300,000 · 50,000/s · 6 s to go"
    assert story.line_of_counts(COUNTS) == "lag 0 · newest landed 1.5 s old · landed 7 · users 2/2"

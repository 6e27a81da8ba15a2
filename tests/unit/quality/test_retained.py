"""An alarm rises while records that are not landed can still be landed, and says how long; what could not be asked is unknown."""
import pytest

from weir.cli import watching
from weir.ingest import health
from weir.quality import retained
from weir.quality.ask import Offsets
from weir.quality.judge import Verdict
from weir.stack.watch import degraded
from weir.topics import retention
from weir.topics.retention import HOUR_MS, Alarm, Kept, Position, judge, kept, worst

WEEK, NOW = Kept(ms=168 * HOUR_MS), 1000 * HOUR_MS
BEHIND, EVEN, GONE, NEW = Position(0, 10, 4), Position(0, 10, 10), Position(6, 10, 4), Position(3, 10, None)


def test_a_topics_settings_are_read_as_the_broker_says_them():
    week = 604800000
    assert kept({"retention.ms": str(week), "segment.ms": "5", "retention.bytes": "-1", "cleanup.policy": "delete"}) == Kept(week, None, week + 5)
    assert kept({"retention.ms": "-1", "retention.bytes": "5", "cleanup.policy": "compact,delete"}) == Kept(None, 5)
    assert kept({"retention.ms": "5", "retention.bytes": "5", "cleanup.policy": "compact"}) == Kept()


@pytest.mark.parametrize(("at", "age_h", "left_h"), [
    (BEHIND, 83.0, None), (BEHIND, 84.0, 84.0), (BEHIND, 167.5, 0.5), (BEHIND, 500.0, 0.0), (NEW, 100.0, 68.0), (EVEN, 500.0, None), (Position(0, 0, None), 500.0, None),
])
def test_the_alarm_rises_at_half_of_the_retention_and_says_what_is_left(at, age_h, left_h):
    alarm = judge(("t", 1), at, WEEK, NOW, int(NOW - age_h * HOUR_MS), 0)
    assert (alarm and alarm.left_h) == left_h
    if alarm:
        assert alarm.text.startswith(f"{left_h:.1f} h left before records of t/1 that are not landed are deleted")
        assert not alarm.lost


def test_records_that_were_deleted_before_they_were_landed_are_named():
    alarm = judge(("t", 1), GONE, Kept(), NOW, None, 0)
    assert (alarm.lost, "offsets 4 to 5, were deleted before they were landed" in alarm.text) == (True, True)


@pytest.mark.parametrize(("size", "alarmed"), [(49, False), (50, True), (500, True)])
def test_where_size_bounds_a_topic_it_is_how_much_is_not_landed(size, alarmed):
    assert bool(judge(("t", 1), BEHIND, Kept(size_bytes=100), NOW, NOW, size)) is alarmed


def test_what_is_kept_without_end_or_only_compacted_raises_none():
    assert judge(("t", 1), BEHIND, Kept(), NOW, 0, 1 << 50) is None


def test_markers_alone_are_no_records():
    assert judge(("t", 1), BEHIND, WEEK, NOW, None, 0) is None


def test_of_each_topic_the_most_urgent_is_told():
    made = [Alarm("t", 0, "a", left_h=9.0), Alarm("t", 1, "b", left_h=2.0), Alarm("u", 0, "c"), Alarm("u", 1, "d", left_h=80.0), Alarm("v", 1, "e", left_h=1.0), Alarm("v", 2, "f", lost=True, left_h=0.0)]
    assert {a.text for a in worst(made)} == {"b", "d", "f"}


class Broker:
    """What is asked of Kafka, answered by hand: `first`: offset of the first record that is not old."""

    def __init__(self, monkeypatch, keeps, first, sampled=(NOW - 100 * HOUR_MS, 0)):
        self.since, self.read = {}, []
        monkeypatch.setattr(retention, "quiet_admin", lambda _bootstrap: None)
        monkeypatch.setattr(retention, "topics_keep", lambda _admin, topics: dict.fromkeys(topics, keeps))
        monkeypatch.setattr(retention, "_first_since", lambda _admin, since: self.since.update(since) or dict.fromkeys(since, first))
        monkeypatch.setattr(retention, "_sampled", lambda _bootstrap, partition, _at: self.read.append(partition) or sampled)


@pytest.mark.parametrize(("first", "old"), [(4, False), (3, False), (5, True), (-1, True)])
def test_records_are_read_only_where_something_is_old(monkeypatch, first, old):
    broker = Broker(monkeypatch, WEEK, first)
    found = retention.alarms("x", {("t", 0): BEHIND, ("t", 1): EVEN, ("t", 2): GONE}, NOW)
    assert broker.since[("t", 0)] == NOW - 84 * HOUR_MS
    assert broker.read == [("t", 0)] * old
    assert [(a.partition, a.left_h) for a in found] == [(2, 0.0)] + [(0, 68.0)] * old


def test_a_lane_that_is_even_costs_no_question(monkeypatch):
    monkeypatch.setattr(retention, "quiet_admin", lambda _bootstrap: pytest.fail("it was asked"))
    assert retention.alarms("x", {("t", 1): EVEN}, NOW) == []


def test_a_broker_that_does_not_answer_is_unknown_and_a_lost_record_a_no():
    assert retention.alarms("127.0.0.1:9", {("t", 0): BEHIND}, NOW) is None
    assert retained.ask("x", None) is None
    assert [c.verdict for c in retained.judge_retention(None)] == [Verdict.UNKNOWN]
    assert retained.judge_retention([]) == []
    checks = retained.judge_retention([Alarm("t", 0, "2.0 h left before", left_h=2.0), Alarm("u", 0, "gone", lost=True)])
    assert {c.reason: c.verdict for c in checks} == {"2.0 h left before": Verdict.UNKNOWN, "gone": Verdict.NO}
    assert watching.check_lines(checks[:1]) in ([" retention: 2.0 h left before"], [" retention: gone"])


def test_offsets_are_taken_as_they_are_asked(monkeypatch):
    Broker(monkeypatch, WEEK, -1)
    assert [a.left_h for a in retained.ask("x", {("t", 0): Offsets(0, 10, 4)})] == [0.0]


def test_health_and_status_tell_it_though_every_lane_is_well():
    status, told = health.answer([], "/health", 0.0, ("retention: 2.0 h left",))
    assert (status, told["ok"], told["trouble"]) == (200, True, ["retention: 2.0 h left"])
    assert degraded("ingest", "ready", told["trouble"])[1].startswith("retention: 2.0 h left")

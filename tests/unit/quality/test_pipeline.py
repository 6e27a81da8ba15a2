"""A failed task, a lost slot and a standing difference are seen; what was not asked is unknown."""
from dataclasses import replace

import pytest

from weir.contracts import wayback
from weir.quality import pipeline
from weir.quality.judge import Verdict, judge
from weir.quality.pipeline import (
    OLD_MS,
    RESYNC,
    Connector,
    Pipeline,
    Slot,
    Verified,
    aged,
    ask_way_back,
    checks,
    judge_connector,
    judge_slot,
    judge_verified,
    judge_way_back,
    verified_lines,
)
from weir.quality.recovery import Proof

SLOT = Slot("reserved", active=True, retained_bytes=100, left_bytes=1000)
RUNS = Connector("RUNNING", "RUNNING")
USERS = Verified("table", "users", "yes", "", 5, (1 << 32) | 0x2F, 4)


def test_a_failed_task_is_a_no_although_its_connector_runs():
    found = judge_connector(Connector("RUNNING", "FAILED", "slot is gone"))
    assert (found.verdict, "slot is gone" in found.reason) == (Verdict.NO, True)
    assert judge_connector(RUNS).verdict is Verdict.YES


@pytest.mark.parametrize(("status", "verdict"), [("reserved", "yes"), ("extended", "yes"), ("unreserved", "unknown"), ("lost", "no"), ("missing", "no")])
def test_a_slot_that_lost_what_is_owed_names_the_way_back(status, verdict):
    found = judge_slot(replace(SLOT, wal_status=status))
    assert (found.verdict, "./weir connector recover" in found.reason) == (verdict, verdict == "no")


@pytest.mark.parametrize("connector", [Connector("RUNNING", "NONE"), Connector("PAUSED", "PAUSED"), Connector("UNREGISTERED", "NONE")])
def test_a_connector_that_does_nothing_is_not_a_yes(connector):
    assert judge_connector(connector).verdict is Verdict.UNKNOWN


def test_what_could_not_be_asked_is_unknown():
    assert [c.verdict for c in checks(Pipeline())] == [Verdict.UNKNOWN] * 4


def test_a_task_that_fails_for_a_gap_names_the_way_back_and_one_that_fails_otherwise_does_not():
    gap = "Cannot read at LSN{0/1}, but this is no longer available on the server. Reconfigure the connector"
    assert [wayback.COMMAND in judge_connector(Connector("RUNNING", "FAILED", trace)).reason for trace in (gap, "heap is full")] == [True, False]


def test_a_way_back_that_was_stopped_is_no_yes_until_its_end(tmp_path):
    assert judge_way_back(ask_way_back(tmp_path)) == []
    mark = wayback.WayBack("there is none", 5, 9, 1, reading=True, tables=("users",))
    wayback.path(tmp_path).parent.mkdir()
    for text in (wayback.document(mark), "{"):
        wayback.path(tmp_path).write_text(text)
        (check,) = judge_way_back(ask_way_back(tmp_path))
        assert check.verdict is Verdict.UNKNOWN
        assert wayback.COMMAND in check.reason
    assert check in checks(Pipeline(way_back=ask_way_back(tmp_path)))
    assert wayback.parse(wayback.document(mark)) == mark


def test_the_last_cycle_counts_and_none_yet_is_no_check():
    standing = replace(USERS, outcome="no", reason="2 keys differ")
    assert [c.verdict for c in judge_verified([USERS, standing, replace(USERS, outcome="unknown")])] == [Verdict.YES, Verdict.NO, Verdict.UNKNOWN]
    assert judge_verified([]) == []
    assert (USERS.lsn, replace(USERS, through_lsn=None).lsn) == ("1/2F", "never")


def test_an_answer_that_nobody_looked_after_is_unknown_and_status_says_through_which_lsn():
    assert aged(USERS, 5 + OLD_MS) == USERS
    assert aged(USERS, 6 + OLD_MS).outcome == "unknown"
    assert verified_lines([USERS], 0.0125, 9004) == ["verified users: yes, through 1/2F, 9 s ago", "verifying takes 1.2% of one core over 10 minutes"]
    assert verified_lines([replace(USERS, outcome="no", reason="2 keys differ", through_lsn=None, through_ms=None)], None, 1) == [
        "verified users: no, through never: 2 keys differ", "verifying takes not known"]
    assert verified_lines(None, None, 1) == ["verified: unknown, ClickHouse could not be asked"]


def test_they_decide_the_verdict_like_any_check():
    def report(**parts):
        made = Pipeline(**{"slot": SLOT, "connector": RUNS, "verified": (USERS,), "recovery": ()} | parts)
        return judge((), (), (), {}, cdc_topics={}, now_ms=1, more=checks(made))

    assert [r for r in report().reasons if "topics" not in r] == []
    assert report(slot=replace(SLOT, wal_status="lost")).verdict is Verdict.NO
    failed = Proof("kill-kafka-broker", Verdict.NO, 1, failed_at_ms=1, failed_reason="staging lost 2", judged=Verdict.NO)
    assert report(recovery=(failed,)).verdict is Verdict.NO
    assert "recovery of kill-kafka-broker: staging lost 2" in report(recovery=(failed,)).reasons
    assert f"replication slot weir: lost: {RESYNC}" in report(slot=replace(SLOT, wal_status="lost")).reasons


def test_the_worst_task_is_told(monkeypatch):
    document = {"connector": {"state": "RUNNING"}, "tasks": [{"state": "RUNNING"}, {"state": "FAILED", "trace": "gone\n\tat x"}]}

    class Answer:
        status_code = 200

        def raise_for_status(self):
            return self

        def json(self):
            return document

    monkeypatch.setattr(pipeline.httpx, "get", lambda *_, **__: Answer())
    assert pipeline.ask_connector("http://x") == Connector("RUNNING", "FAILED", "gone")
    document["tasks"][1]["trace"] = "The offset " + "x" * 2000 + " is no longer available"
    shown = pipeline.ask_connector("http://x").trace
    assert (shown.startswith("The offset"), shown.endswith("no longer available"), len(shown) < 300) == (True, True, True)


def test_an_api_that_serves_nothing_is_a_fault_only_once_a_model_was_promoted():
    empty = pipeline.Api(ready=False, items=0, model_version="")
    assert pipeline.judge_api(empty, promoted=False).verdict == "unknown"
    assert pipeline.judge_api(empty, promoted=True).verdict == "no"
    assert pipeline.judge_api(pipeline.Api(ready=True, items=3, model_version=""), promoted=True).verdict == "yes"
    assert pipeline.judge_api(None, promoted=True).verdict == "unknown"

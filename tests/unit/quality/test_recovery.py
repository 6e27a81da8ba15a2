"""When recovery was last proven is read from the evidence that experiments leave; never is said, and what is no yes proves nothing."""
import json

import pytest

from weir.quality import recovery, terminal
from weir.quality.judge import Verdict
from weir.quality.recovery import Proof, judge_recovery, proof, proofs, proven_at_ms


@pytest.fixture
def leave(tmp_path):
    def write(experiment, at_s, verdict, **more):
        (tmp_path / "evidence").mkdir(exist_ok=True)
        document = {"experiment": experiment, "verdict": verdict, "began_at_ms": at_s * 1000 + 5, "reason": "", "commit": f"c{at_s}"} | more
        (tmp_path / "evidence" / f"{experiment}-{at_s}.json").write_text(json.dumps(document))

    return write


def test_the_newest_run_counts_and_the_newest_yes_is_when_it_was_proven(tmp_path, leave):
    leave("kill", 9, "yes")
    leave("kill", 10, "yes")
    leave("kill", 100, "no", reason="2 lost")
    leave("kill-more", 500, "yes")
    assert proof(tmp_path, "kill") == Proof("kill", Verdict.NO, 100_005, "2 lost", "c100", 10_005, "c10", 100_005, "2 lost", Verdict.NO, "2 lost")


def test_every_experiment_that_there_is_is_shown_and_one_never_run_is_never(tmp_path):
    found = proofs(tmp_path)
    assert [p.experiment for p in found] == ["kill-ingest-worker", "kill-kafka-broker", "pause-clickhouse"]
    assert {(p.verdict, p.at_ms, p.proven_at_ms) for p in found} == {(None, None, None)}
    assert judge_recovery(found) == []
    assert terminal.recovery_lines(found, 1)[0] == "recovery kill-ingest-worker: proven never"
    assert recovery.document(found, 1)[0]["age_s"] is None


def test_evidence_that_cannot_be_read_is_an_unknown_run_and_no_proof(tmp_path, leave):
    leave("kill", 10, "yes")
    leave("kill", 20, "certainly")
    (tmp_path / "evidence" / "kill-30.json").write_text("{")
    found = proof(tmp_path, "kill")
    assert (found.verdict, found.at_ms, found.proven_at_ms) == (Verdict.UNKNOWN, 30_000, 10_005)
    assert "kill-30.json cannot be read" in found.reason


def test_the_newest_run_decides_the_check(tmp_path):
    runs = [Proof("a", judged=Verdict.YES), Proof("b", judged=Verdict.NO, failed_at_ms=1, failed_reason="lost"), Proof("c", judged=Verdict.UNKNOWN), Proof("d")]
    assert [(c.name, c.verdict) for c in judge_recovery(runs)] == [
        ("recovery of a", Verdict.YES), ("recovery of b", Verdict.NO), ("recovery of c", Verdict.UNKNOWN)]
    assert [c.verdict for c in judge_recovery(None)] == [Verdict.UNKNOWN]


@pytest.mark.parametrize("before", [[], ["yes"], ["no"], ["unknown"], ["yes", "no"]])
def test_a_run_that_broke_nothing_counts_for_nothing_and_is_shown_with_its_reason(tmp_path, leave, before):
    for at_s, verdict in enumerate(before, 1):
        leave("kill", at_s, verdict, reason=f"it was {verdict}", broken=1)
    judged = judge_recovery([proof(tmp_path, "kill")])
    leave("kill", 20, "unknown", reason="not ready", broken=0)
    leave("kill", 30, "unknown", reason="still not ready", broken=0)
    found = proof(tmp_path, "kill")
    assert judge_recovery([found]) == judged
    assert [c.verdict for c in judged] == before[-1:]
    assert "its newest run, 10 s ago, says unknown: still not ready" in terminal.recovery_lines([found], 40_005)[0]


def test_a_run_that_showed_nothing_takes_no_no_back_and_a_later_yes_does(tmp_path, leave):
    leave("kill", 10, "no", reason="2 lost")
    leave("kill", 20, "unknown", reason="not ready")
    found = proof(tmp_path, "kill")
    assert [(c.verdict, c.reason) for c in judge_recovery([found])] == [(Verdict.NO, "2 lost")]
    assert "failed 20 s ago: 2 lost; its newest run, 10 s ago, says unknown: not ready" in terminal.recovery_lines([found], 30_005)[0]
    leave("kill", 30, "yes")
    assert judge_recovery([proof(tmp_path, "kill")])[0].verdict is Verdict.YES


def test_the_whole_is_proven_since_the_oldest_yes_and_not_while_one_has_none():
    yes = [Proof("a", proven_at_ms=5), Proof("b", proven_at_ms=3)]
    assert [proven_at_ms(p) for p in (yes, [*yes, Proof("c")], (), None)] == [3, None, None, None]


def test_it_is_told_with_its_age_and_a_newer_run_that_was_no_yes_is_not_hidden():
    p = Proof("kill", Verdict.UNKNOWN, 170_000, "no load", "", 50_000)
    assert terminal.recovery_lines([p], 180_000) == ["recovery kill: proven 2 min ago; its newest run, 10 s ago, says unknown: no load"]
    assert {k: recovery.document([p], 180_000)[0][k] for k in ("verdict", "age_s", "proven_age_s")} == {"verdict": "unknown", "age_s": 10.0, "proven_age_s": 130.0}


def test_old_evidence_goes_and_the_proof_stays_the_same(tmp_path, leave):
    leave("kill", 1, "no")
    leave("kill", 2, "yes")  # the last yes
    leave("kill", 3, "no", reason="2 lost")  # the last no, after it
    leave("kill", 4, "unknown", broken=1)
    leave("kill-more", 1, "yes")
    for at_s in range(10, 40):
        leave("kill", at_s, "unknown", broken=0)
    before = proof(tmp_path, "kill")
    gone = recovery.prune(tmp_path, "kill", kept=10)
    left = {p.name for p in (tmp_path / "evidence").iterdir()}
    assert left == {f"kill-{n}.json" for n in (2, 3, 4, *range(30, 40))} | {"kill-more-1.json"}
    assert len(gone) == 21
    assert proof(tmp_path, "kill") == before
    assert recovery.prune(tmp_path, "kill", kept=10) == []

"""The experiments' oracle catches what is planted, and never takes unknown for a pass."""
import json
from pathlib import Path

import pytest

from weir.chaos.load import Journal, event
from weir.chaos.oracle import Verdict, compare
from weir.training import source

ROOT = Path(__file__).resolve().parents[3]


def _journal(*acknowledged, unknown=()):
    return Journal("r", set(acknowledged), set(unknown))


def test_every_acknowledged_event_found_once_is_a_yes():
    assert compare("t", _journal("a", "b"), {"a": 1, "b": 1}).verdict is Verdict.YES


def test_a_planted_loss_a_planted_duplicate_and_a_foreign_row_are_a_no():
    assert compare("t", _journal("a", "b"), {"a": 1}).lost == ("b",)
    assert compare("t", _journal("a", "b"), {"a": 1}).verdict is Verdict.NO
    assert compare("t", _journal("a"), {"a": 2}).doubled == ("a",)
    assert compare("t", _journal("a"), {"a": 2}).verdict is Verdict.NO
    assert compare("t", _journal("a"), {"a": 1, "z": 1}).verdict is Verdict.NO


def test_an_event_without_an_answer_may_be_there_or_not_but_never_twice():
    journal = _journal("a", unknown=["u"])
    assert compare("t", journal, {"a": 1}).verdict is Verdict.YES
    assert compare("t", journal, {"a": 1, "u": 1}).verdict is Verdict.YES
    assert compare("t", journal, {"a": 1, "u": 2}).verdict is Verdict.NO


def test_nothing_produced_is_unknown_not_a_pass():
    assert compare("t", _journal(), {}).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("path", sorted((ROOT / "chaos").glob("*.json")), ids=lambda p: p.stem)
def test_each_experiment_is_valid_and_counts_against_the_journal(path):
    from chaoslib.experiment import ensure_experiment_is_valid

    experiment = json.loads(path.read_text())
    ensure_experiment_is_valid(experiment)
    functions = [p["provider"]["func"] for p in experiment["steady-state-hypothesis"]["probes"]]
    assert "journal_matches_tables" in functions


def test_no_event_of_a_run_is_of_a_user_or_an_item_that_a_shop_could_have():
    bodies = [json.loads(event("run", number, 1)[1]) for number in range(3000)]
    assert {b["country"] for b in bodies} == {"ZZ"}
    assert min(min(b["user_id"], b["item_id"]) for b in bodies) >= 9_000_000_000_000
    assert max(max(b["user_id"], b["item_id"]) for b in bodies) < 1 << 53
    assert len({b["user_id"] for b in bodies}) == 900


def test_training_leaves_made_up_users_out():
    for sql in (source.events_sql(), source.MATRIX_SQL):
        assert "where user_id < 9000000000000 order by" in sql


def test_events_of_a_run_are_valid_user_events_and_carry_its_id():
    event_id, body = event("run", 7, 1)
    assert json.loads(body)["event_id"] == event_id == "run-00000007"

"""The real worker, with the user events' own decoder, through faults at written places; every table is held to what was produced."""
import json

import pytest

from weir.ingest.batch import DAY_MS
from weir.ingest.decode import user_events
from weir.ingest.record import Record
from weir.ingest.simulation.mutants import MUTANTS, applied, caught
from weir.ingest.simulation.run import BAD, TOPIC, scripted, silence, simulate

silence()
AT_MS = 20_000 * DAY_MS
POINTS = ("before_declare", "after_declare", "after_insert", "after_finish", "before_replay", "after_replay")
STEPS = ("commit", "committed", "insert", "inserted", "read", "count", "offsets", "fetch", "stay")
SEEDS = 500  # tests/oracle/test_simulation.py runs 10,000


def event(number):
    return json.dumps({"schema_version": 1, "event_id": f"e{number}", "user_id": 1, "item_id": 2, "event_type": "click", "session_id": "s",
                       "country": "DE", "occurred_at": AT_MS}).encode()


def produced(partitions=3, each=12):
    return {(TOPIC, p): [Record(TOPIC, p, 2 * n, AT_MS - (n < 5), None, BAD if n % 5 == 2 else event(n), "") for n in range(each)] for p in range(partitions)}


def run(written, **more):
    return scripted(written, produced(), decoder=user_events, **more)


def test_without_faults_every_record_is_once_in_each_table():
    outcome, made = run({})
    assert outcome.faults == ()
    assert [sum(t.rows.values()) for t in made.engine.targets] == [36, 36, 6, 30]


@pytest.mark.parametrize("fault", ["kill", "pause", "long pause"])
@pytest.mark.parametrize("which", [1, 2, 3])
@pytest.mark.parametrize("point", POINTS + STEPS)
def test_a_worker_ended_or_silent_at_any_point_loses_and_doubles_nothing(point, which, fault):
    before = {"after_declare": {1: "kill", 2: "kill", 3: "kill"}} if point in {"before_replay", "after_replay", "read", "count"} else {}
    refusals = {"insert answer": dict.fromkeys(range(1, 5), "refused")} if point == "stay" else {}
    outcome, _ = run({**before, **refusals, point: {which: fault}})
    assert outcome.passed[f"{fault} in {point}"] == 1, "the fault was not reached"
    assert outcome.faults == ()


@pytest.mark.parametrize("which", range(1, 6))
@pytest.mark.parametrize(("step", "fault"), [
    ("commit answer", "lost"), ("commit answer", "unanswered"), ("commit answer", "late"), ("insert answer", "refused"), ("insert answer", "answer lost"),
    ("insert answer", "late"), ("insert answer", "repeated"), ("insert answer", "view throws"), ("insert answer", "view refuses"), ("insert answer", "slow"), ("insert answer", "outage"),
])
def test_an_answer_lost_late_or_repeated_loses_and_doubles_nothing(step, fault, which):
    outcome, _ = run({step: {which: fault}})
    assert outcome.passed[f"{fault} in {step}"] == 1
    assert outcome.faults == ()


@pytest.mark.parametrize("tenth", range(0, 120, 3))
def test_a_rebalance_at_any_moment_of_a_repeated_insert_loses_and_doubles_nothing(tenth):
    outcome, _ = run({"insert answer": {1: "outage", 2: "view throws", 4: "answer lost"}}, second_after_s=tenth / 10)
    assert outcome.faults == ()


def test_seeds_lose_and_double_nothing():
    for seed in range(SEEDS):
        assert simulate(seed).faults == (), f"./weir simulate --seeds 1 --seed {seed} replays it"


def test_a_seed_does_again_what_it_did():
    assert simulate(12) == simulate(12)
    assert simulate(12).passed != simulate(13).passed


@pytest.mark.parametrize("name", sorted(set(MUTANTS) - {"rebalance_unseen"}))  # that one has a test of its own, in test_lane.py
def test_without_the_rule_some_seed_fails(name):
    assert caught(name, range(600)) is not None


def test_a_mutant_is_put_back():
    for name in MUTANTS:
        with applied(MUTANTS[name]):
            pass
    assert simulate(12).faults == ()

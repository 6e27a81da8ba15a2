"""Many seeds of the real ingest worker in virtual time: under a minute on one core, and each failing seed can be run again."""
from collections import Counter

from weir.ingest.simulation.clickhouse import FAULTS
from weir.ingest.simulation.run import silence, simulate

SEEDS = 10_000
POINTS = ("before_declare", "after_declare", "after_insert", "after_finish", "before_replay", "after_replay", "commit", "committed", "insert", "inserted", "stay")


def test_ten_thousand_seeds_lose_and_double_nothing_and_reach_every_point():
    silence()
    passed = Counter()
    for seed in range(SEEDS):
        outcome = simulate(seed)
        assert outcome.faults == (), f"./weir simulate --seeds 1 --seed {seed} replays it"
        passed.update(outcome.passed)
    thin = [p for p in POINTS if passed[f"kill at {p}"] < 20]
    thin += [f for f in FAULTS if passed[f"{f} in insert answer"] < 20] + [f for f in ("lost", "unanswered", "late") if passed[f"{f} in commit answer"] < 20]
    assert thin == [], "a fault that was hardly ever met proves nothing"

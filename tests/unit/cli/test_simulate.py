"""Seeds shared among processes are the same seeds, and one that breaks the claim is told with how to run it again."""
from collections import Counter

import pytest

from weir.cli import simulate as command
from weir.errors import ContractViolation
from weir.ingest.simulation import run
from weir.ingest.simulation.run import Outcome


def test_shared_among_processes_the_seeds_meet_what_they_meet_alone():
    told, seeds = [], range(900_000, 900_000 + command.AT_ONCE + 20)
    run.silence()
    assert command._shared(seeds, 2, told.append) == command._alone(seeds, lambda _: None)
    assert max(told) == len(seeds)


def test_a_process_ends_at_the_seed_that_broke_the_claim_and_it_is_told_with_how_to_run_it_again(monkeypatch, capsys):
    ran = []
    monkeypatch.setattr(run, "simulate", lambda seed: ran.append(seed) or Outcome(seed, ("t: missing",) if seed == 12 else (), Counter(step=1)))
    outcome, met, count = command._some(range(10, 20))
    assert (ran, outcome.seed, met, count) == ([10, 11, 12], 12, Counter(step=3), 3)
    with pytest.raises(ContractViolation, match="seed 12 broke the claim") as told:
        command._judge(outcome)
    assert told.value.hint == "./weir simulate --seeds 1 --seed 12 replays it"
    assert "t: missing" in capsys.readouterr().err


def test_every_seed_is_in_one_share():
    assert [n for some in command._cut(range(7, 7 + 2 * command.AT_ONCE + 3)) for n in some] == list(range(7, 7 + 2 * command.AT_ONCE + 3))

"""`./weir simulate`: the real ingest worker under simulated faults, seed by seed, in as many processes as there are cores."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Annotated, Any

import typer
from rich.console import Console

from weir.cli import outcome as told
from weir.errors import ContractViolation
from weir.stack import usual
from weir.stack.examine import machine

AT_ONCE = 100  # seeds that a process is given together: a second or two
err = Console(stderr=True, highlight=False)


def simulate(
    *,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds to run.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="The first seed; with --seeds 1 it replays that one.")] = 0,
    mutant: Annotated[str, typer.Option(help="Run with this rule of the protocol taken away; 'list' names them. Then exit 0 means caught.")] = "",
    processes: Annotated[int, typer.Option(min=0, help="How many processes share the seeds; 0: one a core.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, once all seeds held: their number, the time, and how often each point and fault was met.")] = False,
) -> None:
    """Drive the real ingest worker through faults in virtual time, and hold every table to the producer's journal."""
    from weir.ingest.simulation import mutants, run

    run.silence()
    if mutant == "list":
        for name, each in mutants.MUTANTS.items():
            err.print(f"{name:<26} {each.rule}", markup=False)
        return
    if mutant and mutant not in mutants.MUTANTS:
        raise typer.BadParameter(f"no mutant {mutant!r}; --mutant list names them")
    began = time.monotonic()
    tell = told.teller(lambda done: f"{done:,} of {seeds:,} seeds, {usual.counted(done, seeds, time.monotonic() - began) or 'none ended yet'}")
    if mutant:
        outcome = mutants.caught(mutant, range(seed, seed + seeds), lambda number: tell(number - seed))
        if outcome is None:
            raise ContractViolation(f"the mutant {mutant} lived through {seeds} seeds", hint="run more seeds, or the simulation does not reach its rule", mutant=mutant)
        err.print(f"caught by seed {outcome.seed}: {outcome.faults[0]}", markup=False, soft_wrap=True)
        return
    wanted = range(seed, seed + seeds)
    at_once = min(processes or os.cpu_count() or 1, -(-seeds // AT_ONCE))
    passed = _shared(wanted, at_once, tell) if at_once > 1 else _alone(wanted, tell)
    spent = time.monotonic() - began
    if as_json:
        sys.stdout.write(json.dumps({"simulation": "ingest", "first": seed, "seeds": seeds, "seconds": round(spent, 1), "seeds_per_s": round(seeds / spent, 1), "processes": at_once,
                                     "machine": machine(), "passed": dict(sorted(passed.items()))}, indent=1) + "\n")
    err.print(f"{seeds} seeds from {seed}: every record once in every table; {spent:.1f} s, {seeds / spent:.0f} seeds/s", markup=False)


def _alone(seeds: range, tell: Callable[[int], None]) -> Counter[str]:
    from weir.ingest.simulation import run

    passed: Counter[str] = Counter()
    for number in seeds:
        outcome = run.simulate(number)
        _judge(outcome)
        passed.update(outcome.passed)
        tell(number + 1 - seeds.start)
    return passed


def _shared(seeds: range, processes: int, tell: Callable[[int], None]) -> Counter[str]:
    """Run the seeds in processes that are given some at a time; a seed has the same outcome in each."""
    passed: Counter[str] = Counter()
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:  # Ctrl-C is this process's to tell
        try:
            done = 0
            for ended in as_completed([pool.submit(_some, some) for some in _cut(seeds)]):
                outcome, met, count = ended.result()
                _judge(outcome)
                passed.update(met)
                done += count
                tell(done)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return passed


def _cut(seeds: range) -> Iterator[range]:
    return (seeds[at : at + AT_ONCE] for at in range(0, len(seeds), AT_ONCE))


def _some(seeds: range) -> tuple[Any, Counter[str], int]:
    """Return the last outcome, or the first that broke the claim; what was met, and of how many seeds."""
    from weir.ingest.simulation import run

    run.silence()
    met: Counter[str] = Counter()
    for number in seeds:
        outcome = run.simulate(number)
        met.update(outcome.passed)
        if outcome.faults:
            break
    return outcome, met, number + 1 - seeds.start


def _judge(outcome: Any) -> None:
    if outcome.faults:
        for fault in outcome.faults:
            err.print(f"  {fault}", markup=False, soft_wrap=True)
        raise ContractViolation(f"seed {outcome.seed} broke the claim", hint=f"./weir simulate --seeds 1 --seed {outcome.seed} replays it", seed=outcome.seed)

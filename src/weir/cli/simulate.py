"""`./weir simulate`: the real ingest worker under simulated faults, seed by seed."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer
from rich.console import Console

from weir.errors import ContractViolation

REPORT_S = 2.0
err = Console(stderr=True, highlight=False)


def simulate(
    *,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds to run.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="The first seed; with --seeds 1 it replays that one.")] = 0,
    mutant: Annotated[str, typer.Option(help="Run with this rule of the protocol taken away; 'list' names them. Then exit 0 means caught.")] = "",
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
    told = _progress(seed, seeds)
    if mutant:
        outcome = mutants.caught(mutant, range(seed, seed + seeds), told)
        if outcome is None:
            raise ContractViolation(f"the mutant {mutant} lived through {seeds} seeds", hint="run more seeds, or the simulation does not reach its rule", mutant=mutant)
        err.print(f"caught by seed {outcome.seed}: {outcome.faults[0]}", markup=False, soft_wrap=True)
        return
    began = time.monotonic()
    for number in range(seed, seed + seeds):
        told(number)
        _judge(run.simulate(number))
    spent = time.monotonic() - began
    err.print(f"{seeds} seeds from {seed}: every record once in every table; {spent:.1f} s, {seeds / spent:.0f} seeds/s", markup=False)


def _judge(outcome: Any) -> None:
    if outcome.faults:
        for fault in outcome.faults:
            err.print(f"  {fault}", markup=False, soft_wrap=True)
        raise ContractViolation(f"seed {outcome.seed} broke the claim", hint=f"./weir simulate --seeds 1 --seed {outcome.seed} replays it", seed=outcome.seed)


def _progress(first: int, seeds: int) -> Any:
    began = told = time.monotonic()

    def tell(number: int) -> None:
        nonlocal told
        now, done = time.monotonic(), number - first
        if now - told > REPORT_S and done:
            told, rate = now, done / (now - began)
            err.print(f"  {done} of {seeds} seeds, {rate:.0f}/s, {(seeds - done) / rate:.0f} s to go", markup=False)

    return tell

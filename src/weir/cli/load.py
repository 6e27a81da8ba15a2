"""`./weir load`: produce events of skewed users and items, in sessions, some late, doubled or bad, and journal them for an oracle."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from weir.errors import Unavailable

REPORT_S = 2.0
err = Console(stderr=True, highlight=False)
_shared: Any = None  # in a producing process: (how many records each has produced, whether they shall stop)


def _begin(*shared: Any) -> None:
    global _shared  # noqa: PLW0603 - shared memory reaches a pool's processes by their initializer alone
    _shared = shared


def _part(bootstrap: str, shape: Any, seed: int, number: int, folder: Path) -> Any:
    from weir.simulation import load as generator

    def report(progress: Any) -> None:
        made, ended = _shared
        made[number] = progress.done
        if ended.is_set():
            raise KeyboardInterrupt

    return generator.run(bootstrap, shape, seed, report=report, keep=lambda journal: journal.save(folder / f"journal-{seed}.json"))


def line(done: int, total: int, elapsed_s: float) -> str:
    """Return how many, how fast, how long to go. Pure."""
    from weir.simulation.produce import progress

    now = progress(done, total, elapsed_s)
    return f"  {done:,} of {total:,} events · {now.rate:,.0f}/s · {f'{now.eta_s:.0f} s to go' if done else 'waiting for the first acknowledgement'}"


def _produce(bootstrap: str, shares: list[Any], seed: int, folder: Path) -> list[Any]:
    """Produce each share in a process of its own, and tell how far they are together; return their journals."""
    made: Any = multiprocessing.Array("q", len(shares))
    ended = multiprocessing.Event()
    total, began = sum(s.events for s in shares), time.monotonic()
    with ProcessPoolExecutor(len(shares), initializer=_begin, initargs=(made, ended)) as pool:
        parts = [pool.submit(_part, bootstrap, share, seed + number, number, folder) for number, share in enumerate(shares)]
        waiting = set(parts)
        try:
            while waiting:
                done, waiting = wait(waiting, timeout=REPORT_S, return_when=FIRST_EXCEPTION)
                for part in done:
                    part.result()
                if waiting:
                    err.print(line(sum(made), total, time.monotonic() - began), markup=False, soft_wrap=True)
        finally:
            ended.set()  # where one failed or the command was stopped, the others stop too
    return [part.result() for part in parts]


def load(
    *,
    events: Annotated[int, typer.Option(min=1, help="Records to produce (repeats come on top).")] = 1_000_000,
    rate: Annotated[float, typer.Option(min=0, help="Events a second; 0: as fast as it can.")] = 0.0,
    users: Annotated[int, typer.Option(min=1, help="Users to draw from.")] = 1_000_000,
    items: Annotated[int, typer.Option(min=1, help="Items to draw from.")] = 100_000,
    skew: Annotated[float, typer.Option(min=0, help="Exponent of the power law of users and items; 0: all alike.")] = 0.8,
    sessions: Annotated[float, typer.Option(min=1, help="Mean number of events of a session.")] = 6.0,
    bad: Annotated[float, typer.Option(min=0, max=1, help="Share of records that belong in the quarantine.")] = 0.001,
    late: Annotated[float, typer.Option(min=0, max=1, help="Share of events that are 1 minute to 6 hours late.")] = 0.01,
    dup: Annotated[float, typer.Option(min=0, max=1, help="Share of events that are sent twice.")] = 0.001,
    seed: Annotated[int, typer.Option(min=0, help="Draws the same events again; another seed, other ones.")] = 1,
    processes: Annotated[int, typer.Option(min=1, help="Producers at once, with seeds from --seed on.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on standard output.")] = False,
) -> None:
    """Produce events of skewed users and items, in sessions, some late, doubled or bad, onto topic user-events; the journal of each seed goes to WEIR_HOME/load/, also that of a load that fails or is stopped (`complete` says which).

    Its users and items are numbers from 1 on, as a shop's are: its events count in histories, trending items and the next training, and stay until retention takes them.
    """
    from weir.simulation.load import Shape
    from weir.stack import external, probe, services, settings
    from weir.topics import client

    found = settings.load()
    os.environ.update(services.environment(found))
    shape = Shape(events, rate, users, items, skew, sessions, bad, late, dup)
    shares = [replace(shape, events=events // processes + (n < events % processes), rate=rate / processes) for n in range(processes)]
    if not (external.answers(found, "kafka") if "kafka" in found.external else probe.ready(f"kafka://{found.endpoints.kafka_bootstrap}")):
        raise Unavailable("Kafka does not answer", hint="./weir logs kafka shows why")  # a producer would wait a minute for it
    client.let_go()
    began = time.monotonic()
    journals = _produce(found.endpoints.kafka_bootstrap, shares, seed, found.home / "load")
    seconds = time.monotonic() - began
    records = sum(j.produced + j.bad + j.repeated for j in journals)
    document = {"records": records, "seconds": round(seconds, 2), "records_per_s": round(records / seconds), "journals": [asdict(j) for j in journals]}
    told = (f"{records:,} records in {seconds:.1f} s, {records / seconds:,.0f} a second: {sum(j.bad for j in journals):,} bad, {sum(j.late for j in journals):,} late, "
            f"{sum(j.repeated for j in journals):,} sent twice; journals in {found.home / 'load'}; ./weir verify events holds the tables to the topic\n")
    sys.stdout.write(json.dumps(document, indent=2) + "\n" if as_json else told)

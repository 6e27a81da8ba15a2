"""`./weir load`: produce events of the mission's shape, and journal them for an oracle."""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from typing import Annotated, Any

import typer


def _part(bootstrap: str, shape: Any, seed: int) -> Any:
    from weir.simulation import load as generator

    return generator.run(bootstrap, shape, seed)


def load(
    *,
    events: Annotated[int, typer.Option(help="Records to produce (repeats come on top).")] = 1_000_000,
    rate: Annotated[float, typer.Option(help="Events a second; 0: as fast as it can.")] = 0.0,
    users: Annotated[int, typer.Option(help="Users to draw from.")] = 1_000_000,
    items: Annotated[int, typer.Option(help="Items to draw from.")] = 100_000,
    skew: Annotated[float, typer.Option(help="Exponent of the power law of users and items; 0: all alike.")] = 0.8,
    sessions: Annotated[float, typer.Option(help="Mean number of events of a session.")] = 6.0,
    bad: Annotated[float, typer.Option(help="Share of records that belong in the quarantine.")] = 0.001,
    late: Annotated[float, typer.Option(help="Share of events that are 1 minute to 6 hours late.")] = 0.01,
    dup: Annotated[float, typer.Option(help="Share of events that are sent twice.")] = 0.001,
    seed: Annotated[int, typer.Option(help="Draws the same events again; another seed, other ones.")] = 1,
    processes: Annotated[int, typer.Option(help="Producers at once, with seeds from --seed on.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on standard output.")] = False,
) -> None:
    """Produce events of the mission's shape onto topic user-events; the journal of each seed goes to WEIR_HOME/load/."""
    from weir.simulation.load import Shape
    from weir.stack import services, settings

    found = settings.load()
    os.environ.update(services.environment(found))
    shape = Shape(events, rate, users, items, skew, sessions, bad, late, dup)
    shares = [replace(shape, events=events // processes + (n < events % processes), rate=rate / processes) for n in range(processes)]
    began = time.monotonic()
    if processes == 1:
        journals = [_part(found.endpoints.kafka_bootstrap, shape, seed)]
    else:
        with ProcessPoolExecutor(processes) as pool:
            journals = list(pool.map(_part, [found.endpoints.kafka_bootstrap] * processes, shares, range(seed, seed + processes)))
    seconds = time.monotonic() - began
    for journal in journals:
        journal.save(found.home / "load" / f"journal-{journal.seed}.json")
    records = sum(j.produced + j.bad + j.repeated for j in journals)
    document = {"records": records, "seconds": round(seconds, 2), "records_per_s": round(records / seconds), "journals": [asdict(j) for j in journals]}
    sys.stdout.write(json.dumps(document, indent=2) + "\n" if as_json else f"{records} records in {seconds:.1f} s, {records / seconds:.0f} a second\n")

"""`./weir torture`: kill ingest workers and the gateway many times under load, on a stack of its own, and verify every event afterwards."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Annotated

import typer

from weir.cli import outcome

STATUS = {"yes": 0, "no": 1, "unknown": 2}
err = outcome.err


def torture(
    *,
    kills: Annotated[int, typer.Option(min=1, help="How many kills; about 15 a minute and worker.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="Orders the kills and draws the load.")] = 1,
    workers: Annotated[int, typer.Option(min=1, max=6, help="Workers that are killed at once.")] = 2,
    rate: Annotated[int, typer.Option(min=50, help="Events a second meanwhile.")] = 2000,
    minutes: Annotated[float, typer.Option(min=0, help="Begin no kill after so long; 0: no limit.")] = 0.0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack's folder for a look.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on standard output.")] = False,
) -> None:
    """Kill workers at every named point of their loop and at random, the gateway at random, and have ./weir verify events judge; then plant three faults that must be told.

    On a stack of its own (Kafka, the gateway, workers) in WEIR_HOME/torture, 300 ports up. Exits 0 yes, 1 no, 2 unknown.
    """
    from weir.chaos.torture import run as torturing
    from weir.stack import settings
    from weir.stack.examine import machine

    mine = torturing.own(settings.load())
    os.environ["DBT_SEND_ANONYMOUS_USAGE_STATS"] = "false"
    document: dict[str, object] = {"torture": "ingest", "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "machine": machine()}
    try:
        with outcome.verdict():
            document |= torturing.run(torturing.Wanted(kills, seed, workers, rate, minutes * 60), mine, lambda line: err.print(f"  {line}", markup=False, soft_wrap=True))
    finally:
        if not keep:
            torturing.clear(mine.home)
    if as_json:
        sys.stdout.write(json.dumps(document, indent=1) + "\n")
    err.print(f"{document['verdict']}: {document['hit']} of {document['kills']} kills hit, {document['in_flight']} with a batch in flight, in {document['seconds']} s", markup=False)
    raise typer.Exit(STATUS[str(document["verdict"])])

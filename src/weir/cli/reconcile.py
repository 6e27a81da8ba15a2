"""`./weir reconcile`: is the sink like the source, key by key, and through which LSN was that verified."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from weir.cli import outcome

if TYPE_CHECKING:
    from weir.reconcile.outcome import Outcome

STATUS = {"yes": 0, "no": 1, "unknown": 2}
out = outcome.console()


def reconcile(
    *,
    table: Annotated[str, typer.Option(help="Only this captured table and the feature views on it, such as users.")] = "",
    once: Annotated[bool, typer.Option("--once", help="One whole cycle; without it a cycle every half minute until Ctrl-C.")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Have Debezium read again what differs, dbt build a mart anew that does, and look whether that cured it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document a cycle, on one line, and nothing else on standard output.")] = False,
) -> None:
    """Compare PostgreSQL, ClickHouse and the online store key by key: the running stack does so all the time, slice by slice, and repairs; this does it now, whole.

    Exits 0 yes, 1 no (something differs and was not repaired), 2 unknown.
    """
    from weir.capture import operate, rotate
    from weir.reconcile.cycle import EVERY_S, Reconciler, chosen
    from weir.reconcile.outcome import overall
    from weir.reconcile.table import WAIT_S
    from weir.stack import services, settings

    loaded = settings.load()
    endpoints, environment = loaded.endpoints, services.environment(loaded)
    reconciler = Reconciler(endpoints, lambda mart: rotate.rebuild(environment, mart), outcome.teller(str))
    waits = f"comparing; each table waits for what Debezium and ingest have yet to bring, {WAIT_S:.0f} s at most"
    while True:
        began = time.monotonic()
        with outcome.verdict(), outcome.still(waits):
            tables = chosen(table, operate.added(endpoints))  # anew each cycle: a resync gives a table another copy
            outcomes = reconciler.run(tables, repair=repair)
        answer = str(overall(outcomes))
        if as_json:
            sys.stdout.write(json.dumps(document(outcomes, answer, time.monotonic() - began)) + "\n")
            sys.stdout.flush()
        else:
            cause = outcome.cause_of_silence() if answer == "unknown" else ""
            show(outcomes, cause)
        if once:
            raise typer.Exit(STATUS[answer])
        time.sleep(max(0.0, EVERY_S - (time.monotonic() - began)))


def document(outcomes: list[Outcome], answer: str, seconds: float) -> dict[str, Any]:
    """Return a cycle as JSON values."""
    return {"outcome": answer, "seconds": round(seconds, 3), "checks": [o.document() for o in outcomes]}


def show(outcomes: list[Outcome], cause: str = "") -> None:
    """Print a cycle as a table; reasons below it, shortly when one `cause` is behind them all."""
    made = Table("what", "same", "verified through", "rows", "found", "repaired", "left", "s", box=None)
    for o in outcomes:
        d = o.document()
        through = d["verified_through"]
        colour = {"yes": "green", "no": "red"}.get(d["outcome"], "yellow")
        found = ", ".join(f"{d[k]} {k}" for k in ("missing", "extra", "doubled", "different", "stale") if d[k])
        made.add_row(o.name, f"[{colour}]{d['outcome']}[/]", f"{through['lsn']} {through['at'][11:19]}" if through else "-", str(o.rows_checked),
                     found or "-", str(o.repaired), str(o.left), f"{o.seconds:.1f}")
    out.print(made)
    for o in outcomes:
        if o.reason:
            out.print(f"{o.name}: {o.reason.split(': ')[0] if cause else o.reason}", markup=False, soft_wrap=True)
        if o.unchecked:
            out.print(f"{o.name}: not compared: {'; '.join(o.unchecked)}", markup=False, soft_wrap=True)
    if cause:
        outcome.err.print(f"weir: {cause}", markup=False)

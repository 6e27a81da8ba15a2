"""`./weir connector`: what would change in the connector, and the change."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from weir.cli import outcome

connector_app = typer.Typer(no_args_is_help=True, help="The connector: plan, apply.")
out = outcome.console()
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on standard output.")]


@connector_app.command(epilog="Example: ./weir connector plan && echo as it should be")
def plan(*, as_json: Json = False) -> None:
    """Print what would change in the connector against Connect's live configuration; changes nothing. Exits 1 when anything would."""
    from weir.capture import operate
    from weir.stack import settings

    configured = settings.load()
    made, _ = operate.plan(configured.endpoints, configured.home)
    if as_json:
        sys.stdout.write(json.dumps(asdict(made) | {"changes": made.changes}, indent=2) + "\n")
    else:
        out.print(f"connector {made.connector}: {'registered' if made.registered else 'not registered'}, task {made.task}", markup=False)
        for setting in made.settings:
            out.print(f"  {setting}", markup=False, soft_wrap=True)
        if not made.changes:
            out.print("nothing would change")
    raise typer.Exit(1 if made.changes else 0)


@connector_app.command(epilog="Example: ./weir connector plan; ./weir connector apply")
def apply(*, as_json: Json = False) -> None:
    """Make the live configuration what plan says, after a preflight of the tables, and wait until the task runs with it."""
    from weir.capture import operate
    from weir.connect import connector, preflight
    from weir.connect.register import tables
    from weir.contracts import cdc
    from weir.stack import settings

    configured = settings.load()
    made, target = operate.plan(configured.endpoints, configured.home)
    if made.changes:
        preflight.refuse_unsafe(configured.endpoints.postgres_dsn, [t for t in tables(target) if t != cdc.SIGNAL_TABLE])
        with outcome.usually(configured.home, "connector apply", "waiting until the task runs with it"):
            made = connector.apply(configured.endpoints, target)
    if as_json:
        sys.stdout.write(json.dumps({"changed": [asdict(s) for s in made.settings]}, indent=2) + "\n")
    else:
        for setting in made.settings:
            out.print(f"  {setting}", markup=False, soft_wrap=True)
        out.print(f"{len(made.settings)} settings changed, the task runs" if made.changes else "nothing to change")

"""`./weir connector`: what would change in the connector, and the change; the way back from a lost slot."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from weir.cli import outcome
from weir.errors import Terminal

connector_app = typer.Typer(no_args_is_help=True, help="The connector: plan, apply, recover.")
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


@connector_app.command(epilog="Examples: ./weir connector recover · ./weir connector recover --yes --json")
def recover(*, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False, as_json: Json = False) -> None:
    """Bring back what a slot that is lost, gone or made anew did not send: print the plan, ask, then do it and prove each table key by key.

    Debezium gets a new slot and reads every captured table anew; rows that were deleted at the source meanwhile, which no snapshot tells of, are found by comparing and deleted here too.
    A run that was stopped is gone on with by the next one. Refused while nothing is lost. Exits 1 when a table could not be proven.
    """
    from weir.capture import recover as way
    from weir.capture import rotate
    from weir.stack import services, settings

    configured = settings.load()
    planned = way.look(configured.endpoints, configured.home)
    for line in planned.lines():
        (outcome.err if as_json else out).print(line, markup=False, soft_wrap=True)
    if not yes:
        if not sys.stdin.isatty():
            raise Terminal("nothing was changed: there is nobody to ask", hint="./weir connector recover --yes does it without asking")
        typer.confirm("Do it?", abort=True)
    environment = services.environment(configured)
    run = way.WayBackRun(configured.endpoints, configured.home, lambda mart: rotate.rebuild(environment, mart), lambda text: outcome.err.print(f"  {text}", markup=False, soft_wrap=True))
    with outcome.usually(configured.home, "connector recover", "bringing back what the slot did not send"):
        outcomes = run.run()
    if as_json:
        sys.stdout.write(json.dumps({"plan": planned.document(), "checks": [o.document() for o in outcomes]}, indent=2) + "\n")
        return
    for told in outcomes:
        rest = f"{told.outcome}{f', {told.reason}' if told.reason else ''}: continuous reconciliation goes on with it"
        out.print(f"{told.kind} {told.name}: {'as the source' if told.outcome == 'yes' else rest}", markup=False, soft_wrap=True)
    out.print("the stream flows")

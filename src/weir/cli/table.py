"""`./weir table`: what makes a table unsafe to capture, and the SQL that makes it safe."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

table_app = typer.Typer(no_args_is_help=True, help="Tables of the source: check.")
out = Console(highlight=False)


@table_app.callback()
def _group() -> None:
    """Keep `check` a command of its own, though it is the only one yet."""


@table_app.command(epilog="Examples: ./weir table check · ./weir table check public.orders --json")
def check(
    tables: Annotated[list[str] | None, typer.Argument(metavar="[SCHEMA.TABLE]…", help="Tables, captured or not yet; without any, all captured ones.")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on standard output.")] = False,
) -> None:
    """Say, a line each, what makes tables unsafe to capture and the SQL that makes them safe. Exits 1 when there is anything."""
    from weir.connect import preflight
    from weir.stack import settings

    found = preflight.examine(settings.load().endpoints.postgres_dsn, tables or ())
    if as_json:
        sys.stdout.write(json.dumps({"safe": not found, "findings": [asdict(f) for f in found]}, indent=2) + "\n")
    else:
        for finding in found:
            out.print(str(finding), markup=False, soft_wrap=True)
        if not found:
            out.print("safe to capture")
    raise typer.Exit(1 if found else 0)

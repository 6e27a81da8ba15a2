"""`./weir deploy`: a changed keyed model in the place of the standing one, with no blind time."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from weir.cli import outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from weir.transform.deploy import Deployed
    from weir.transform.progress import At

out, err = outcome.console(), outcome.err


def deploy(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model of dbt that fills a keyed table as rows land, such as int_user_events.")],
    *,
    history: Annotated[str, typer.Option(help="What becomes of rows whose landing rows retention has taken: refuse (the deploy), copy (as they stand), drop.")] = "refuse",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on standard output.")] = False,
) -> None:
    """Deploy a changed keyed model while everything runs: change its file, then this, and never dbt build.

    dbt builds the new table and its view beside under names that begin with shadow__, runs the model's tests and catches it up; each key and row is compared with what the
    query makes of the landing tables; the views that read it are tried on it; then table and view are exchanged while inserts are held for milliseconds. Readers have the
    old table or the new one, never an empty or a mixed one. A failure before the exchange leaves the old one serving and nothing beside; a killed deploy is run again.

    Exits 1 when the model was not deployed.
    """
    from weir.capture.register import turn
    from weir.stack import services, settings, usual
    from weir.transform import deploy as deploying
    from weir.transform import progress
    from weir.transform.session import Session
    from weir.transform.warehouse import Warehouse

    if history not in deploying.HISTORIES:
        raise typer.BadParameter(f"--history is one of {', '.join(deploying.HISTORIES)}")
    found = settings.load()
    environment = {**os.environ, **services.environment(found)}
    warehouse, asked = Warehouse(found.endpoints.clickhouse_url), Warehouse(found.endpoints.clickhouse_url, progress.ANSWER_S)
    try:
        with turn(found.home), Session() as dbt, usual.now_and_then(Following(lambda: progress.running(asked, model), _say).tell, outcome.REPORT_S):  # a resync exchanges tables of dbt's too
            told = deploying.Deploy(warehouse, environment, model, history, _say, dbt.run).run()
    finally:
        warehouse.close()
        asked.close()
    if as_json:
        sys.stdout.write(json.dumps(told.document(), indent=2) + "\n")
    else:
        out.print(line(told), markup=False, soft_wrap=True)


class Following:
    """Tells between the steps how far the query that runs has come; where none does, each STILL_S seconds that the deploy goes on."""

    def __init__(self, look: Callable[[], At | None], say: Callable[[str], None]) -> None:
        self._look, self._say, self._told_s = look, say, 0.0

    def tell(self, seconds: float) -> None:
        """Look. `seconds`: since the deploy began."""
        at = self._look()
        if at is None and seconds - self._told_s < outcome.STILL_S:
            return
        self._told_s = seconds
        self._say(f"  {seconds:.0f} s so far{f': {at}' if at else ''}")


def _say(text: str) -> None:
    err.print(f"  {text}", markup=False, soft_wrap=True)


def line(told: Deployed) -> str:
    """Return what was done in one line. Pure."""
    held = "inserts were not held: this server cannot, and what landed between was caught up" if told.held_ms is None else f"inserts held for {told.held_ms:.0f} ms"
    lone = f"; {told.lone:,} keys that the landing tables no longer have were {told.history}" if told.lone else ""
    return (f"{told.model}: deployed{'' if told.changed else ', unchanged'} in {told.seconds:.0f} s; {told.proof.keys:,} keys verified, {told.proof.rows:,} rows; {held}{lone}; "
            f"read on by {', '.join(told.readers) or 'no view'}")

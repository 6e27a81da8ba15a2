"""`./weir table`: capture a table, stop and go on with it, make its copy anew, take it out; what is unsafe, what changed, and what that hits."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from weir.cli import outcome

if TYPE_CHECKING:
    from weir.contracts.captured import Captured
    from weir.stack.settings import StackSettings

table_app = typer.Typer(no_args_is_help=True, help="Tables of the source: check, list, add, pause, resume, resync, remove.")
out, err = outcome.console(), outcome.err
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on standard output.")]
Name = Annotated[str, typer.Argument(metavar="TABLE", help="A captured table by its name, such as users.")]
MostPerS = Annotated[int, typer.Option("--max-rows-per-s", min=0, help="Rows a second that may be read of the source; 0: as fast as it goes.")]
History = Annotated[bool, typer.Option("--history", help="As an append-only history: each change is a row that is never replaced; needs no primary key.")]
KAFKA_HOURS = 168  # a topic's retention, as weir.connect.register makes it


def _settings() -> StackSettings:
    from weir.stack import settings

    return settings.load()


def _say(text: str) -> None:
    err.print(f"  {text}", markup=False, soft_wrap=True)


def _told(entry: Captured, *, as_json: bool, more: dict[str, Any] | None = None) -> None:
    from weir.capture import operate

    if as_json:
        sys.stdout.write(json.dumps(operate.document(entry) | (more or {}), indent=2) + "\n")
        return
    read = f"{entry.view} (its changes) or {entry.rows_view} (its rows)" if entry.history else entry.view
    out.print(f"{entry.name} ({entry.source}): {entry.state}{f', {entry.why}' if entry.why else ''}{'' if entry.state == 'removed' else f'; read {read}'}", markup=False, soft_wrap=True)


@table_app.command(epilog="Examples: ./weir table check · ./weir table check public.orders --json · ./weir table check public.log --history")
def check(
    tables: Annotated[list[str] | None, typer.Argument(metavar="[SCHEMA.TABLE]…", help="Tables, captured or not yet; without any, all captured ones.")] = None,
    *,
    as_history: History = False,
    as_json: Json = False,
) -> None:
    """Say what makes tables unsafe to capture and the SQL that makes them safe; what changed in captured ones, whether it flows by itself, and what it hits.

    What is only to know, such as a column that lands and is of a type that no comparison covers, is told too and is not unsafe. Exits 1 when anything is unsafe.
    """
    from weir.capture import compared, watch
    from weir.connect import preflight
    from weir.contracts import cdc

    settings = _settings()
    entries, unknown = _register(settings)
    wanted = [t if "." in t else f"public.{t}" for t in tables or [t.source for t in cdc.CDC_TABLES.values()] + [e.source for e in entries if e.owned]]
    histories = [t for t in wanted if as_history and t not in {e.source for e in entries}] + [e.source for e in entries if e.history]
    found = preflight.examine(settings.endpoints.postgres_dsn, wanted, histories)
    whole = {t.source for t in cdc.CDC_TABLES.values()} | set(histories)  # dbt chooses the types of the former; of the latter each value is compared
    notes = [n for source, there in watch.look(settings.endpoints.postgres_dsn, wanted).items() if source not in whole for n in compared.notes(source, there.columns)]
    schema = watch.report(settings.endpoints.postgres_dsn, [e for e in entries if e.source in wanted], settings.home, settings.root)
    bad = bool(found) or any(not c["safe"] for t in schema for c in t["changes"]) or any(t["state"] == "paused" and t["by"] in {"schema", "loss"} for t in schema)
    if as_json:
        sys.stdout.write(json.dumps({"safe": not bad, "findings": [asdict(f) for f in found], "notes": [asdict(n) for n in notes], "schema": schema, "unknown": unknown}, indent=2) + "\n")
    else:
        for line in [str(f) for f in found] + [f"to know: {n}" for n in notes] + [unknown][: bool(unknown)] + watch.lines(schema):
            out.print(line, markup=False, soft_wrap=True)
        if not bad:
            out.print(f"safe to capture: {', '.join(wanted)}", markup=False, soft_wrap=True)
        if not tables and (others := preflight.others(settings.endpoints.postgres_dsn, wanted)):
            out.print(f"not captured, and not looked at: {', '.join(others)}", markup=False, soft_wrap=True)
    raise typer.Exit(1 if bad else 0)


def _register(settings: StackSettings) -> tuple[list[Captured], str]:
    """Return the register's entries, or why they are not known: a table not yet captured is checked without ClickHouse too."""
    from weir.capture import operate
    from weir.errors import WeirError

    try:
        with operate.opened(settings.endpoints) as parts:
            return list(parts.register.tables().values()), ""
    except WeirError as error:
        return [], f"changes of captured tables are unknown: {error.message}"


@table_app.command("list", epilog="Example: ./weir table list --json")
def list_(*, as_json: Json = False) -> None:
    """Show the captured tables, their state, and what to read."""
    from weir.capture import operate

    with operate.opened(_settings().endpoints) as parts:
        entries = parts.register.tables().values()
    if as_json:
        sys.stdout.write(json.dumps([operate.document(e) for e in entries], indent=2) + "\n")
    else:
        for entry in entries:
            _told(entry, as_json=False)


@table_app.command(epilog="Examples: ./weir table add public.orders · ./weir table add public.orders --max-rows-per-s 5000 · ./weir table add public.log --history")
def add(source: Annotated[str, typer.Argument(metavar="SCHEMA.TABLE")], *, as_history: History = False, max_rows_per_s: MostPerS = 0, as_json: Json = False) -> None:
    """Capture a table: preflight, publication, topic, connector, and a keyed copy that is verified key by key before anybody reads it.

    With --history it is a history instead: each insert, update, delete and truncate is a row with its LSN, transaction, commit time and the values after and before,
    which takes REPLICA IDENTITY FULL; a snapshot's rows come first, and what they and the changes make is verified against the source.

    The cap is of the bulk path, which copies most tables, a second's rows at a time where the key is an integer. A table with a type of which that path was not
    tested is read by Debezium's snapshot, 10,000 rows at a time, with no cap.
    """
    from weir.capture import compared, operate

    settings = _settings()
    entry = operate.add(settings.endpoints, settings.home, source, _say, most_per_s=max_rows_per_s, as_history=as_history)
    notes = () if entry.history else compared.notes(entry.source, entry.columns)
    _told(entry, as_json=as_json, more={"notes": [asdict(n) for n in notes]})


@table_app.command(epilog="Example: ./weir table pause users --why 'the shop migrates'")
def pause(name: Name, *, why: Annotated[str, typer.Option(help="Shown in the verdict.")] = "", as_json: Json = False) -> None:
    """Leave a table's changes in Kafka, those of others flow on. Shows how long that can last, and the slot's WAL budget."""
    from weir.capture import operate
    from weir.quality import growth, pipeline

    settings = _settings()
    with outcome.usually(settings.home, "table pause", f"pausing {name}"):
        entry = operate.pause(settings.endpoints, settings.home, name, why)
    slot, grown = pipeline.ask_slot(settings.endpoints.postgres_dsn), growth.now(settings.endpoints.postgres_dsn, settings.home)
    budget = {"kafka_hours": KAFKA_HOURS, "wal_left_bytes": slot.left_bytes if slot else None, "wal_hours": grown.hours_if_stopped if grown else None}
    _told(entry, as_json=as_json, more={"budget": budget})
    if not as_json:
        left = "unknown" if slot is None or slot.left_bytes is None else f"{slot.left_bytes / 1e6:,.0f} MB"
        hours = "unknown" if grown is None else "no end at no growth" if grown.hours_if_stopped is None else f"{grown.hours_if_stopped:,.1f} h at present growth"
        out.print(f"Kafka keeps its changes for {KAFKA_HOURS} h, the slot goes on; the WAL budget, were Debezium to stop too: {left}, {hours}")


@table_app.command(epilog="Example: ./weir table resume users")
def resume(
    name: Name, *, accept: Annotated[bool, typer.Option("--accept", help="dbt's models read the source's columns as they are now.")] = False, as_json: Json = False
) -> None:
    """Read a table's changes on where they were left; refused while its rows would land as other values, saying what that hits."""
    from weir.capture import operate

    settings = _settings()
    with outcome.usually(settings.home, "table resume", f"resuming {name}"):
        entry = operate.resume(settings.endpoints, settings.home, settings.root, name, accept=accept)
    _told(entry, as_json=as_json)


@table_app.command(epilog="Example: ./weir table resync orders")
def resync(name: Name, *, max_rows_per_s: MostPerS = 0, as_json: Json = False) -> None:
    """Build a table's copy anew beside, verify it key by key, swap, and leave nothing beside. Takes the source's columns as they are now.

    A history stays as it is: a new snapshot goes into it and is verified.
    """
    from weir.capture import operate

    settings = _settings()
    _told(operate.resynced(settings.endpoints, settings.home, name, _say, most_per_s=max_rows_per_s), as_json=as_json)


@table_app.command(epilog="Example: ./weir table remove orders")
def remove(name: Name, *, as_json: Json = False) -> None:
    """Capture a table no more: its copy goes, the source is left as it is, its topic goes with its retention."""
    from weir.capture import operate

    settings = _settings()
    with outcome.usually(settings.home, "table remove", f"removing {name}"):
        entry = operate.remove(settings.endpoints, settings.home, name)
    _told(entry, as_json=as_json)

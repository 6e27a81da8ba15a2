"""`./weir replay`: a range of a topic decoded again and put in the place of what is live."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from weir.cli import outcome

if TYPE_CHECKING:
    from weir.replay.plan import Plan
    from weir.replay.run import Replayed

TURN_S = 5.0  # a round of the watcher of captured tables takes a second
replay_app = typer.Typer(no_args_is_help=True, help="A range of a topic decoded again, verified, and put in the place of what is live: events.")
err, out = outcome.err, outcome.console()


@replay_app.callback()
def _group() -> None:
    """Keep `events` a command of its own, though it is the only one yet."""


@replay_app.command(epilog="Examples: ./weir replay events --since 2026-11-30T08:00 --dry-run · ./weir replay events --from-offset 0:1000 --to-offset 0:2000")
def events(
    *,
    first: Annotated[list[str] | None, typer.Option("--from-offset", metavar="[PARTITION:]OFFSET", help="The first offset, of every partition or of the one named; may be given several times. Without it: the first that Kafka holds.")] = None,
    after: Annotated[list[str] | None, typer.Option("--to-offset", metavar="[PARTITION:]OFFSET", help="The offset after the last. Without it: what has landed.")] = None,
    since: Annotated[str, typer.Option(metavar="TIME", help="By the records' Kafka timestamps instead: from this time on (ISO 8601; UTC where it names no zone).")] = "",
    until: Annotated[str, typer.Option(metavar="TIME", help="To before this time. Without it: what has landed.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be replaced, how long it takes and what disk it needs; change nothing.")] = False,
    handled_too: Annotated[bool, typer.Option("--handled-too", help="Take in records of the quarantine that somebody replayed or discarded, where today's contract accepts them.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on standard output.")] = False,
) -> None:
    """Decode a range of user events again from Kafka, by today's contract, and put it in the place of what landed, while everything runs.

    A range needs one end at least, of offsets or of times; the other is as far as it goes.

    The range goes into tables beside (shadow__…), is held to Kafka once more record by record, and the tables behind are built of what changed; then all of it is exchanged while
    inserts are held for milliseconds. What lands meanwhile is neither lost nor doubled; batches, views and tokens stay. A failure, or Ctrl-C, before the exchange leaves the live
    tables serving and nothing beside; run it again as often as you like: what is the same is not touched.

    Exits 1 when the range was not replayed.
    """
    from weir.capture.register import turn
    from weir.contracts import names
    from weir.ingest.clickhouse import ClickHouse
    from weir.replay import ranges
    from weir.replay.plan import Planner
    from weir.replay.run import Replay
    from weir.stack import settings
    from weir.topics.reader import Reader
    from weir.transform.warehouse import Warehouse

    asked, found = ranges.asked(first or [], after or [], since, until), settings.load()
    url = found.endpoints.clickhouse_url
    warehouse, client, reader = Warehouse(url), ClickHouse(url), Reader(found.endpoints.kafka_bootstrap, names.ingest_group(names.LANDING_EVENTS))
    try:
        planner = Planner(warehouse, reader, asked)
        if dry_run:
            _print(planner.plan(), plan_lines, as_json)
            return
        with turn(found.home, wait_s=TURN_S):
            told = Replay(planner, client, found.home / "verify", progress(), handled_too).run()
    finally:
        warehouse.close()
        client.close()
        reader.close()
    _print(told, lines, as_json)


def progress() -> Any:
    """Return what tells the progress on standard error, every two seconds."""
    return outcome.teller(lambda at: f"{at.step}: {at.done:,} of about {at.total:,}, {at.rate:,.0f}/s, {at.eta_s:.0f} s to go")


def _print(told: Any, lines_of: Any, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(told.document(), indent=2) + "\n")
        return
    table, said = lines_of(told)
    out.print(table)
    for line in said:
        out.print(line, markup=False, soft_wrap=True)


def _table(columns: tuple[str, ...], rows: list[list[object]]) -> Table:
    made = Table(*columns, box=None)
    for row in rows:
        made.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row))
    return made


def plan_lines(plan: Plan) -> tuple[Table, list[str]]:
    """Return what a dry run says: a table of partitions, and lines. Pure."""
    rows: list[list[object]] = [[str(p), str(s.first), str(s.after), plan.rows.get(p, 0), plan.quarantined.get(p, 0)] for p, s in sorted(plan.spans.items())]
    days = ", ".join(plan.days) or "no day"
    return _table(("partition", "from", "to", "landed rows", "of them quarantined"), rows), [
        f"{sum(plan.rows.values()):,} landed rows would be held to Kafka; where they change, the rest of their days is copied ({days}: at most {plan.copied:,} rows) and exchanged with it",
        f"tables that may change: {', '.join(plan.tables)}",
        f"about {plan.seconds:,.0f} s to decode and verify, at most {plan.disk_bytes / 1e6:,.0f} MB beside; ClickHouse's disk has {plan.free_bytes / 1e6:,.0f} MB. Nothing was changed",
    ]


def lines(told: Replayed) -> tuple[Table, list[str]]:
    """Return what a replay says: a table of partitions, and lines. Pure."""
    kinds = sorted({k for by in told.changed.values() for k in by})
    rows: list[list[object]] = [[str(p), str(at.span.first), str(at.span.after), at.records - at.quarantined, at.quarantined, f"{at.hash:016x}", *(told.changed.get(p, {}).get(k, 0) for k in kinds)]
                                for p, at in sorted(told.partitions.items())]
    made = _table(("partition", "from", "to", "accepted", "quarantined", "hash", *(k.replace("_", " ") for k in kinds)), rows)
    records = sum(at.records for at in told.partitions.values())
    if not told.changes:
        return made, [f"{records:,} records verified against Kafka in {told.seconds:.1f} s: each landed as it would land today, and nothing was changed"]
    unknown = sorted(t for t, n in told.recomputed.items() if n < 0)
    return made, [
        f"{records:,} records verified against Kafka, {told.changes:,} changed, {told.copied:,} rows of the same days copied; inserts held for {told.held_ms:.0f} ms; {told.seconds:.1f} s in all",
        "exchanged, with their partitions: " + ", ".join(f"{t} ({n})" for t, n in told.tables.items()),
        *([f"verified inside ClickHouse alone, since no recompute of them is known: {', '.join(unknown)}"] if unknown else []),
    ]

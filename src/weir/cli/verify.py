"""`./weir verify`: is every event of the topic once in the landing table and once in each table behind it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from weir.cli import outcome

if TYPE_CHECKING:
    from weir.ingest.verify.outcome import Outcome

STATUS = {"yes": 0, "no": 1, "unknown": 2}
FAULTS = ("missing", "doubled", "different", "unknown")
WORDS = ("deduplicated: of the landed, a producer's repeats, which keyed tables count once; pending: offsets past the commit, markers of transactions among them; rows: as they are stored, a key's older versions and repeats among them until they are merged; "
         "judged: what landed and is owed to the table, each repeat too")
verify_app = typer.Typer(no_args_is_help=True, help="What landed against what was sent: events.")
err = outcome.err
out = outcome.console()


@verify_app.callback()
def _group() -> None:
    """Keep `events` a command of its own, though it is the only one yet."""


@verify_app.command(epilog="Examples: ./weir verify events · ./weir verify events --json | python3 -m json.tool")
def events(*, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on standard output.")] = False) -> None:
    """Read the topic and the tables and say, by partition and offsets, what landed, is in quarantine, repeats, is missing, doubled, different or unknown.

    Exits 0 when each event below the commit is once in each table, 1 when anything is missing, doubled or different, 2 when something could not be judged.
    """
    from weir.ingest.verify.run import verify
    from weir.stack import settings

    found = settings.load()
    with outcome.verdict():
        told = verify(found.endpoints.kafka_bootstrap, found.endpoints.clickhouse_url, found.home / "verify", progress())
    if as_json:
        sys.stdout.write(json.dumps(told.document(), indent=2) + "\n")
    else:
        show(told)
    raise typer.Exit(STATUS[told.verdict()])


def progress() -> Any:
    """Return what tells the progress on standard error, every two seconds."""
    return outcome.teller(str)


def show(told: Outcome) -> None:
    """Print the partitions, the tables behind, and below them the offsets of every fault."""
    document = told.document()
    kinds = ("landed", "quarantined", "deduplicated", "expired", "pending", *FAULTS)
    made = Table("partition", "from", "to", *kinds, box=None)
    for p in document["partitions"]:
        made.add_row(str(p["partition"]), str(p["low"]), str(p["committed"]), *(_coloured(k, p[k]) for k in kinds))
    out.print(made)
    behind = Table("table behind", "verdict", "rows", "judged", *FAULTS, box=None)
    for view in document["views"]:
        behind.add_row(view["table"], view["verdict"], str(view["rows"]), str(view["judged"]), *(_coloured(k, view[k]) for k in FAULTS))
    out.print(behind)
    out.print(WORDS, markup=False, soft_wrap=True)
    for line in lines(document):
        out.print(line, markup=False, soft_wrap=True)
    out.print(f"{document['verdict']}: {document['judged']:,} records judged in {document['seconds']:.1f} s")


def _coloured(kind: str, count: int) -> str:
    return f"[red]{count}[/]" if kind in FAULTS and count else str(count)


def lines(document: dict[str, Any]) -> list[str]:
    """Return a line for each fault's offsets and each reason. Pure."""
    found = [f"{document['table']}: {document['reason']}"] if document["reason"] else []
    tables = [(document["table"], {str(p["partition"]): p for p in document["partitions"]}), *((v["table"], v["partitions"]) for v in document["views"])]
    for table, partitions in tables:
        for name, p in partitions.items():
            found += [f"{table} partition {name}: {p[k]} {k}, offsets {_ranges(p['ranges'][k])}" for k in FAULTS if p.get(k) and k in p.get("ranges", {})]
            found += [f"{table}: {p[k]} {k} rows of no landed record" for k in FAULTS if p.get(k) and k not in p.get("ranges", {})]
    return found + [f"{v['table']}: {v['reason']}" for v in document["views"] if v["reason"]]


def _ranges(ranges: list[list[int]]) -> str:
    shown = ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in ranges[:10])
    return shown + (f" and {len(ranges) - 10} more ranges" if len(ranges) > 10 else "")  # noqa: PLR2004 - a line's worth

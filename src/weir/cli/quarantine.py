"""`./weir quarantine`: look at records that ingest refused, correct them, send them again, or give them up; each act leaves an audit row."""

from __future__ import annotations

import base64
import getpass
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from weir.cli import outcome
from weir.errors import Terminal

if TYPE_CHECKING:
    from weir.ingest.quarantine import Place, Quarantine
    from weir.stack.settings import StackSettings

quarantine_app = typer.Typer(no_args_is_help=True, help="Records that ingest refused: list, show, fix, replay, discard. A record is named topic/partition/offset.")
err = outcome.err
out = outcome.console()

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on standard output.")]


def _reason(text: str) -> str:
    if not text.strip():
        raise typer.BadParameter("an audit row needs a reason: say in some words why")
    return text


def _by(who: str) -> str:
    """Return who decides; by default the user of this machine, by number where it has no name, as in a container."""
    if who.strip():
        return who
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


Why = Annotated[str, typer.Option("--why", callback=_reason, help="The reason, for the audit row.")]
Who = Annotated[str, typer.Option("--who", help="Who decides, for the audit row; by default the user of this machine.")]
PlaceArgument = Annotated[str, typer.Argument(metavar="TOPIC/PARTITION/OFFSET", help="As ./weir quarantine list prints it.")]
LANDED_WAIT_S = 15.0
RAW_BYTES = 4096  # of a record are kept in the quarantine
TURN_S = 60.0  # a range replay may take longer: it looks once at what was replayed or discarded, so neither may come in between


@contextmanager
def _desk() -> Iterator[tuple[Quarantine, StackSettings]]:
    from weir.ingest.clickhouse import ClickHouse
    from weir.ingest.quarantine import Quarantine
    from weir.stack import settings

    found = settings.load()
    client = ClickHouse(found.endpoints.clickhouse_url)
    try:
        yield Quarantine(client), found
    finally:
        client.close()


def _print_json(document: object) -> None:
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


@quarantine_app.command("list", epilog="Example: ./weir quarantine list --reason malformed --limit 20")
def list_(
    *,
    reason: Annotated[str, typer.Option(help="Only this reason, such as malformed.")] = "",
    topic: Annotated[str, typer.Option(help="Only this topic.")] = "",
    state: Annotated[str, typer.Option(help="Only this state: open, fixed, replaying, replayed, discarded.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many of the newest.")] = 100,
    as_json: Json = False,
) -> None:
    """List the newest records in the quarantine and what has become of them."""
    from weir.contracts.events import RejectReason
    from weir.ingest.quarantine import State

    if reason and reason not in set(RejectReason):
        raise typer.BadParameter(f"no reason {reason!r}; there are {', '.join(RejectReason)}")
    if state and state not in set(State):
        raise typer.BadParameter(f"no state {state!r}; there are {', '.join(State)}")
    with _desk() as (quarantine, _):
        found = quarantine.entries(reason=reason, topic=topic, state=State(state) if state else None, limit=limit)
    if as_json:
        _print_json([e.document() for e in found])
        return
    table = Table(box=None)
    for column, wrap in (("record", False), ("reason", False), ("state", True), ("produced at", True), ("begins with", True)):
        table.add_column(column, no_wrap=not wrap)
    for e in found:
        what = f"{e.state} as {e.replayed_as}" if e.replayed_as else str(e.state)
        table.add_row(str(e.place), e.reason, what, e.produced_at[:19], e.raw[:48].decode("utf-8", "replace").replace("\n", " "))
    out.print(table)
    if not found:
        err.print("nothing is in the quarantine" if not (reason or topic or state) else "nothing in the quarantine is like that")


@quarantine_app.command(epilog="Example: ./weir quarantine show user-events/3/17")
def show(place: PlaceArgument, *, as_json: Json = False) -> None:
    """Show one record: its bytes (the first 4,096), reason and what that means for a user event, trace, and every audit row."""
    from weir.contracts.events import RejectReason
    from weir.ingest.explain import explain
    from weir.ingest.quarantine import Place

    with _desk() as (quarantine, _):
        document = quarantine.entry(Place.parse(place)).document(whole=True)
    if as_json:
        _print_json(document)
        return
    for name, value in document.items():
        if name not in {"actions", "raw_base64"} and value not in {None, ""}:
            out.print(f"{name:<12} {value}", markup=False, soft_wrap=True)
    raw = base64.b64decode(document["raw_base64"])
    wrong = explain(document["place"].split("/")[0], raw, document["reason"]) if len(raw) < RAW_BYTES or document["reason"] == RejectReason.OVERSIZED else ""
    if wrong:  # of a record's head alone nothing is said
        out.print(f"{'why':<12} {wrong}", markup=False, soft_wrap=True)
    for a in document["actions"]:
        out.print(f"{a['at'][:19]}  {a['action']} by {a['who']}: {a['why']}", markup=False, soft_wrap=True)


@quarantine_app.command(epilog='Example: ./weir quarantine fix user-events/3/17 --set country=DE --why "lower case"')
def fix(
    place: PlaceArgument,
    *,
    why: Why,
    field: Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Set a field of the JSON object; may be repeated.")] = None,
    value: Annotated[Path | None, typer.Option("--value", help="A file with the whole corrected record; - for standard input.")] = None,
    who: Who = "",
) -> None:
    """Write down the corrected record, and say whether ingest would take it now; nothing is sent until it is replayed. Example: ./weir quarantine fix user-events/3/17 --set country=DE --why "lower case"."""
    from weir.ingest import replay
    from weir.ingest.explain import explain
    from weir.ingest.quarantine import Action, Place, allow, patched

    if bool(field) == bool(value):
        raise typer.BadParameter("give either --set FIELD=VALUE or --value FILE")
    at = Place.parse(place)
    with _desk() as (quarantine, found):
        entry = quarantine.entry(at)
        allow(entry, "fix")
        try:
            key, before = replay.original(found.endpoints.kafka_bootstrap, entry)
        except Terminal:  # gone, and too long to be kept whole: an earlier correction has all of it, and so has a given one
            if value is None and entry.fixed is None:
                raise
            key, before = None, b""
        if value is not None:
            corrected = sys.stdin.buffer.read() if str(value) == "-" else value.read_bytes()
        else:
            corrected = patched(before if entry.fixed is None else entry.fixed, field or ())
        quarantine.record(at, Action("fix", _by(who), why, value=corrected))
    left = replay.refusal(at, key, corrected, int(time.time() * 1000))
    wrong = explain(at.topic, corrected, left)
    told = f"is written down, and would be refused again: {left}{wrong and f' ({wrong})'}; correct it further, with ./weir quarantine fix" if left else "is corrected"
    err.print(f"{place} {told}; ./weir quarantine replay {place} --why '…' sends it", markup=False, soft_wrap=True)


@quarantine_app.command("replay", epilog='Example: ./weir quarantine replay user-events/3/17 --why "corrected"')
def replay_(
    places: Annotated[list[str], typer.Argument(metavar="TOPIC/PARTITION/OFFSET…", help="One or more records.")], *, why: Why, who: Who = "", as_json: Json = False
) -> None:
    """Send records the normal way once more, corrected if they were fixed; safe to repeat: a record is never sent twice."""
    from weir.capture.register import turn
    from weir.ingest.quarantine import Place
    from weir.ingest.replay import Replay
    from weir.stack import usual

    wanted: dict[tuple[str, int], list[Place]] = {}
    for place in map(Place.parse, places):
        wanted.setdefault((place.topic, place.partition), []).append(place)
    results: list[dict[str, object]] = []
    began, told = time.monotonic(), outcome.teller(lambda done: f"{done} of {len(places)} replayed, {usual.counted(done, len(places), time.monotonic() - began)}")
    with _desk() as (quarantine, found):
        for (topic, partition), mine in wanted.items():
            session = Replay(found.endpoints.kafka_bootstrap, quarantine, topic, partition)
            for place in mine:
                with turn(found.home, wait_s=TURN_S):
                    done = session.run(place, _by(who), why)
                verdict = _landed(quarantine, done.place)
                results.append({"place": str(place), "replayed_as": str(done.place), "before": done.again, "verdict": verdict})
                err.print(f"{place} stands at {done.place}{' since an earlier try' if done.again else ''}: {verdict}", markup=False, soft_wrap=True)
                told(len(results))
    if as_json:
        _print_json(results)
    raise typer.Exit(0 if all(r["verdict"] == "accepted" for r in results) else 1)


def _landed(quarantine: Quarantine, place: Place) -> str:
    deadline = time.monotonic() + LANDED_WAIT_S
    while time.monotonic() < deadline:
        found = quarantine.verdict(place)
        if found is not None:
            return "accepted" if not found else f"refused again: {found}"
        time.sleep(0.1)
    return "not landed yet: is ingest running? ./weir status"


@quarantine_app.command(epilog='Example: ./weir quarantine discard user-events/3/17 --why "a test"')
def discard(places: Annotated[list[str], typer.Argument(metavar="TOPIC/PARTITION/OFFSET…", help="One or more records.")], *, why: Why, who: Who = "") -> None:
    """Give records up for good; they stay in the quarantine table with who decided and why."""
    from weir.capture.register import turn
    from weir.ingest.quarantine import Action, Place, allow

    wanted = [Place.parse(p) for p in places]
    with _desk() as (quarantine, found), turn(found.home, wait_s=TURN_S):
        for place in wanted:
            allow(quarantine.entry(place), "discard")
        for place in wanted:
            quarantine.record(place, Action("discard", _by(who), why))
    err.print(f"discarded: {', '.join(map(str, wanted))}", markup=False, soft_wrap=True)

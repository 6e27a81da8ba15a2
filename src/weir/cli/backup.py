"""`./weir backup` and `./weir restore`: ClickHouse's data, or a whole home, to a folder and back."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from weir.cli import outcome

if TYPE_CHECKING:
    from weir.stack.backup import Manifest
    from weir.stack.settings import StackSettings

out = outcome.console()
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on standard output.")]
To = Annotated[Path | None, typer.Option("--to", metavar="DIR", help="Where backups lie; by default WEIR_HOME/backups. Better: another disk.")]
backup_app = typer.Typer()


def _settings() -> StackSettings:
    from weir.stack import settings

    return settings.load()


def _teller() -> Any:
    """Return what tells the progress on standard error, every two seconds."""
    return outcome.teller(lambda at: f"{at.done_bytes >> 20:,} of {at.total_bytes >> 20:,} MB, {at.rate / (1 << 20):,.0f} MB/s, {at.eta_s:.0f} s to go")


def _document(path: Path, manifest: Manifest | None) -> dict[str, Any]:
    return {"path": str(path)} | ({"damaged": True} if manifest is None else {"damaged": False, **asdict(manifest)})


def _line(path: Path, manifest: Manifest | None) -> str:
    if manifest is None:
        return f"{path}: damaged, or made by another version"
    held = f", writes held {manifest.held_ms:.0f} ms" if manifest.cut == "hot" else ""
    return f"{path}: {', '.join(manifest.parts)} of {manifest.made_at}, {manifest.files:,} files, {manifest.size_bytes / 1e6:,.1f} MB, ClickHouse {manifest.engine or 'unknown'}, {manifest.cut}{held}"


@backup_app.callback(invoke_without_command=True, epilog="Examples: ./weir backup · ./weir backup --to /mnt/backups --json · ./weir down && ./weir backup --whole · ./weir backup list")
def backup(
    context: typer.Context,
    *,
    to: To = None,
    whole: Annotated[bool, typer.Option("--whole", help="Everything in WEIR_HOME, passwords too; the stack must be down.")] = False,
    as_json: Json = False,
) -> None:
    """Back up ClickHouse: all tables as of one moment, while the stack runs (writes are held for milliseconds) or not. No password is in it.

    With --whole, PostgreSQL, Kafka, Redis, models and the passwords too: then only you can read it, and it is as secret as WEIR_HOME is.
    """
    if context.invoked_subcommand is not None:
        return
    from weir.stack import backup as backups

    path, manifest = backups.make(_settings(), to, whole=whole, tell=_teller())
    _told(path, manifest, as_json=as_json)


def _told(path: Path, manifest: Manifest, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(_document(path, manifest), indent=2) + "\n")
    else:
        out.print(_line(path, manifest), markup=False, soft_wrap=True)


@backup_app.command("list", epilog="Example: ./weir backup list --to /mnt/backups --json")
def list_(*, to: To = None, as_json: Json = False) -> None:
    """Show the backups of a folder, the oldest first."""
    from weir.stack import backup as backups

    place = backups.folder(_settings().home, to)
    found = backups.known(place)
    if as_json:
        sys.stdout.write(json.dumps([_document(*one) for one in found], indent=2) + "\n")
        return
    for one in found:
        out.print(_line(*one), markup=False, soft_wrap=True)
    if not found:
        out.print(f"there is none in {place}", markup=False, soft_wrap=True)


@backup_app.command(epilog="Examples: ./weir backup check latest · ./weir backup check /mnt/backups/weir-20261124T201500Z")
def check(source: Annotated[str, typer.Argument(metavar="FROM", help="A backup's path or name, or latest.")], *, as_json: Json = False) -> None:
    """Read a backup whole and hold every file to its checksum. Exits 1 when one is missing or differs."""
    from weir.stack import backup as backups
    from weir.stack import restore as restores

    path = restores.find(_settings().home, source)
    manifest = backups.check(path, _teller())
    _told(path, manifest, as_json=as_json)
    if not as_json:
        out.print(f"{manifest.files:,} files read, each is as its checksum says", markup=False, soft_wrap=True)


def restore(
    source: Annotated[str, typer.Argument(metavar="FROM", help="A backup's path or name, or latest.")],
    *,
    replace: Annotated[bool, typer.Option("--replace", help="Set existing data aside (it is kept beside, as <part>.before-restore-<time>).")] = False,
    as_json: Json = False,
) -> None:
    """Put a backup back into WEIR_HOME, of a stack that is down. Every file is checked before anything is moved; data that is there is never overwritten.

    At the next ./weir up, ingest reads on from where the restored tables end, while Kafka has the records; what it no longer has stops that table, and is named.
    """
    from weir.stack import restore as restores

    settings = _settings()
    manifest, aside = restores.restore(settings, source, replace=replace, tell=_teller())
    if as_json:
        sys.stdout.write(json.dumps({"home": str(settings.home), "set_aside": aside, **asdict(manifest)}, indent=2) + "\n")
        return
    kept = f"; what was there is kept as {', '.join(aside)}" if aside else ""
    out.print(f"restored {', '.join(manifest.parts)} of {manifest.made_at} ({manifest.files:,} files, {manifest.size_bytes / 1e6:,.1f} MB) into {settings.home}{kept}; ./weir up goes on from there",
              markup=False, soft_wrap=True)

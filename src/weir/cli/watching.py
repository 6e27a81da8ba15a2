"""`./weir status --watch`: the services and the path, drawn anew until Ctrl-C; one line a round where the output is no terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from weir.cli import outcome
from weir.contracts.captured import Captured
from weir.contracts.model import POPULARITY
from weir.quality import growth, pipeline, terminal, verdict
from weir.quality.judge import Check, Report
from weir.stack import external, services, watch
from weir.stack.settings import StackSettings
from weir.stack.states import ServiceState, masked

EVERY_S = 2.0
MONTH_H, YEAR_H = 720.0, 8760.0


def services_table(rows: Sequence[ServiceState]) -> Table:
    """Return the services as a table; endpoints are shown without their passwords. Pure."""
    table = Table("service", "state", "pid", "endpoint", box=None)
    for r in rows:
        colour = {"ready": "green", external.ANSWERS: "green", "degraded": "yellow", "stopped": "dim"}.get(r.state, "red")
        table.add_row(r.name, f"[{colour}]{r.state}[/]", str(r.pid or ""), masked(r.endpoint))
    return table


def _hours(hours: float) -> str:
    """Return hours for reading: a growth is an estimate, so a month and more is told in days, and past a year nothing finer."""
    if hours > YEAR_H:
        return "more than a year"
    return f"{hours:,.1f} h" if hours < MONTH_H else f"{hours / 24:,.0f} days"


def trouble_lines(rows: Sequence[ServiceState]) -> list[str]:
    """Return what has stopped inside of services that answer, and what to do. Pure."""
    return [f" {r.name} is {r.state}: {r.why}" for r in rows if r.why]


def capture_lines(
    connector: pipeline.Connector | None, slot: pipeline.Slot | None, grown: growth.Growth | None = None, tables: Sequence[Captured] | None = ()
) -> list[str]:
    """Return what the services' states do not show: the connector's task, the slot, how much WAL it holds and for how long, tables that do not flow. Pure."""
    lines = [f" {check.name}: {check.reason or 'ok'}" for check in (pipeline.judge_connector(connector), pipeline.judge_slot(slot))]
    if slot is not None and slot.retained_bytes is not None:
        left = "" if slot.left_bytes is None else f", {slot.left_bytes / 1e6:,.0f} MB left to the limit"
        lines[-1] += f" ({slot.wal_status}, {slot.retained_bytes / 1e6:,.1f} MB of WAL kept{left})"
    if grown is not None and grown.hours_to_limit is not None:
        lines[-1] += f", {_hours(grown.hours_to_limit)} to the limit at present growth"
    if grown is not None and grown.hours_if_stopped is not None:
        lines[-1] += f", {_hours(grown.hours_if_stopped)} were the connector stopped"
    return lines + [f" {check.name}: {check.reason}" for check in pipeline.judge_captured(tables)]


def check_lines(checks: Sequence[Check]) -> list[str]:
    """Return checks as lines. Pure."""
    return [f" {check.name}: {check.reason or 'ok'}" for check in checks]


def served_line(api: pipeline.Api | None, judged: Check) -> str:
    """Return what is served: how many items, and by which model. Pure."""
    by = f" ({api.items:,} items, {'by popularity' if api.model_version == POPULARITY else f'model {api.model_version}'})" if api and api.ready else ""
    return f" {judged.name}: {judged.reason or 'ok'}{by}"


def line(rows: Sequence[ServiceState], before: Report | None, now: Report) -> str:
    """Return one round as a line. Pure."""
    away = [f"{r.name} {r.state}" for r in rows if r.state not in {"ready", external.ANSWERS}]
    at = datetime.fromtimestamp(now.checked_at_ms / 1000, UTC)
    return f"{at:%H:%M:%S} {', '.join(away) or f'{len(rows)} services ready'} · {terminal.line(before, now)}"


def follow(settings: StackSettings, out: Console) -> None:
    """Ask and show until interrupted."""
    specs = services.build(settings)
    before: Report | None = None
    with Live(console=out, auto_refresh=False, transient=False) if out.is_terminal else _Plain() as live:
        while True:
            began = time.monotonic()
            down = outcome.cause_of_silence()
            rows, now = watch.everything(specs, settings), verdict(settings.endpoints, settings.home)
            if isinstance(live, Live):
                head = [Text(down)] if down else []
                live.update(Group(*head, services_table(rows), "", terminal.tables(before, now)), refresh=True)
            else:
                out.print(down or line(rows, before, now), markup=False, soft_wrap=True)
            before = now
            time.sleep(max(0.1, EVERY_S - (time.monotonic() - began)))


class _Plain:
    """Stands where a live display would."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None

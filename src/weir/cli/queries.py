"""`./weir queries`: what each user's queries cost, and which were slow."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from weir.cli import outcome

out = outcome.console()


def queries(
    *,
    hours: Annotated[int, typer.Option(min=1, help="How far back; the embedded ClickHouse keeps three days.")] = 1,
    top: Annotated[int, typer.Option(min=1, help="How many of the slow ones, and of the failing ones.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on standard output.")] = False,
) -> None:
    """Show what the queries of each ClickHouse user cost (CPU, bytes), the slowest queries by their form, without literals, and those that failed. From system.query_log, which is 5 s behind."""
    from weir.cost import queries as log
    from weir.stack import settings

    url = settings.load().endpoints.clickhouse_url
    users, slow, failing = log.by_user(url, hours), log.slowest(url, hours, top), log.failing(url, hours, top)
    if as_json:
        sys.stdout.write(json.dumps({"hours": hours, "users": [asdict(u) for u in users], "slowest": [asdict(s) for s in slow], "failing": [asdict(f) for f in failing]}, indent=2) + "\n")
        return
    made = Table("user", "queries", "failed", "CPU s", "elapsed s", "MB read", "rows read", "MB written", "rows written", "MB at most", box=None)
    for u in users:
        made.add_row(u.user, f"{u.queries:,}", f"{u.failed:,}", f"{u.cpu_s:,.1f}", f"{u.elapsed_s:,.1f}", f"{u.bytes_read / 1e6:,.1f}", f"{u.rows_read:,}", f"{u.bytes_written / 1e6:,.1f}",
                     f"{u.rows_written:,}", f"{u.memory_bytes_max / 1e6:,.1f}")  # fmt: skip
    out.print(made)
    made = Table("slowest ms", "p50 ms", "queries", "failed", "CPU s", "MB read", "users", "query", box=None)
    for s in slow:
        made.add_row(f"{s.ms_max:,}", f"{s.ms_p50:,}", f"{s.queries:,}", f"{s.failed:,}", f"{s.cpu_s:,.1f}", f"{s.bytes_read / 1e6:,.1f}", ", ".join(s.users), s.form.replace("[", "\\["))
    out.print(made)
    if not failing:
        return
    made = Table("failed", "error", "last at", "users", "query", box=None)
    for f in failing:
        made.add_row(f"{f.queries:,}", f.error, f.last_at, ", ".join(f.users), f.form.replace("[", "\\["))
    out.print(made)

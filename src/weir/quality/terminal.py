"""The report in a terminal: as tables that are drawn again and again, or as one line for a log. Pure.

In: the newest report and the one before. Out: what rich prints. Keep: what is not known is shown as a question mark, never as zero.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from weir.quality import flow
from weir.quality.judge import Report, Verdict
from weir.quality.recovery import Proof

UNKNOWN = "?"
COLOUR = {Verdict.YES: "green", Verdict.NO: "red", Verdict.UNKNOWN: "yellow"}
LAGGING = {flow.Unit.RECORDS: 10_000, flow.Unit.BYTES: 64_000_000, flow.Unit.MS: 30_000}  # shown in yellow from here on


def age(ms: float | None, *, unknown: str = UNKNOWN, decimals: int = 1) -> str:
    """Return a duration for reading; `decimals` of its seconds."""
    if ms is None:
        return unknown
    for limit, divisor, unit in ((1000, 1, "ms"), (120_000, 1000, "s"), (7_200_000, 60_000, "min"), (172_800_000, 3_600_000, "h")):
        if ms < limit:
            return f"{ms / divisor:.{decimals if unit == 's' else 0}f} {unit}"
    return f"{ms / 86_400_000:.0f} d"


def past(at_ms: int | None, now_ms: int) -> str:
    """Return how long ago that was, for reading; never, when there is no time. Pure."""
    return "never" if at_ms is None else f"{age(max(0, now_ms - at_ms), decimals=0)} ago"


def recovery_lines(proofs: Sequence[Proof], now_ms: int) -> list[str]:
    """Return for each experiment when recovery was last proven, and what the newest run said when that was not yes. Pure."""
    lines = []
    for p in proofs:
        newest = "" if p.verdict in {None, Verdict.YES} else f"; its newest run, {past(p.at_ms, now_ms)}, says {p.verdict}: {p.reason}"
        failed = "" if p.failed_at_ms in {None, p.at_ms} else f"; failed {past(p.failed_at_ms, now_ms)}: {p.failed_reason}"
        lines.append(f"recovery {p.experiment}: proven {past(p.proven_at_ms, now_ms)}{failed}{newest}")
    return lines


def number(value: float | None) -> str:
    """Return a count for reading."""
    return UNKNOWN if value is None else f"{value:,.0f}"


def lag(found: flow.Lag | None, *, unknown: str = UNKNOWN) -> str:
    """Return how far a stage is behind its input, with the unit; a dash for the stage that has none. Pure."""
    if found is None:
        return "-"
    if found.value is None:
        return unknown
    match found.unit:
        case flow.Unit.MS:
            return age(found.value)
        case flow.Unit.BYTES:
            return f"{found.value / 1e3:,.1f} kB of WAL"
        case _:
            return f"{found.value:,} records"


def rows(report: Report) -> list[str]:
    """Return the reconciled tables as `users 943 = 943`, with a ≠ where source and sink differ."""
    found = []
    for t in report.tables:
        known = t.source_rows is not None and t.sink_rows is not None
        sign = UNKNOWN if not known else "=" if t.source_rows == t.sink_rows else "≠"
        found.append(f"{t.table} {number(t.source_rows)} {sign} {number(t.sink_rows)}")
    landed = [p.landed_rows for p in report.partitions]
    known_rows = [n for n in landed if n is not None]
    total = sum(known_rows) if known_rows and len(known_rows) == len(landed) else None
    refused = None if report.quarantine is None else sum(report.quarantine.values())
    return [*found, f"landed rows {number(total)}", f"quarantine {number(refused)}"]


def _stages(stages: Sequence[flow.StageFlow]) -> Table:
    table = Table("stage", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("per second", "lag", "gone in"):
        table.add_column(heading, justify="right")
    for s in stages:
        style = "yellow" if s.lag and s.lag.value and s.lag.value >= LAGGING[s.lag.unit] else ""
        table.add_row(s.name, number(s.rate), Text(lag(s.lag), style), "-" if not s.eta_s else age(s.eta_s * 1000))
    return table


def _hops(hops: Sequence[flow.HopDelay]) -> Table:
    table = Table("hop", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("newest is old", "behind its input"):
        table.add_column(heading, justify="right")
    for h in hops:
        table.add_row(h.name, age(h.age_ms), age(h.behind_ms))
    return table


def tables(before: Report | None, now: Report) -> RenderableType:
    """Return verdict, stages, hops, and rows of source against sink."""
    side = Table.grid(padding=(0, 4))
    side.add_row(_stages(flow.stages(before, now)), _hops(flow.hops(now)))
    verdict = Text.assemble(("correct: ", "bold"), (str(now.verdict), COLOUR[now.verdict]), f"   {' · '.join(rows(now))}")
    why = [Text(f"  {reason}", "dim") for reason in now.reasons[:2]]
    return Group(side, verdict, *why)


def verdict_lines(now: Report) -> list[str]:
    """Return whether the data is correct, with counts, and what stands against it. Pure."""
    return [f"correct: {now.verdict} · {' · '.join(rows(now))}", *(f"  {reason}" for reason in now.reasons)]


def line(before: Report | None, now: Report) -> str:
    """Return the same as one line of text."""
    speeds = " ".join(f"{s.name} {number(s.rate)}/s" for s in flow.stages(before, now))
    behind = " ".join(f"{h.name.replace(' ', '')} {age(h.behind_ms)}" for h in flow.hops(now))
    waiting = flow.lag(now, flow.STAGE_TOPICS["ingest"])
    why = f" ({now.reasons[0]})" if now.reasons else ""
    return f"correct {now.verdict}{why} · lag {number(waiting)} · behind {behind} · {speeds} · {' · '.join(rows(now))}"

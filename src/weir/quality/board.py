"""What the dashboard shows, gathered: the verdict, services, cost, and the API's p99. Keep: a part that is away gives None, never an error."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from weir.contracts import names
from weir.contracts.endpoints import Endpoints
from weir.contracts.model import POPULARITY, WhyPopularity
from weir.contracts.path import PATH, Stage
from weir.errors import SettingsError
from weir.quality import ask, ask_pipeline, flow, terminal, verdict
from weir.quality.flow import Lag
from weir.quality.judge import Hop, Report
from weir.quality.pipeline import Api, Pipeline, Verified
from weir.telemetry import Telemetry

COST_RECENT_S: Final = 60
P99_MINUTES: Final = 15
STALE_MS: Final = 30_000  # the watcher writes every 2 s and may wait for slow probes

SINCE: Final[Mapping[str, str]] = {
    WhyPopularity.NOTHING_TRAINED: ", since nothing was trained yet",
    WhyPopularity.NOT_BEATEN: ", since no model has beaten it",
    WhyPopularity.ROLLED_BACK: ", since the champion was rolled back by hand",
    WhyPopularity.UNREADABLE: ", since the champion cannot be read",
}

# Which freshness hops speak of a stage's output.
STAGE_HOPS: Final[Mapping[str, tuple[str, ...]]] = {
    "source": ("change committed",),
    "connect": ("change landed", "catalogue landed"),
    "ingest": ("event landed", "change landed"),
    "transform": ("mart user_activity",),
    "features": ("feature written",),
    "serving": ("feature served",),
}


@dataclass(frozen=True, slots=True)
class Board:
    """All that one rendering shows. None: could not be asked."""

    report: Report
    services: Sequence[Mapping[str, Any]] | None
    cost: Sequence[Mapping[str, Any]] | None
    api_p99_ms: float | None
    before: Report | None = None  # the report of the asking before, for rates
    pipeline: Pipeline = field(default_factory=Pipeline)

    @property
    def api(self) -> Api | None:
        """Return what the API said of itself."""
        return self.pipeline.api


@dataclass(frozen=True, slots=True)
class StageRow:
    """One stage as shown."""

    name: str
    services: str
    writes: str
    lag: Lag | None
    freshness: tuple[Hop, ...]


def stage_rows(report: Report, path: Sequence[Stage] = PATH) -> list[StageRow]:
    """Join the path with its lag and freshness. Pure."""
    hops, lags = {h.name: h for h in report.hops}, flow.lags(report)
    rows = []
    for stage in path:
        found = tuple(hops[n] for n in STAGE_HOPS.get(stage.name, ()) if n in hops)
        rows.append(StageRow(stage.name, ", ".join(stage.services), ", ".join(stage.writes), lags.get(stage.name), found))
    return rows


def services(home: Path) -> list[dict[str, Any]] | None:
    """Return the rows of run/services.json, or None."""
    try:
        document = json.loads((home / "run" / "services.json").read_text())
    except (OSError, ValueError):
        return None
    rows = document.get("services", []) if isinstance(document, dict) else document
    rows = [r for r in rows if isinstance(r, dict) and "name" in r]
    stale = isinstance(document, dict) and time.time() * 1000 - float(document.get("written_at_ms", 0)) > STALE_MS
    return [r | {"state": "unknown"} for r in rows] if stale else rows


def cost(url: str) -> list[dict[str, Any]] | None:
    """Return the newest priced sample of each part, largest first; None when there is no recent one."""
    rows = ask.query(
        url,
        "SELECT part, argMax(usd_per_hour, sampled_at) AS usd, argMax(cpu_usd_per_hour, sampled_at) AS cpu,"
        " argMax(memory_usd_per_hour, sampled_at) AS memory, argMax(disk_usd_per_hour, sampled_at) AS disk,"
        " argMax(memory_bytes, sampled_at) AS memory_bytes, argMax(disk_bytes, sampled_at) AS disk_bytes,"
        " argMax(cpu_seconds / seconds, sampled_at) AS cores"
        f" FROM {names.DB_OPS}.cost_samples WHERE sampled_at > now64(3) - INTERVAL {COST_RECENT_S} SECOND GROUP BY part ORDER BY usd DESC",
    )
    return rows or None


def api_p99_ms(url: str) -> float | None:
    """Return the 99th percentile of the API's server spans of the last minutes, in milliseconds."""
    rows = ask.query(
        url,
        f"SELECT quantile(0.99)(Duration) / 1e6 AS v, count() AS n FROM {names.DB_OTEL}.otel_traces"
        f" WHERE ServiceName = 'api' AND SpanKind = 'Server' AND Timestamp > now64(9) - INTERVAL {P99_MINUTES} MINUTE",
    )
    return float(rows[0]["v"]) if rows and rows[0]["n"] else None


def gather(environment: Mapping[str, str] | None = None) -> Board:
    """Ask everything once."""
    env = os.environ if environment is None else environment
    try:
        endpoints = Endpoints.from_environment(env)
    except SettingsError:
        endpoints = Endpoints.local()
    url = endpoints.clickhouse_url
    home = Path(env.get("WEIR_HOME", ".weir"))
    about = ask_pipeline(endpoints, home)
    return Board(verdict(endpoints, home, about=about), services(home), cost(url), api_p99_ms(url), pipeline=about)


def model_line(api: Api | None) -> str:
    """Return which model serves, for reading; why popularity does only where the API knows it. Pure."""
    if api is None or not api.ready:
        return "Recommendations: unknown, the API is not ready"
    by = f"model {api.model_version} (champion)" if api.model_version != POPULARITY else f"popularity{SINCE.get(api.why_popularity, '')}"
    return f"Recommendations: by {by}, over {api.items:,} items"


def checked_line(report: Report) -> str:
    """Return within which time every landed row below the marks was checked, for reading. Pure."""
    if report.checked_since_ms is None:
        return "Landed rows: none is below a mark"
    return f"Landed rows: each below the marks was checked within {terminal.age(report.checked_at_ms - report.checked_since_ms, decimals=0)}"


def verified_through_ms(verified: Sequence[Verified] | None) -> int | None:
    """Return the earliest, over tables and views, of the times they were verified through; None when one never was, or none was asked. Pure."""
    times = [v.through_ms for v in verified or ()]
    known = [t for t in times if t is not None]
    return min(known) if known and len(known) == len(times) else None


class Latest:
    """The newest board, asked for in the background so that a page never waits or greys out while a part is away.

    Asking stops when nobody has looked for IDLE_S, and goes on with the next look.
    """

    IDLE_S: Final = 30.0
    EVERY_S: Final = 2.0

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._board: Board | None = None
        self._looked_at = 0.0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def look(self) -> Board:
        """Return the newest board; only the first look, or one after a pause, waits for the asking."""
        resumed = time.monotonic() - self._looked_at > self.IDLE_S
        self._looked_at = time.monotonic()
        if self._board is None or resumed:
            self._board = self._gather()
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="board", daemon=True)
                self._thread.start()
        return self._board

    def _run(self) -> None:
        while time.monotonic() - self._looked_at < self.IDLE_S:
            before = self._board.report if self._board else None
            self._board = replace(self._gather(), before=before)
            time.sleep(self.EVERY_S)

    def _gather(self) -> Board:
        began = time.monotonic()
        with self._telemetry.span("weir.dashboard.look") as span:
            board = gather()
            span.set_attribute("verdict", str(board.report.verdict))
        self._telemetry.record("weir.dashboard.look_s", time.monotonic() - began)
        return board

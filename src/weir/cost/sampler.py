"""Measures what each service uses, and writes it priced to ops.cost_samples.

In: pids of the services and of the supervisor. Out: `Usage`s, rows. Keep: a process that ends between two readings costs nothing rather than an
error; a part's children count as the part; the supervisor and all that it runs beside the services is one part, `platform`, so that the parts add up.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import psutil

from weir.contracts import names, tls
from weir.contracts.clickhouse import parse, statements
from weir.cost.pricing import Prices, Usage, price
from weir.errors import Unavailable

DDL: Final = Path(__file__).resolve().parents[3] / "cost" / "ddl"

PLATFORM: Final = "platform"
# Folders of WEIR_HOME whose bytes are a part's.
FOLDERS: Final[Mapping[str, tuple[str, ...]]] = {name: (name,) for name in ("postgres", "kafka", "connect", "clickhouse", "redis", "features")} | {
    PLATFORM: ("logs", "run", "mlflow", "models", "evidence")}


@dataclass(frozen=True, slots=True)
class Reading:
    """Counters of one part at one moment. `cpu` holds CPU seconds by (pid, start time), since pids come again."""

    at: float
    cpu: Mapping[tuple[int, float], float]
    memory_bytes: int
    memory_kind: str
    disk_bytes: int


def pids(home: Path) -> dict[str, int]:
    """Return the services' pids from run/services.json; empty when there is none."""
    try:
        document = json.loads((home / "run" / "services.json").read_text())
    except (OSError, ValueError):
        return {}
    rows = document.get("services", []) if isinstance(document, dict) else document
    return {r["name"]: int(r["pid"]) for r in rows if r.get("pid")}


def folder_bytes(path: Path) -> int:
    """Return the bytes that the files under `path` take on disk."""
    total = 0
    for root, _, files in os.walk(path):
        for name in files:
            try:
                total += os.lstat(os.path.join(root, name)).st_blocks * 512  # noqa: PTH118 - a Path a file is slow in a loop over thousands
            except OSError:
                continue
    return total


def family(pid: int) -> list[psutil.Process]:
    """Return a process and its descendants; none when it has ended."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return []


def beside(home: Path, services: Mapping[str, int]) -> list[psutil.Process]:
    """Return the supervisor, and every process under it that is no service's."""
    try:
        supervisor = psutil.Process(int((home / "run" / "supervisord.pid").read_text()))
        children = supervisor.children()
    except (OSError, ValueError, psutil.Error):
        return []
    own = [c for c in children if c.pid not in services.values() and _program(c) not in services]
    return [supervisor, *(p for child in own for p in family(child.pid))]


def _program(process: psutil.Process) -> str:
    """Return the name under which the supervisor runs it: a service that has just started anew is not in services.json yet by its pid."""
    try:
        return str(process.environ().get("SUPERVISOR_PROCESS_NAME", ""))
    except (OSError, psutil.Error):
        return ""


def read(processes: Sequence[psutil.Process], folders: Sequence[Path] = ()) -> Reading:
    """Read the counters of some processes, and the bytes of some folders."""
    cpu: dict[tuple[int, float], float] = {}
    memory, kind = 0, "pss"
    for process in processes:
        try:
            times = process.cpu_times()
            cpu[process.pid, process.create_time()] = times.user + times.system
            try:
                memory += process.memory_full_info().pss
            except (psutil.AccessDenied, AttributeError):
                memory, kind = memory + process.memory_info().rss, "rss"
        except psutil.Error:
            continue
    return Reading(time.monotonic(), cpu, memory, kind, sum(folder_bytes(f) for f in folders))


def between(part: str, before: Reading, after: Reading) -> Usage:
    """Return what was used between two readings. Pure. A process that is new counts from its start, one that ended not at all."""
    used = sum(max(0.0, seconds - before.cpu.get(key, 0.0)) for key, seconds in after.cpu.items())
    return Usage(part, after.at - before.at, used, after.memory_bytes, after.memory_kind, after.disk_bytes)


def rows(usages: Sequence[Usage], prices: Prices, now: float) -> list[dict[str, object]]:
    """Return the rows of ops.cost_samples. Pure."""
    found: list[dict[str, object]] = []
    for usage in usages:
        cost = price(usage, prices)
        found.append(
            {
                "sampled_at": round(now, 3),
                "part": usage.part,
                "seconds": usage.seconds,
                "cpu_seconds": usage.cpu_seconds,
                "memory_bytes": usage.memory_bytes,
                "memory_kind": usage.memory_kind,
                "disk_bytes": usage.disk_bytes,
                "cpu_usd_per_hour": cost.cpu,
                "memory_usd_per_hour": cost.memory,
                "disk_usd_per_hour": cost.disk,
                "usd_per_hour": cost.total,
            }
        )
    return found


class Sampler:
    """Readings of the last round, and the next."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._last: dict[str, Reading] = {}

    def sample(self, services: Mapping[str, int] | None = None) -> list[Usage]:
        """Return the usage of each part since the last call; a part seen for the first time is only remembered."""
        running = pids(self._home) if services is None else services
        parts = {name: family(pid) for name, pid in running.items()}
        if others := beside(self._home, running):
            parts[PLATFORM] = others
        found = {name: read(processes, [self._home / f for f in FOLDERS.get(name, ())]) for name, processes in parts.items()}
        usages = [between(n, self._last[n], r) for n, r in found.items() if n in self._last]
        self._last = found
        return usages


def write(clickhouse_url: str, samples: Sequence[Mapping[str, object]]) -> None:
    """Create the table when it is missing, and insert.

    Raises:
        Unavailable: ClickHouse did not take them.
    """
    server = parse(clickhouse_url)
    wanted = [f"CREATE DATABASE IF NOT EXISTS {names.DB_OPS} ENGINE = Atomic", *statements(DDL)]
    body = "\n".join(json.dumps(dict(s)) for s in samples)
    wanted.append(f"INSERT INTO {names.DB_OPS}.cost_samples FORMAT JSONEachRow\n{body}")
    try:
        with httpx.Client(base_url=server.base_url, auth=server.auth, timeout=10, verify=tls.context()) as client:
            for statement in wanted:
                client.post("/", content=statement.encode()).raise_for_status()
    except httpx.HTTPError as error:
        raise Unavailable(f"ClickHouse did not take the cost samples: {error}", hint="./weir logs clickhouse shows why") from error

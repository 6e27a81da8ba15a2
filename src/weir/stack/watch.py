"""The health watcher: probes each service, restarts one of ours that hangs, tries a failed one again, and writes what it sees.

In: the settings. Out: WEIR_HOME/run/services.json, rewritten each round. Keep: a service is restarted only after it was ready once and
then missed `MISSES` probes in a row, since a slow start is not a hang; a process that followed a killed one starts anew.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from weir.errors import WeirError
from weir.stack import external, probe, services, settings, supervision
from weir.stack.states import ServiceState, masked
from weir.telemetry import setup
from weir.telemetry.companion import begin

ROUND_S = 2.0
MISSES = 15  # times 2 s, and each probe waits 2 s: 30 to 60 s of silence; a paused ClickHouse must not be restarted under an experiment
FATAL_RETRY_S = 30.0

log = logging.getLogger("weir.watch")


def judge(process: supervision.ProcessState | None, *, answers: bool) -> str:
    """Return the state's word from Supervisor's view and the probe. Pure."""
    if process is None or process.state in {"STOPPED", "EXITED", "STOPPING"}:
        return "stopped"
    if process.state == "FATAL":
        return "failed"
    if answers and process.state in {"RUNNING", "STARTING"}:
        return "ready"
    return "starting" if process.state in {"STARTING", "BACKOFF"} else "unhealthy"


def observe(specs: Sequence[services.ServiceSpec], home: Path) -> list[ServiceState]:
    """Return the state of every local service now; all are stopped when no supervisor answers."""
    try:
        states = supervision.Control(home).states()
    except WeirError:
        states = {}
    with ThreadPoolExecutor(max_workers=12) as pool:
        answers = list(pool.map(lambda s: s.name in states and probe.ready(s.probe), specs))
        told = list(pool.map(lambda s: probe.health(s.health) if s.health and s.name in states else probe.Health(), specs))
    rows = []
    for spec, answer, health in zip(specs, answers, told, strict=True):
        process = states.get(spec.name)
        state, why = degraded(spec.name, judge(process, answers=answer), *health)
        rows.append(ServiceState(spec.name, state, process.pid if process else 0, spec.endpoint, why))
    return rows


def everything(specs: Sequence[services.ServiceSpec], configured: settings.StackSettings) -> list[ServiceState]:
    """Return the state of every service now: the local ones, then those that are somebody else's."""
    return [*observe(specs, configured.home), *external.rows(configured)]


def degraded(name: str, state: str, trouble: Sequence[str], notes: Sequence[str] = ()) -> tuple[str, str]:
    """Return a service's state and why, given what its health document says has stopped, and what it says of parts that are well. Pure."""
    if state != "ready" or not trouble:
        return state, "; ".join(notes) if state == "ready" else ""
    return "degraded", f"{'; '.join(trouble)}: mend that (./weir logs {name} tells more), it is tried again by itself; then ./weir status"


def write(rows: Sequence[ServiceState], home: Path) -> None:
    """Write services.json atomically. Endpoints' passwords are left out: the file is for showing."""
    path = home / "run" / "services.json"
    document = [asdict(r) | {"endpoint": masked(r.endpoint)} for r in rows]
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({"written_at_ms": int(time.time() * 1000), "services": document}))
    temporary.replace(path)


class Watcher:
    """Counts misses per service and decides restarts. Clock is an argument."""

    def __init__(self) -> None:
        self._misses: dict[str, int] = {}
        self._ready_pid: dict[str, int] = {}  # the process that was ready; another one has yet to become so
        self._tried_s: dict[str, float] = {}

    def due(self, rows: Sequence[ServiceState], now_s: float) -> list[tuple[str, str]]:
        """Return (name, 'restart' or 'start') for the services to act on at `now_s`."""
        actions = []
        for row in rows:
            if row.state in {"ready", "degraded"}:
                self._misses[row.name] = 0
                self._ready_pid[row.name] = row.pid
            elif row.state == "unhealthy" and self._ready_pid.get(row.name) == row.pid:
                self._misses[row.name] = self._misses.get(row.name, 0) + 1
                if self._misses[row.name] >= MISSES:
                    self._misses[row.name] = 0
                    actions.append((row.name, "restart"))
            elif row.state == "failed" and now_s - self._tried_s.get(row.name, 0.0) >= FATAL_RETRY_S:
                self._tried_s[row.name] = now_s
                actions.append((row.name, "start"))
        return actions


def main() -> None:
    """Watch until SIGTERM."""
    ended = begin()
    configured = settings.load()
    specs = services.build(configured)
    control = supervision.Control(configured.home)
    watcher, telemetry = Watcher(), setup("watch", otlp_url=configured.endpoints.otlp_url)
    while not ended.wait(ROUND_S):
        with telemetry.span("weir.watch.round"):
            rows = everything(specs, configured)
            write(rows, configured.home)
        for row in rows:
            telemetry.gauge("weir.watch.ready", int(row.state in {"ready", "degraded", external.ANSWERS}), {"service": row.name})
        for name, action in watcher.due(rows, time.monotonic()):
            log.warning("%s: %s", name, "silent, restarting it" if action == "restart" else "failed before, starting it again")
            telemetry.count("weir.watch.restarts", 1, {"service": name})
            try:
                if action == "restart":
                    control.stop(name)
                control.start(name)
            except WeirError:
                log.exception("could not %s %s", action, name)
    telemetry.shutdown()


if __name__ == "__main__":
    main()

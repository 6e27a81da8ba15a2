"""One service's start, from asking for it until it is ready or has failed.

In: its spec and what the supervisor says of it. Out: ready or not yet, or a failure that carries the end of its log. Keep: one that ended once may still come; one that
ends again and again is told after a few seconds and not after all the time that a slow start may take.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from weir.errors import ServiceFailed
from weir.stack import logs, probe, services
from weir.stack.services import ServiceSpec
from weir.stack.supervision import ProcessState
from weir.stack.watch import judge

DEATHS = 4  # a service that ended so often at its start, about 6 s of pauses apart, will not come
PROBE_S = 0.5

Report = Callable[[str, str], None]  # (service, what happened)


def failure(home: Path, name: str, what: str, why: str) -> ServiceFailed:
    """Return the failure of a start: `what` happened, and how its log ends (or `why`, where it wrote none)."""
    said = " | ".join(line.strip()[-160:] for line in logs.tail(home, name, 3).splitlines()) or why or "it wrote no log"
    log = services.log_path(home, name)
    return ServiceFailed(f"{name} {what}; its log {log} ends with: {said}", hint=f"./weir logs {name} shows more, ./weir down ends the rest", service=name)


class Start:
    """One service that was just asked for."""

    def __init__(self, home: Path, spec: ServiceSpec, report: Report) -> None:
        self._home, self._spec, self._report = home, spec, report
        self._deaths: set[int] = set()
        self._began = time.monotonic()

    def ready(self, process: ProcessState) -> bool:
        """Say whether it is ready, which is told once; `process` is what the supervisor says of it now.

        Raises:
            ServiceFailed: it ended too often, or it took longer than `slow_s`.
        """
        name, took_s = self._spec.name, time.monotonic() - self._began
        if judge(process, answers=probe.ready(self._spec.probe, PROBE_S)) == "ready":
            self._report(name, f"ready in {took_s:.1f} s")
            return True
        if process.state == "BACKOFF":
            self._died(process)
        if process.state == "FATAL" or len(self._deaths) >= DEATHS or took_s > self._spec.slow_s:
            ended = process.state == "FATAL" or bool(self._deaths)
            raise failure(self._home, name, "ended at its start" if ended else f"was not ready within {self._spec.slow_s} s", process.why)
        return False

    def _died(self, process: ProcessState) -> None:
        if not self._deaths:
            self._report(self._spec.name, f"ended at its start, trying again: {logs.tail(self._home, self._spec.name)[-200:] or process.why}")
        self._deaths.add(process.started_at_s)

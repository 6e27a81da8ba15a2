"""One service, or one companion, stopped and started anew.

In: a name of `services.names`. Out: that program, ready. Keep: what does not come back is told, with where to look.
"""

from __future__ import annotations

import time

from weir.stack import services, supervision
from weir.stack.settings import StackSettings
from weir.stack.starting import Report, Start, failure

EVERY_S = 0.1
COMPANION_S = 2 * supervision.LASTING_S


def restart(settings: StackSettings, name: str, report: Report) -> None:
    """Stop and start `name`; wait until its probe answers or, for a companion, which has none, until its start has lasted.

    Raises:
        ServiceFailed: it ended at its start, or did not come back in its time. Unavailable: no supervisor answers.
    """
    spec = next((s for s in services.build(settings) if s.name == name), None)
    control = supervision.Control(settings.home)
    report(name, "stopping")
    control.stop(name)
    report(name, "starting")
    control.start(name)
    start = Start(settings.home, spec, report) if spec else _Companion(settings, name, report)
    while not start.ready(control.states()[name]):
        time.sleep(EVERY_S)


class _Companion:
    """The start of what has no probe."""

    def __init__(self, settings: StackSettings, name: str, report: Report) -> None:
        self._home, self._name, self._report = settings.home, name, report
        self._deadline = time.monotonic() + COMPANION_S

    def ready(self, process: supervision.ProcessState) -> bool:
        """Say whether the supervisor counts its start, which is told once.

        Raises:
            ServiceFailed: it ended again, or its start did not count in time.
        """
        if process.state in {"BACKOFF", "FATAL", "EXITED"}:
            raise failure(self._home, self._name, "ended at its start", process.why)
        if process.state != "RUNNING" and time.monotonic() > self._deadline:
            raise failure(self._home, self._name, f"was not ready within {COMPANION_S} s", process.why)
        if process.state == "RUNNING":
            self._report(self._name, "ready")
        return process.state == "RUNNING"

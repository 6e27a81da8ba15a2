"""One service, or one companion, stopped and started anew.

In: a name of `services.names`. Out: that program, ready. Keep: what does not come back is told, with where to look.
"""

from __future__ import annotations

import time

from weir.errors import ServiceFailed
from weir.stack import probe, services, supervision
from weir.stack.lifecycle import Report
from weir.stack.settings import StackSettings


def restart(settings: StackSettings, name: str, report: Report) -> None:
    """Stop and start `name`; wait until its probe answers or, for a companion, which has none, until its start has lasted.

    Raises:
        ServiceFailed: it did not come back in its time. Unavailable: no supervisor answers.
    """
    spec = next((s for s in services.build(settings) if s.name == name), None)
    slow_s = spec.slow_s if spec else 2 * supervision.LASTING_S
    control = supervision.Control(settings.home)
    report(name, "stopping")
    control.stop(name)
    report(name, "starting")
    control.start(name)
    deadline = time.monotonic() + slow_s
    while not (probe.ready(spec.probe) if spec else _lasted(control, name)):
        if time.monotonic() > deadline:
            raise ServiceFailed(f"{name} did not become ready in {slow_s} s", hint=f"./weir logs {name} shows why", service=name)
        time.sleep(0.1)
    report(name, "ready")


def _lasted(control: supervision.Control, name: str) -> bool:
    """Say whether the supervisor counts the start of `name`.

    Raises:
        ServiceFailed: it ended again.
    """
    state = control.states()[name].state
    if state in {"BACKOFF", "FATAL", "EXITED"}:
        raise ServiceFailed(f"{name} ended at its start", hint=f"./weir logs {name} shows why", service=name)
    return state == "RUNNING"

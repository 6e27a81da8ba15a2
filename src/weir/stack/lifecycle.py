"""Bring the whole stack up by readiness, and down without a trace.

In: settings and specs. Out: every service ready, with topics, database, connector and landing tables in place. Keep: `up` twice is
harmless; a stack that was killed is swept first; `down` leaves no process and no port.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import psutil
import tenacity

from weir.errors import PortTaken, ServiceFailed, Terminal, Transient, WeirError
from weir.stack import probe, services, supervision
from weir.stack.services import ServiceSpec
from weir.stack.settings import StackSettings
from weir.stack.watch import judge

HOOK_S = 60  # PostgreSQL replays at most max_wal_size (1 GB) after a kill

Report = Callable[[str, str], None]  # (service, what happened)


def after_ready(settings: StackSettings) -> dict[str, Callable[[], None]]:
    """Return what must be done once a service is ready and before those that need it: topics, schema, connector."""
    from weir.connect import register
    from weir.ingest import schema

    e = settings.endpoints
    return {
        "postgres": lambda: register.ensure_database(e, settings.home),
        "kafka": lambda: register.ensure_topics(e),
        "clickhouse": lambda: schema.apply(e.clickhouse_url),
        "connect": lambda: register.ensure_connector(e, settings.home),
    }


def patiently(act: Callable[[], None]) -> None:
    """Do it, and again while it fails with `Transient`: a server that listens may still be recovering (PostgreSQL after a kill).

    Raises:
        Transient: it still failed after HOOK_S. Whatever else `act` raises, at once.
    """
    tenacity.retry(
        retry=tenacity.retry_if_exception_type(Transient), wait=tenacity.wait_exponential(0.1, max=2), stop=tenacity.stop_after_delay(HOOK_S), reraise=True
    )(act)()


def tail(home: Path, name: str, lines: int = 1) -> str:
    """Return the last non-empty lines of a service's log."""
    path = services.log_path(home, name)
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 65536))
        text = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return "\n".join(text[-lines:])


def _check_ports(specs: Sequence[ServiceSpec]) -> None:
    for spec in specs:
        if probe.port_taken(spec.endpoint):
            raise PortTaken(
                f"{spec.name}'s port {spec.endpoint.rsplit(':', 1)[-1].split('/')[0]} is taken by another process",
                hint="end that process, or set WEIR_PORT_BASE to a free range of 20 ports",
                service=spec.name,
            )


class _Bringing:
    """One run of `up`: which services wait, start, are ready."""

    def __init__(self, settings: StackSettings, specs: Sequence[ServiceSpec], report: Report) -> None:
        self.settings, self.specs, self.report = settings, specs, report
        self.control = supervision.Control(settings.home)
        self.hooks = after_ready(settings)
        self.waiting = {s.name: s for s in specs}
        self.starting: dict[str, tuple[ServiceSpec, float]] = {}
        self.hooking: dict[str, Future[None]] = {}
        self.ready: set[str] = set()

    def run(self) -> None:
        with ThreadPoolExecutor(max_workers=6) as pool:
            for name in self.settings.external:
                if name in self.hooks:
                    patiently(self.hooks[name])
            while len(self.ready) < len(self.specs):
                self._start_due()
                self._probe_started(pool)
                self._collect_hooks()
                time.sleep(0.05)

    def _start_due(self) -> None:
        for name in [n for n, s in self.waiting.items() if self.ready.issuperset(s.needs)]:
            spec = self.waiting.pop(name)
            self.control.start(name)
            self.starting[name] = (spec, time.monotonic())

    def _probe_started(self, pool: ThreadPoolExecutor) -> None:
        states = self.control.states()
        for name, (spec, since) in list(self.starting.items()):
            if judge(states.get(name), answers=probe.ready(spec.probe, 0.5)) == "ready":
                del self.starting[name]
                self.report(name, f"ready in {time.monotonic() - since:.1f} s")
                self.hooking[name] = pool.submit(patiently, self.hooks.get(name, lambda: None))
            elif states[name].state == "FATAL" or time.monotonic() - since > spec.slow_s:
                why = tail(self.settings.home, name) or states[name].why
                raise ServiceFailed(f"{name} did not become ready: {why[-300:]}", hint=f"./weir logs {name} shows more", service=name)

    def _collect_hooks(self) -> None:
        for name, future in list(self.hooking.items()):
            if future.done():
                future.result()
                del self.hooking[name]
                self.ready.add(name)


def up(settings: StackSettings, report: Report) -> list[ServiceSpec]:
    """Start what is not running and wait until all are ready; return the specs.

    Raises:
        PortTaken: a port is in use. ServiceFailed: a service died or was too slow; the rest is left running for a look.
    """
    control = supervision.Control(settings.home)
    specs = services.build(settings)
    if not control.alive():
        swept = supervision.sweep(settings.home)
        if swept:
            report("stack", f"ended {swept} processes that an earlier stack left behind")
        _check_ports(specs)
        for spec in specs:
            if spec.prepare is not None:
                spec.prepare()
        specs = services.build(settings)  # again: a class path is known only once its jars are there
        text = supervision.configuration(specs, services.companions(settings), settings.home)
        supervision.spawn(settings.home, text, {**os.environ, **services.environment(settings)})
    _Bringing(settings, specs, report).run()
    for name in services.companions(settings):
        control.start(name)
    return specs


def down(settings: StackSettings, report: Report) -> None:
    """End every service, the newest first, then the supervisor; then whatever a killed stack left.

    Raises:
        Terminal: something of this stack still runs.
    """
    control = supervision.Control(settings.home)
    if control.alive():
        pid = int(supervision.pid_path(settings.home).read_text())
        names = [*services.companions(settings), *(s.name for s in reversed(services.build(settings)))]
        for batch in (names[:-5], names[-5:]):  # readers and workers before the stores that they flush to
            with ThreadPoolExecutor(max_workers=len(batch)) as pool:
                list(pool.map(lambda n: _stop(control, n), batch))
        control.shutdown()
        deadline = time.monotonic() + 30
        while _runs(pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        if _runs(pid):
            raise Terminal(f"the supervisor (pid {pid}) did not end in 30 s", hint=f"kill {pid}, then ./weir down again")
    supervision.sweep(settings.home)
    (settings.home / "run" / "services.json").unlink(missing_ok=True)
    report("stack", "down")


def _runs(pid: int) -> bool:
    """Say whether the process still runs; one that has ended and waits to be reaped (by us, when `up` ran here too) does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _stop(control: supervision.Control, name: str) -> None:
    try:
        control.stop(name)
    except WeirError:
        return  # shutdown() below ends what could not be stopped one by one

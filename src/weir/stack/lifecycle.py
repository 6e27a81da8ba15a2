"""Bring the whole stack up by readiness, and down without a trace.

In: settings and specs. Out: every service ready, with topics, database, connector and landing tables in place. Keep: `up` twice is
harmless; a stack that was killed is swept first; an `up` that is interrupted takes back what it started; `down` leaves no process and no port.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import tenacity

from weir.connect import jars, postgres
from weir.contracts.endpoints import PORT_OFFSETS
from weir.errors import DiskFull, PortTaken, Terminal, Transient, WeirError
from weir.stack import external, gone, probe, running, services, supervision, usual
from weir.stack.services import ServiceSpec
from weir.stack.settings import StackSettings
from weir.stack.starting import Report, Start

HOOK_S = 60  # PostgreSQL replays at most max_wal_size (1 GB) after a kill
DISK_BYTES = 1 << 30  # a demo's data and logs took 0.2 GB, and PostgreSQL's WAL may grow by 1 GB; a full disk stops PostgreSQL and Kafka hard
TOLD_S = 5.0  # a start that tells nothing for so long tells what it waits for


@dataclass
class Started:
    """What one `up` did: whether the stack is its own, the supervisor that runs it, and the seconds that went into downloads."""

    ours: bool = False
    supervisor: psutil.Process | None = None
    downloading_s: float = 0.0

    @property
    def ended(self) -> bool:
        """Say whether the supervisor that `up` left running has ended since, whoever ended it."""
        return self.supervisor is not None and not _runs(self.supervisor)


def after_ready(settings: StackSettings) -> dict[str, Callable[[], None]]:
    """Return what must be done once a service is ready and before those that need it: topics, schema, connector."""
    from weir.connect import register

    e = settings.endpoints
    return {
        "postgres": lambda: register.ensure_database(e, settings.home),
        "kafka": lambda: register.ensure_topics(e),
        "clickhouse": lambda: _tables(settings),
        "connect": lambda: register.ensure_connector(e, settings.home),
    }


def _tables(settings: StackSettings) -> None:
    from weir.ingest import schema
    from weir.stack import restore

    schema.apply(settings.endpoints.clickhouse_url)
    if "clickhouse" not in settings.external:
        restore.tell_ingest(settings.home, settings.endpoints.clickhouse_url)


def patiently(act: Callable[[], None]) -> None:
    """Do it, and again while it fails with `Transient`: a server that listens may still be recovering (PostgreSQL after a kill).

    Raises:
        Transient: it still failed after HOOK_S. Whatever else `act` raises, at once.
    """
    tenacity.retry(
        retry=tenacity.retry_if_exception_type(Transient), wait=tenacity.wait_exponential(0.1, max=2), stop=tenacity.stop_after_delay(HOOK_S), reraise=True
    )(act)()


def ports(spec: ServiceSpec) -> list[int]:
    """Return the ports that a service listens on: its endpoint's, and Kafka's controller's. Pure."""
    port = urlsplit(spec.endpoint if "//" in spec.endpoint else f"//{spec.endpoint}").port or 0
    return [port, port + PORT_OFFSETS["kafka_controller"] - PORT_OFFSETS["kafka"]] if spec.name == "kafka" else [port]


def _check_ports(specs: Sequence[ServiceSpec]) -> None:
    for spec in specs:
        for port in ports(spec):
            if probe.port_taken(f"127.0.0.1:{port}"):
                raise PortTaken(
                    f"{spec.name}'s port {port} is taken by {probe.holder(port)}",
                    hint="end that process, or set WEIR_PORT_BASE to the start of a free range of 20 ports", service=spec.name, port=port,
                )


def _check_disk(home: Path) -> None:
    free = shutil.disk_usage(home).free
    if free < DISK_BYTES:
        raise DiskFull(
            f"{free >> 20} MB are free on the disk of WEIR_HOME at {home}, and the stack needs {DISK_BYTES >> 20} MB",
            hint="free some, ./weir clean deletes an old stack's data, or set WEIR_HOME to a larger disk",
        )


@contextmanager
def turn(home: Path, report: Report) -> Iterator[None]:
    """Let one `up` or `down` of a home work at a time."""
    run = home / "run"
    run.mkdir(parents=True, exist_ok=True)
    with (run / "lifecycle.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("stack", "another ./weir is starting or ending it: waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep a second Ctrl-C, a polite kill, or a terminal that is closed, from stopping the clearing away."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, gone.let_go)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _background(act: Callable[[], None]) -> Future[None]:
    """Run `act` in a thread that nobody waits for when the start is given up."""
    future: Future[None] = Future()

    def run() -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - handed to who asks for the result
            future.set_exception(error)
        else:
            future.set_result(None)

    threading.Thread(target=run, daemon=True, name="hook").start()
    return future


class _Bringing:
    """One run of `up`: which services wait, start, are ready."""

    def __init__(self, settings: StackSettings, specs: Sequence[ServiceSpec], report: Report) -> None:
        self.settings, self.specs, self.report = settings, specs, report
        self.control = supervision.Control(settings.home)
        self.hooks = after_ready(settings)
        self.waiting = {s.name: s for s in specs}
        self.opening: dict[str, tuple[ServiceSpec, Future[None]]] = {}
        self.starting: dict[str, Start] = {}
        self.hooking: dict[str, Future[None]] = {}
        self.ready: set[str] = set()
        self.began = self.told = time.monotonic()
        self.last_s = usual.last(settings.home, "up")

    def run(self) -> None:
        for name in self.settings.external:
            if name in self.hooks:
                self.report(name, "external, answers; being prepared")
                patiently(self.hooks[name])
        while len(self.ready) < len(self.specs):
            self._open_due()
            self._start_opened()
            self._probe_started()
            self._collect_hooks()
            self._tell_waiting(time.monotonic())
            time.sleep(0.05)

    def settle(self) -> None:
        """Wait until nothing is being done before a start any more, so that none of it goes on beside what ends the stack, or the next start."""
        for _, future in self.opening.values():
            future.exception()

    def _tell_waiting(self, now: float) -> None:
        """Tell now and then what is still waited for, and since when."""
        if now - self.told >= TOLD_S and len(self.ready) < len(self.specs):
            self.told = now
            self.report("stack", f"{len(self.ready)} of {len(self.specs)} ready, {self._so_far(now - self.began)}; waiting for {', '.join([*self.opening, *self.starting, *(f'what follows on {n}' for n in self.hooking)])}")

    def _so_far(self, seconds: float) -> str:
        at_this_rate = "" if self.last_s else usual.counted(len(self.ready), len(self.specs), seconds)
        return f"{usual.so_far(seconds, self.last_s)}{at_this_rate and f', {at_this_rate}'}"

    def _open_due(self) -> None:
        for name in [n for n, s in self.waiting.items() if self.ready.issuperset(s.needs)]:
            spec = self.waiting.pop(name)
            self.opening[name] = spec, _background(spec.first or (lambda: None))

    def _start_opened(self) -> None:
        for name, (spec, future) in list(self.opening.items()):
            if future.done():
                del self.opening[name]
                future.result()
                self.control.start(name)
                self.starting[name] = Start(self.settings.home, spec, self.report)

    def _probe_started(self) -> None:
        states = self.control.states()
        for name, start in list(self.starting.items()):
            if start.ready(states[name]):
                del self.starting[name]
                self.hooking[name] = _background(lambda name=name: patiently(self.hooks.get(name, lambda: None)))  # type: ignore[misc]  # (default) binds the name now

    def _collect_hooks(self) -> None:
        for name, future in list(self.hooking.items()):
            if future.done():
                future.result()
                del self.hooking[name]
                self.ready.add(name)


def up(settings: StackSettings, report: Report, started: Started | None = None) -> Started:
    """Start what is not running and wait until all are ready; return what was done, which is also written into `started` as it happens.

    Raises:
        PortTaken: a port is in use. DiskFull, SettingsError, Unavailable (of an external service): nothing was started. ServiceFailed: a service died or was too slow; the rest is
        left running for a look. KeyboardInterrupt: what this call started is ended again.
    """
    done = Started() if started is None else started
    bringing: _Bringing | None = None
    with turn(settings.home, report):
        control = supervision.Control(settings.home)
        done.ours = not control.alive()
        try:
            if not done.ours:
                running.check(settings)
            external.wait(settings, report)
            if done.ours:
                done.downloading_s = _begin(settings, report)
            done.supervisor = _supervisor(settings.home)
            bringing = _Bringing(settings, services.build(settings), report)
            bringing.run()
            if done.ours:
                usual.keep(settings.home, "up", time.monotonic() - bringing.began)
            for name in services.companions(settings):
                control.start(name)
        except KeyboardInterrupt:
            with undisturbed():
                if done.ours:
                    report("stack", "interrupted, ending what was started")
                if bringing is not None:
                    bringing.settle()
                if done.ours:
                    _end(settings, report, whole=False)
            raise
        return done


def _begin(settings: StackSettings, report: Report) -> float:
    """Check that the stack can run, prepare every service, start the supervisor; return the seconds that went into downloads."""
    home = settings.home
    from weir.stack import restore

    restore.check_finished(home)
    with _still(report, "ending what an earlier stack left behind"):
        swept = supervision.sweep(home)
    if swept:
        report("stack", f"ended {swept} processes that an earlier stack left behind")
    specs = services.build(settings)
    _check_disk(home)
    if "postgres" not in settings.external:
        postgres.check_user()
        postgres.check_passable(home)
    _check_ports(specs)
    began_s = time.monotonic()
    if not {"kafka", "connect"} <= settings.external:
        jars.fetch(home, lambda line: report("jars", line))
    downloading_s = time.monotonic() - began_s
    with _still(report, "making every service's files"):
        for spec in specs:
            if spec.prepare is not None:
                spec.prepare()
    specs = services.build(settings)  # again: a class path is known only once its jars are there
    text = supervision.configuration(specs, services.companions(settings), home)
    running.note(settings)
    supervision.spawn(home, text, {**os.environ, **services.environment(settings, "supervisor")})
    return downloading_s


def _still(report: Report, what: str) -> AbstractContextManager[None]:
    return usual.now_and_then(lambda seconds: report("stack", f"{what}, {usual.so_far(seconds, None)}"), TOLD_S)


def down(settings: StackSettings, report: Report) -> None:
    """End every service, the newest first, then the supervisor; then whatever a killed stack left. Harmless when nothing runs.

    Raises:
        Terminal: something of this stack still runs.
    """
    with turn(settings.home, report):
        report("stack", "down" if _end(settings, report) else "was not running")


def _end(settings: StackSettings, report: Report, *, whole: bool = True) -> bool:
    """End whatever runs; say whether anything did, and meanwhile how long that has to go. `whole`: it may be a whole stack, whose time is worth keeping."""
    with usual.phase(settings.home, "down", lambda line: report("stack", f"ending every service, {line}"), TOLD_S) as ending:
        ran, swept = _ended(settings, report, ending.last_s)
        ending.well = ran and whole
    return ran or swept > 0


def _ended(settings: StackSettings, report: Report, last_s: float | None) -> tuple[bool, int]:
    """End it; return whether a supervisor ran, and how many processes it left."""
    control = supervision.Control(settings.home)
    ran = control.alive()
    if ran:
        report("stack", f"ending every service (about {last_s or 10:.0f} s)")
        supervisor = _supervisor(settings.home)
        names = [*services.companions(settings), *(s.name for s in reversed(services.build(settings)))]
        for batch in (names[:-5], names[-5:]):  # readers and workers before the stores that they flush to
            with suppress(WeirError):  # shutdown() ends what could not be stopped in this order
                control.stop(*(control.states().keys() & set(batch)))
        control.shutdown()
        deadline = time.monotonic() + 30
        while supervisor is not None and _runs(supervisor):
            if time.monotonic() > deadline:
                raise Terminal(f"the supervisor (pid {supervisor.pid}) did not end in 30 s", hint=f"kill {supervisor.pid}, then ./weir down again")
            time.sleep(0.05)
    swept = supervision.sweep(settings.home)
    (settings.home / "run" / "services.json").unlink(missing_ok=True)
    running.forget(settings.home)
    return ran, swept


def _supervisor(home: Path) -> psutil.Process | None:
    """Return the process of this home's supervisor; None when it has just ended."""
    try:
        return psutil.Process(int(supervision.pid_path(home).read_text()))
    except (OSError, ValueError, psutil.NoSuchProcess):
        return None


def _runs(process: psutil.Process) -> bool:
    """Say whether the process still runs; one that has ended and waits to be reaped (by us, when `up` ran here too) does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False

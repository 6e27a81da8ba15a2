"""Supervisor (supervisord 4): its configuration from the specs, and talking to it over its socket.

In: `ServiceSpec`s. Out: a running supervisord, process states. Keep: the configuration names every program; the socket is 0600.
Supervisor restarts what dies, waiting one second longer after each start that did not last (`lasting_s`); `weir.stack.watch` adds health.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import xmlrpc.client
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from weir.connect.command import Command
from weir.errors import ServiceFailed, SettingsError, Unavailable
from weir.stack.services import ServiceSpec, log_path

LOG_BYTES = 5 << 20  # each log rotates at 5 MiB and keeps its older files: at most 15 MiB a service
LOG_OLDER = 2
START_RETRIES = 8  # with Supervisor's growing pause: about 36 s of pauses before FATAL, which the watcher tries again each 30 s
LASTING_S = 10  # a start that ends sooner failed, and the next one waits; with less, a service that dies after importing would start for ever without a pause
STOP_S = 60.0  # the longest stopwaitsecs is 20 s; then Supervisor kills
ENDED = {"STOPPED", "EXITED", "FATAL", "UNKNOWN"}
SOCKET_PATH_MAX = 100  # sun_path holds 108 bytes


def socket_path(home: Path) -> Path:
    """Return the control socket's path: under the home, or a short one in /tmp when that is too long for a socket."""
    path = home / "run" / "supervisor.sock"
    if len(str(path)) <= SOCKET_PATH_MAX:
        return path
    return Path("/tmp") / f"weir-{os.geteuid()}-{hashlib.sha256(str(home).encode()).hexdigest()[:12]}.sock"  # noqa: S108 - 0600 socket, uid in its name


def pid_path(home: Path) -> Path:
    """Return supervisord's pid file."""
    return home / "run" / "supervisord.pid"


def _quote(value: str) -> str:
    return '"' + value.replace("%", "%%").replace('"', '\\"') + '"'


def _quote_variable(name: str, value: str) -> str:
    """Quote a variable's value as Supervisor reads it: no escapes, so a value with both kinds of quote cannot be passed."""
    if '"' not in value:
        return f'{name}="{value.replace("%", "%%")}"'
    if "'" in value:
        raise SettingsError(f"{name} holds both kinds of quote", hint="percent-encode them in URLs", key=name)
    return f"{name}='{value.replace('%', '%%')}'"


def lasting_s(slow_s: int) -> int:
    """Return how long a service must live for its start to count: a fifth of what it may take to become ready. Readiness does not wait for it. Pure."""
    return max(LASTING_S, slow_s // 5)


def _program(name: str, command: Command, home: Path, *, stop_signal: str, stop_wait_s: int, start_s: int) -> str:
    child = Path(__file__).with_name("child.py")
    uid = "-" if command.uid is None else str(command.uid)
    argv = [sys.executable, "-I", str(child), uid, f"SIG{stop_signal}", "--", *command.argv]
    words = " ".join(_quote(a) for a in argv)
    variables = ",".join(_quote_variable(k, v) for k, v in sorted(command.env.items()))
    directory = str(command.cwd or home).replace("%", "%%")
    return f"""
[program:{name}]
command={words}
environment={variables}
directory={directory}
autostart=false
autorestart=true
startsecs={start_s}
startretries={START_RETRIES}
stopsignal={stop_signal}
stopwaitsecs={stop_wait_s}
stopasgroup=false
killasgroup=true
redirect_stderr=true
stdout_logfile={str(log_path(home, name)).replace("%", "%%")}
stdout_logfile_maxbytes={LOG_BYTES}
stdout_logfile_backups={LOG_OLDER}
"""


def configuration(specs: Sequence[ServiceSpec], companions: Mapping[str, Command], home: Path) -> str:
    """Return supervisord's configuration file as text. Pure."""
    run = str(home / "run").replace("%", "%%")
    head = f"""[unix_http_server]
file={socket_path(home)}
chmod=0600

[supervisord]
nodaemon=true
silent=true
logfile={str(log_path(home, "supervisord")).replace("%", "%%")}
logfile_maxbytes={LOG_BYTES}
logfile_backups=1
pidfile={run}/supervisord.pid
childlogdir={run}
{"user=root" if os.geteuid() == 0 else ""}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""
    programs = [_program(s.name, s.command, home, stop_signal=s.stop_signal, stop_wait_s=s.stop_wait_s, start_s=lasting_s(s.slow_s)) for s in specs]
    programs += [_program(name, command, home, stop_signal="TERM", stop_wait_s=5, start_s=LASTING_S) for name, command in companions.items()]
    return head + "".join(programs)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(60)
        self.sock.connect(self._path)


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: object) -> http.client.HTTPConnection:  # noqa: ARG002 - the socket is the host
        return _UnixConnection(self._path)


@dataclass(frozen=True, slots=True)
class ProcessState:
    """One program as Supervisor sees it: `state` is its word (RUNNING, STARTING, BACKOFF, FATAL, STOPPED, EXITED), `pid` 0 when none."""

    name: str
    state: str
    pid: int
    started_at_s: int
    why: str


class Control:
    """Calls to one supervisord. Every method raises `Unavailable` when it does not answer."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._path = str(socket_path(home))

    def _call(self, method: str, *arguments: object) -> object:
        proxy = xmlrpc.client.ServerProxy("http://localhost", transport=_UnixTransport(self._path))
        try:
            return getattr(proxy.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            if any(word in fault.faultString for word in ("ALREADY_STARTED", "NOT_RUNNING", "SHUTDOWN_STATE")):
                return False
            raise ServiceFailed(f"the supervisor refused {method}{arguments}: {fault.faultString}", hint="./weir down, then ./weir up") from fault
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable("the supervisor does not answer", hint="is the stack up? ./weir up starts it") from error

    def alive(self) -> bool:
        """Say whether a supervisord answers for this home."""
        try:
            self._call("getState")
        except Unavailable:
            return False
        return True

    def states(self) -> dict[str, ProcessState]:
        """Return the state of every program by name."""
        rows = self._call("getAllProcessInfo")
        assert isinstance(rows, list)  # noqa: S101 - Supervisor's documented answer
        return {r["name"]: ProcessState(r["name"], r["statename"], r["pid"], r["start"], r["spawnerr"]) for r in rows}

    def start(self, name: str) -> None:
        """Ask for `name` to be started; returns at once."""
        self._call("startProcess", name, False)

    def stop(self, *names: str) -> None:
        """Stop programs and wait until all of them have ended.

        They are asked after here: a stopProcess that waits keeps Supervisor's loop turning without a pause (its rpcinterface.py: `onwait.delay = 0`), a whole core of it.

        Raises:
            ServiceFailed: there is no such program. Unavailable: Supervisor does not answer, or they have not ended STOP_S later (it kills what does not end by itself).
        """
        for name in names:
            self._call("stopProcess", name, False)
        deadline = time.monotonic() + STOP_S
        while left := [n for n, state in self.states().items() if n in names and state.state not in ENDED]:
            if time.monotonic() > deadline:
                raise Unavailable(f"{', '.join(left)} did not end in {STOP_S:.0f} s", hint="./weir logs shows what each does; then ./weir down")
            time.sleep(0.1)

    def shutdown(self) -> None:
        """Ask supervisord to end everything and itself."""
        self._call("shutdown")


@contextmanager
def _interrupts_later() -> Iterator[list[int]]:
    """Note SIGINT and SIGTERM in the list instead of raising; in the main thread, where alone they are raised."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = {number: signal.signal(number, lambda n, _: came.append(n)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def spawn(home: Path, text: str, environment: dict[str, str]) -> None:
    """Start supervisord detached and wait until it answers.

    Raises:
        ServiceFailed: it ended or did not answer in 15 s; carries its last line.
    """
    run = home / "run"
    run.mkdir(parents=True, exist_ok=True)
    (home / "logs").mkdir(parents=True, exist_ok=True)
    conf = run / "supervisord.conf"
    conf.touch(mode=0o600)
    conf.write_text(text)
    socket_path(home).unlink(missing_ok=True)
    log = log_path(home, "supervisord")
    before, out = len(_read(log)), log_path(home, "supervisord.out").open("w")
    with _interrupts_later() as interrupted:  # not between the fork and knowing the process
        process = subprocess.Popen(
            [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(conf)],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, env=environment, cwd=home,
        )
    control = Control(home)
    deadline = time.monotonic() + 15
    try:
        if interrupted:
            raise KeyboardInterrupt  # noqa: TRY301 - one place ends the process
        while time.monotonic() < deadline:
            if control.alive():
                return
            if process.poll() is not None:
                break
            time.sleep(0.05)
    except KeyboardInterrupt:  # nobody else knows of it yet
        process.terminate()
        process.wait(15)
        raise
    said = _read(log)[before:] + _read(log_path(home, "supervisord.out"))  # what it says before it has a log comes on its output
    lines = said.strip().splitlines()
    raise ServiceFailed(f"the supervisor did not start: {lines[-1] if lines else 'no output'}", hint=f"its log is {log}")


def _read(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def sweep(home: Path) -> int:
    """End processes that an earlier, killed stack of this home left behind; return how many.

    They are known by the command line that started them through this home's folder, and ended by process id.
    """
    mark = f"WEIR_HOME={home}"
    mine = {os.getpid(), *(p.pid for p in psutil.Process().parents())}
    left = []
    for process in psutil.process_iter(["pid"]):
        if process.pid in mine:
            continue
        try:
            if process.uids().real not in {os.geteuid(), 65534} and os.geteuid() != 0:
                continue
            environ = process.environ()
            if f"WEIR_HOME={environ.get('WEIR_HOME')}" == mark and environ.get("SUPERVISOR_ENABLED"):
                left.append(process)
        except (psutil.Error, OSError):
            continue
    for process in left:
        _signal(process, signal.SIGTERM)
    _, alive = psutil.wait_procs(left, timeout=15)
    for process in alive:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=5)
    return len(left)


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.Error:
        return

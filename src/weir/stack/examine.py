"""`./weir doctor`: what this machine has, what is missing, and how to get it."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil

from weir.connect import jars, postgres
from weir.errors import WeirError
from weir.stack import external, lifecycle, probe, services, supervision
from weir.stack.settings import StackSettings

MEMORY_BYTES = 4 << 30  # what the README asks for; `up` asks for none, so less is told and stops nobody


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: `remedy` says what to do when `state` is not ok. A stack can be started when it is `ok`.

    `state`: ok, `to fetch` (./weir up does that by itself), low (memory: a start is not refused), taken (a port), silent (an external service), or missing.
    """

    what: str
    ok: bool
    remedy: str = ""
    state: str = ""

    def __post_init__(self) -> None:
        """Let the state follow from `ok` where none is given."""
        if not self.state:
            object.__setattr__(self, "state", "ok" if self.ok else "missing")


def _disk(settings: StackSettings) -> Finding:
    """Return whether the disk has what a start asks for; what the environment needs besides is there, or this could not run."""
    free, wanted = shutil.disk_usage(settings.home if settings.home.exists() else settings.root).free, lifecycle.DISK_BYTES
    return Finding(f"disk: {free / 2**30:.1f} GB free of {wanted / 2**30:.0f} wanted", free >= wanted, "free some, ./weir clean, or set WEIR_HOME to a larger disk")


def _memory(*, running: bool) -> Finding:
    """Return how much memory is left; a stack of this home that runs has taken its own already."""
    available = psutil.virtual_memory().available
    if running:
        return Finding(f"memory: {available / 2**30:.1f} GB available beside the stack of this home", ok=True)
    return Finding(f"memory: {available / 2**30:.1f} GB available of {MEMORY_BYTES >> 30} wanted", ok=True, remedy="end something large; the stack at rest takes 3",
                   state="ok" if available >= MEMORY_BYTES else "low")


def _external(settings: StackSettings) -> list[Finding]:
    """Return of each service that is somebody else's whether it answers, as `./weir status` shows it and `./weir up` asks for it."""
    return [Finding(f"{r.name} at {r.endpoint}: {r.state}", r.state == external.ANSWERS, r.why or external.remedy(settings, r.name), "ok" if r.state == external.ANSWERS else "silent")
            for r in external.rows(settings)]


def _ports(settings: StackSettings, *, running: bool) -> Finding:
    """Return whether the ports are free; a stack of this home that runs has them rightly."""
    if running:
        return Finding(f"ports {settings.port_base} to {settings.port_base + 19}: the stack of this home has them", ok=True)
    taken = {port: spec.name for spec in services.build(settings) for port in lifecycle.ports(spec) if probe.port_taken(f"127.0.0.1:{port}")}
    told = ", ".join(f"{name}'s {port} is taken by {probe.holder(port)}" for port, name in taken.items())
    return Finding(told or f"ports {settings.port_base} to {settings.port_base + 19}", not taken, "end it, or set WEIR_PORT_BASE to a free range of 20 ports",
                   "taken" if taken else "ok")


def _passable(settings: StackSettings) -> Finding:
    """Return whether PostgreSQL knows the name of the user it runs as, and that user reaches its data, when root starts it."""
    try:
        if "postgres" not in settings.external:
            postgres.check_user()
            postgres.check_passable(settings.home)
    except WeirError as error:
        return Finding(error.message, ok=False, remedy=error.hint)
    return Finding(f"WEIR_HOME at {settings.home}", ok=True)


def machine() -> dict[str, object]:
    """Return what figures were measured on: processor, cores, memory, Python, kernel, load."""
    model = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    return {"cpu": model, "cores": os.cpu_count(), "memory_gib": round(psutil.virtual_memory().total / 2**30, 1), "python": platform.python_version(),
            "kernel": platform.release(), "load_average": [round(x, 2) for x in os.getloadavg()]}


def examine(settings: StackSettings) -> list[Finding]:
    """Return findings on home, disk, memory, external services, jars, data set, ports and a browser; changes nothing."""
    running = supervision.Control(settings.home).alive()
    wanted = jars.parse(jars.lock_path().read_text())
    there = sum((settings.home / "jars" / j.folder / j.filename).exists() for j in wanted)
    browser = bool(os.environ.get("WEIR_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome") or any(settings.home.glob("browser/chromium-*")))
    return [
        _passable(settings),
        _disk(settings),
        _memory(running=running),
        *_external(settings),
        Finding(f"the demo's data set at {settings.dataset_dir}", settings.dataset_dir.exists(), "it comes with the environment: run ./weir up once with a network"),
        Finding(f"the jars: {there} of {len(wanted)}", ok=True, remedy="./weir up fetches them (needs a network; WEIR_MAVEN_URL names a mirror)",
                state="ok" if there == len(wanted) else "to fetch"),
        _ports(settings, running=running),
        Finding("a browser for the dashboard's test", ok=True, remedy="./weir test fetches one (needs a network); WEIR_CHROMIUM names your own", state="ok" if browser else "to fetch"),
    ]

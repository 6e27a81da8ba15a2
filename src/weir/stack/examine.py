"""`./weir doctor`: what this machine has, what is missing, and how to get it."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

import psutil

from weir.stack import probe, supervision
from weir.stack.settings import StackSettings

DISK_BYTES = 4 << 30
MEMORY_BYTES = 4 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: `remedy` says what to do when not `ok`."""

    what: str
    ok: bool
    remedy: str = ""


def examine(settings: StackSettings) -> list[Finding]:
    """Return findings on disk, memory, jars, data set, ports and a browser; changes nothing."""
    from weir.stack import services

    free = shutil.disk_usage(settings.home if settings.home.exists() else settings.root).free
    running = supervision.Control(settings.home).alive()
    taken = [] if running else [s for s in services.build(settings) if probe.port_taken(s.endpoint)]
    return [
        Finding(f"disk: {free >> 30} GB free", free >= DISK_BYTES, "free 4 GB, or set WEIR_HOME to a larger disk"),
        Finding(
            f"memory: {psutil.virtual_memory().available >> 30} GB available",
            psutil.virtual_memory().available >= MEMORY_BYTES,
            "the stack needs about 4 GB; end something large",
        ),
        Finding("the demo's data set", settings.dataset_dir.exists(), "it comes with the environment: run ./weir up once with a network"),
        Finding("the jars", any((settings.home / "jars").glob("**/*.jar")), "fetched by the first ./weir up (needs a network)"),
        Finding("ports free" if not taken else f"ports: {', '.join(s.name for s in taken)}", not taken, "set WEIR_PORT_BASE to a free range of 20 ports"),
        Finding(
            "a browser for the dashboard's test",
            bool(shutil.which("chromium") or os.environ.get("WEIR_CHROMIUM")),
            "apt install chromium, or set WEIR_CHROMIUM to one",
        ),
    ]

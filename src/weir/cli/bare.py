"""`./weir doctor` while there is no environment: what the first run needs of this machine, and how to get what is missing.

In: what the launcher knows. Out: findings of the form of `stack.examine`'s. Keep: the standard library only, and nothing is made or fetched.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from weir.connect import nameless

MEMORY_BYTES = 4 << 30  # as `stack.examine`
ASKED_S = 30


def finding(what: str, remedy: str, *, ok: bool, state: str = "") -> dict[str, object]:
    """Return one thing looked at; `remedy` is what to do when it is not ok."""
    return {"what": what, "ok": ok, "remedy": "" if ok and not state else remedy, "state": state or ("ok" if ok else "missing")}


def nearest(path: Path) -> Path:
    """Return the folder that is there, on the way to one that may not be."""
    return next(p for p in (path, *path.parents) if p.exists())


def available_bytes(meminfo: str) -> int:
    """Return what the kernel says may be taken without swapping (proc(5), meminfo: MemAvailable, in KiB). Pure."""
    return next((int(line.split()[1]) << 10 for line in meminfo.splitlines() if line.startswith("MemAvailable:")), 0)


def pip() -> list[str]:
    """Return how pip is run here: as installed, or from the wheel that ensurepip brings; nothing when there is neither."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    spec = importlib.util.find_spec("ensurepip")
    folders = [Path(spec.origin or "").parent / "_bundled"] if spec else []
    wheels = [wheel for folder in (*folders, Path("/usr/share/python-wheels")) for wheel in Path(folder).glob("pip-*.whl")]
    return [sys.executable, str(wheels[0] / "pip")] if wheels else []


def _venv() -> dict[str, object]:
    """Return whether an environment can be made (Debian takes ensurepip out of Python)."""
    there = importlib.util.find_spec("ensurepip") is not None and importlib.util.find_spec("venv") is not None
    return finding("Python's venv with ensurepip", "apt install python3-venv (Debian, Ubuntu)", ok=there)


def _registry(package: str, run: list[str]) -> dict[str, object]:
    """Return whether the registry that pip is configured with knows `package`, the first that is needed."""
    remedy = "the first run needs a network, or a mirror set in pip's configuration"
    if not run:
        return finding("the package registry: not asked, for want of pip", remedy, ok=False, state="unknown")
    try:
        command = [*run, "--disable-pip-version-check", "--no-input", "--retries", "0", "--timeout", "10", "index", "versions", package]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=ASKED_S, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return finding(f"the package registry did not answer within {ASKED_S} s", remedy, ok=False)
    if done.returncode:
        return finding("the package registry: pip gets no answer from it that knows what is needed", remedy, ok=False)
    return finding("the package registry that pip is configured with answers", "", ok=True)


def _uid(stopped: Path | None) -> dict[str, object]:
    """Return whether PostgreSQL can be set up by this uid; `stopped` is the folder that its own uid cannot pass when root starts it."""
    if stopped is not None:
        return finding(f"PostgreSQL runs as nobody when started by root, and cannot pass {stopped} on the way to WEIR_HOME",
                       f"chmod o+x {stopped}, or set WEIR_HOME to a place such as /var/lib/weir", ok=False)
    told = nameless.refusal()
    return finding(told or f"uid {os.geteuid()}", nameless.REMEDY, ok=not told)


def examine(base: Path, unfit: str, stopped: Path | None, package: str, disk_bytes: int) -> list[dict[str, object]]:
    """Return findings on system, Python, venv, WEIR_HOME at `base`, disk, memory, uid, registry, and that the environment is to be made."""
    there = nearest(base)
    free, memory = shutil.disk_usage(there).free, available_bytes(Path("/proc/meminfo").read_text())
    return [
        finding(unfit.partition(": ")[0] if unfit else f"Linux {platform.machine()}, Python {platform.python_version()}", unfit.partition(": ")[2], ok=not unfit),
        _venv(),
        finding(f"WEIR_HOME at {base}", "set WEIR_HOME to a folder that you own", ok=there.is_dir() and os.access(there, os.W_OK | os.X_OK)),
        finding(f"disk: {free / 2**30:.1f} GB free of {disk_bytes >> 30} wanted", "free some, or set WEIR_HOME to a larger disk", ok=free >= disk_bytes),
        finding(f"memory: {memory / 2**30:.1f} GB available of {MEMORY_BYTES >> 30} wanted", "end something large; the stack at rest takes 3", ok=True,
                state="low" if memory < MEMORY_BYTES else ""),
        _uid(stopped),
        _registry(package, pip()),
        finding("the environment is not made yet", "./weir up makes it and fetches what it needs; ./weir doctor then looks at ports, jars and the data set too", ok=True,
                state="to fetch"),
    ]


def told(findings: list[dict[str, object]], *, as_json: bool) -> str:
    """Return the findings as the command prints them. Pure."""
    if as_json:
        return json.dumps(findings, indent=2)
    return "\n".join(f"  {f['state']:<8} {f['what']}{': ' + str(f['remedy']) if f['remedy'] else ''}" for f in findings)

"""How quick and how large the stack is: first and second start, and memory and CPU at rest. Run it by `./weir bench startup`.

In: a fresh state folder below WEIR_HOME and ports of its own. Out: one JSON document, exit code 1 past a limit. Memory is the sum of proportional set sizes (a page shared by n
processes counts 1/n in each; /proc/PID/smaps_rollup, Linux' Documentation/filesystems/proc.rst); CPU is user and system time of the processes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from weir.stack.examine import machine

PORT_SHIFT = 100  # from the stack that may be running
# What a start and a rest may take on two cores.
FIRST_S, SECOND_S, REST_MIB = 120.0, 40.0, 3_000_000_000 / 2**20


def own_home(name: str, port_shift: int) -> tuple[Path, dict[str, str]]:
    """Make an empty state folder below WEIR_HOME, with its jars; return it and the environment of a stack there, `port_shift` ports from the usual one."""
    outer = Path(os.environ["WEIR_HOME"])
    home = outer / name
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    (outer / "jars").mkdir(exist_ok=True)
    (home / "jars").symlink_to(outer / "jars")
    elsewhere = ("_URL", "_DSN", "_BOOTSTRAP")  # another stack's endpoints
    env = {k: v for k, v in os.environ.items() if k == "WEIR_MAVEN_URL" or not (k.startswith("WEIR_") and k.endswith(elsewhere))}
    env.pop("WEIR_STARTED_AT", None)
    return home, env | {"WEIR_HOME": str(home), "WEIR_PORT_BASE": str(int(env.get("WEIR_PORT_BASE", "17000")) + port_shift)}


@contextlib.contextmanager
def own_stack(name: str, port_shift: int) -> Iterator[dict[str, str]]:
    """Give the environment of a stack in `own_home`; whatever was started there is ended, and its folder removed."""
    home, env = own_home(name, port_shift)
    try:
        yield env
    finally:
        subprocess.run([sys.executable, "-m", "weir.cli", "down"], env=env, capture_output=True, check=False)
        shutil.rmtree(home, ignore_errors=True)


def tell(document: dict[str, Any], past: list[str]) -> None:
    """Print a document with the limits that it is `past`, and exit 1 when there are any."""
    document["past_limits"] = past
    print(json.dumps(document, indent=2))
    if past:
        raise SystemExit("; ".join(past))


def weir(*arguments: str, env: dict[str, str]) -> str:
    """Run one command; return its standard output.

    Raises:
        SystemExit: it failed; carries its last line.
    """
    done = subprocess.run([sys.executable, "-m", "weir.cli", *arguments], env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise SystemExit(f"weir {' '.join(arguments)} failed: {lines[-1] if lines else done.returncode}")
    return done.stdout


def family(pid: int) -> list[psutil.Process]:
    """Return a process and its descendants."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def pss_mib(pid: int) -> float:
    """Return the proportional set size of a process and its descendants, in MiB."""
    total = 0
    for process in family(pid):
        try:
            text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total / 1024


def cpu_s(pid: int) -> float:
    """Return the CPU time that a process and its descendants have used, in seconds."""
    total = 0.0
    for process in family(pid):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def at_rest(env: dict[str, str], idle_s: float, window_s: float) -> dict[str, object]:
    """Let the stack rest, then measure memory and CPU of every process under its supervisor."""
    supervisor = int((Path(env["WEIR_HOME"]) / "run" / "supervisord.pid").read_text())
    services = {s["name"]: s["pid"] for s in json.loads(weir("status", "--json", env=env))["services"] if s["pid"]}
    time.sleep(idle_s)
    before, began = cpu_s(supervisor), time.monotonic()
    time.sleep(window_s)
    cores = (cpu_s(supervisor) - before) / (time.monotonic() - began)
    return {"rested_s": idle_s, "cpu_cores": round(cores, 3), "pss_mib_total": round(pss_mib(supervisor)),
            "pss_mib": {name: round(pss_mib(pid)) for name, pid in services.items()}}


def measure(env: dict[str, str], starts: int, idle_s: float, window_s: float) -> dict[str, object]:
    """Run the demo once on an empty state folder, then start the loaded stack `starts` times, then let it rest."""
    found: dict[str, object] = {"benchmark": "startup", "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "machine": machine()}
    found["first_recommendation_s"] = round(json.loads(weir("demo", "--json", env=env))["seconds_to_ready"], 1)
    seconds = []
    for number in range(starts):
        began = time.monotonic()
        weir("up", env=env)
        seconds.append(round(time.monotonic() - began, 1))
        if number + 1 < starts:
            weir("down", env=env)
    found["second_start_s"] = seconds
    found["at_rest"] = at_rest(env, idle_s, window_s)
    return found


def past_limits(document: dict[str, Any]) -> list[str]:
    """Return which limits a document is past, each as a sentence; empty: none. Pure."""
    slowest, rest = max(document["second_start_s"]), document["at_rest"]["pss_mib_total"]
    told = ((document["first_recommendation_s"], FIRST_S, "s to the first recommendation"), (slowest, SECOND_S, "s to a second start"), (rest, REST_MIB, "MiB at rest"))
    return [f"{found} {what}, and {limit:.0f} is the limit" for found, limit, what in told if found > limit]


def main() -> None:
    """Parse the arguments, measure, print, and leave nothing behind. Exits 1 past a limit."""
    parser = argparse.ArgumentParser(prog="./weir bench startup", description=__doc__)
    parser.add_argument("--starts", type=int, default=3, help="how often the loaded stack is started (default 3)")
    parser.add_argument("--idle", type=float, default=60, help="seconds of rest before memory and CPU are read (default 60)")
    parser.add_argument("--window", type=float, default=30, help="seconds over which CPU is counted (default 30)")
    parser.add_argument("--json", action="store_true", help="print nothing but the document")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended politely, it still ends the stack
    with own_stack("bench-startup", PORT_SHIFT) as env:
        if not given.json:
            print(f"demo, {given.starts} starts, {given.idle:.0f} s of rest: about {200 + given.starts * 20 + given.idle + given.window:.0f} s", file=sys.stderr)
        document = measure(env, given.starts, given.idle, given.window)
    tell(document, past_limits(document))


if __name__ == "__main__":
    main()

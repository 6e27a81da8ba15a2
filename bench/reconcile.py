"""What continuous reconciliation costs at rest: CPU of each process with it stopped and running, in turn, beside what it reports itself. Run it by `./weir bench reconcile`.

In: a stack that is started for it and loaded by the demo, in a state folder and on ports of its own. Out: one JSON document, exit code 1 past the limit. CPU is user and system
time of a service's processes. `reported`: the sum of `cost_s` of the rounds that ended in the window, and of what `./weir status` says. The difference is of the processes that it
works in: its own, PostgreSQL, ClickHouse, Kafka, Connect, Redis; `noise` is by how much the windows with it stopped differ among themselves.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from startup import cpu_s, machine, own_stack, tell, weir

from weir.ingest.clickhouse import ClickHouse
from weir.stack.supervision import Control

PORT_SHIFT = 450  # from the stack that may be running
WORKS_IN = ("reconcile", "postgres", "clickhouse", "kafka", "connect", "redis")
CORES = 0.02  # what it may take at rest


def used(control: Control) -> dict[str, float]:
    """Return the CPU time of each program so far, in seconds."""
    return {name: cpu_s(state.pid) for name, state in control.states().items() if state.pid}


def window(control: Control, client: ClickHouse, seconds: float, *, running: bool) -> dict[str, Any]:
    """Count for a while; return cores by program."""
    before, began = used(control), time.monotonic()
    since = client.execute("SELECT now64(3, 'UTC')").strip()
    time.sleep(seconds)
    after, took = used(control), time.monotonic() - began
    cost, rounds = client.execute(f"SELECT sum(cost_s), uniqExact(cycle) FROM ops.reconcile_cycles WHERE at > toDateTime64('{since}', 3, 'UTC')").split()
    cores = {name: round((after[name] - before[name]) / took, 4) for name in sorted(after) if name in before}
    found = {"companion": "running" if running else "stopped", "seconds": round(took, 1), "reported_cores": round(float(cost) / took, 4), "rounds_ended": int(rounds),
             "cores_it_works_in": round(sum(cores.get(n, 0.0) for n in WORKS_IN), 4), "cores": cores}
    print(found, file=sys.stderr, flush=True)
    return found


def judge(windows: list[dict[str, Any]], status_cores: float | None) -> dict[str, Any]:
    """Return what it costs, by each way of looking, in cores. Pure."""
    without, beside = ([w for w in windows if w["companion"] == c] for c in ("stopped", "running"))
    idle, busy = ([w["cores_it_works_in"] for w in part] for part in (without, beside))
    return {"own_process": round(sum(w["cores"].get("reconcile", 0.0) for w in beside) / len(beside), 4), "reported": round(sum(w["reported_cores"] for w in beside) / len(beside), 4),
            "status": status_cores, "difference": round(sum(busy) / len(busy) - sum(idle) / len(idle), 4), "noise": round(max(idle) - min(idle), 4)}


def measure(env: dict[str, str], given: argparse.Namespace) -> dict[str, Any]:
    """Load a stack, let it rest, look with the companion stopped and running in turn."""
    document: dict[str, Any] = {"benchmark": "reconcile", "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    weir("demo", "--json", env=env)
    weir("up", env=env)
    control = Control(Path(env["WEIR_HOME"]))
    client = ClickHouse(json.loads(weir("status", "--json", env=env))["endpoints"]["clickhouse_url"])
    time.sleep(given.idle)
    document["machine"], document["windows"] = machine(), []
    for _ in range(given.pairs):
        control.stop("reconcile")
        time.sleep(5)
        document["windows"].append(window(control, client, given.window, running=False))
        control.start("reconcile")
        time.sleep(given.settle)  # its start, above all imports, is no rest
        document["windows"].append(window(control, client, given.window, running=True))
    document["cores"] = judge(document["windows"], json.loads(weir("status", "--json", env=env))["verifying_cores"])
    return document


def main() -> None:
    """Parse the arguments, measure, print, and leave nothing behind. Exits 1 past the limit."""
    parser = argparse.ArgumentParser(prog="./weir bench reconcile", description=__doc__)
    parser.add_argument("--pairs", type=int, default=3, help="windows with it stopped, and as many with it running (default 3)")
    parser.add_argument("--window", type=float, default=180, help="seconds of each window (default 180)")
    parser.add_argument("--idle", type=float, default=60, help="seconds of rest before the first (default 60)")
    parser.add_argument("--settle", type=float, default=40, help="seconds after it was started before a window begins (default 40)")
    parser.add_argument("--json", action="store_true", help="kept for likeness: the document is always JSON, on standard output")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the stack is ended too
    with own_stack("bench-reconcile", PORT_SHIFT) as env:
        document = measure(env, given)
    reported = document["cores"]["reported"]
    tell(document, [f"{reported} of a core at rest, and {CORES} is the limit"] if reported > CORES else [])


if __name__ == "__main__":
    main()

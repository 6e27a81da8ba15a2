"""Everything at once on the embedded ClickHouse, for an hour: does it stay right, and as it is? Run it by `./weir bench soak --minutes 60`.

In: a gateway of its own on a free port, over a temporary folder, with users and roles. Out: one JSON document. Writers insert under tokens into a table with a
view and a view behind that; others read light and heavy, make, alter, exchange and drop tables, leave in the middle, kill queries, keep sessions and ask for what they may not
(under_test/mixed_clients.py). At the end rows and views are held to an oracle outside ClickHouse, before and after a restart. The clients are threads of this process, on the same
cores: their own turns are in every time shown. Exit status 1: an error that nobody asked for, a wrong count, or something left over.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
from clickhouse import quantile
from gateway_fsync import start
from under_test.mixed import Client, Journal, Oracle, Soak
from under_test.mixed_clients import CLIENTS, ROLES, TABLES, USERS

from weir.gateway import accounts
from weir.stack.examine import machine

SLICE_S = 300.0
TREND_S = 600.0  # a shorter run says nothing of trends: caches are filling
PASSWORD = "soak"  # noqa: S105 - of a gateway that lives as long as this process, on loopback
TELL_S = 30.0
AIMS = {"light_ms_p99_worst_slice": 50.0, "rss_mib_per_hour": 100.0, "open_files_growth": 20.0, "threads_growth": 10.0, "parts_growth": 1.5}
_QUIET_S = 60.0  # for what was left running to end
MIB = 1 << 20


def slope_per_hour(samples: list[tuple[float, float]]) -> float:
    """Return by how much the values rise in an hour: least squares over the second half, when caches are full. Pure."""
    kept = samples[len(samples) // 2 :]
    if len(kept) < 3:
        return 0.0
    mean_at, mean = sum(at for at, _ in kept) / len(kept), sum(value for _, value in kept) / len(kept)
    spread = sum((at - mean_at) ** 2 for at, _ in kept)
    return 3600 * sum((at - mean_at) * (value - mean) for at, value in kept) / spread if spread else 0.0


class Sampler:
    """Looks at the gateway's process and tables from outside."""

    def __init__(self, pid: int, url: str) -> None:
        self._process = psutil.Process(pid)
        self._client = httpx.Client(base_url=url, timeout=120, auth=("admin", PASSWORD))
        self.samples: list[dict[str, float]] = []

    def number(self, sql: str) -> int:
        """Return the number that a statement answers."""
        return int(self._client.post("/", content=sql).raise_for_status().text)

    def rows(self, sql: str) -> dict[int, tuple[int, int]]:
        """Return rows of three numbers, by the first."""
        found = (tuple(map(int, line.split("\t"))) for line in self._client.post("/", content=sql).raise_for_status().text.splitlines())
        return {k: (n, total) for k, n, total in found}

    def health(self) -> dict[str, Any]:
        """Return what the gateway says of itself."""
        return dict(self._client.get("/health").json())

    def look(self, at: float) -> dict[str, float]:
        """Take one sample."""
        with self._process.oneshot():
            cpu = self._process.cpu_times()
            found = {"at_s": round(at, 1), "rss_mib": round(self._process.memory_info().rss / MIB, 1), "open_files": self._process.num_fds(),
                     "threads": self._process.num_threads(), "cpu_s": round(cpu.user + cpu.system, 1)}  # fmt: skip
        found["parts"] = self.number("SELECT count() FROM system.parts WHERE active AND database = 'soak' AND table IN ('events', 'by_key', 'by_bucket')")
        self.samples.append(found)
        return found


def slices(journal: Journal, samples: list[dict[str, float]], seconds: float, length_s: float = SLICE_S) -> list[dict[str, Any]]:
    """Return what each slice of time saw: light queries, memory, files, threads and parts. Pure."""
    found, at = [], 0.0
    while at < seconds:
        until = at + length_s if seconds - at >= 1.5 * length_s else seconds + length_s  # a short rest belongs to the last
        inside = [s for s in samples if at <= s["at_s"] < until]
        part: dict[str, Any] = {"from_s": at}
        for name, kept in (("light", journal.light), ("light_in_crowd", journal.light_in_crowd)):
            times = [ms for when, ms in kept if at <= when < until]
            part[f"{name}_queries"] = len(times)
            if times:
                part |= {f"{name}_ms_p50": round(quantile(times, 0.5), 2), f"{name}_ms_p99": round(quantile(times, 0.99), 2), f"{name}_ms_max": round(max(times), 2)}
        part |= {f"{name}_max": max(s[name] for s in inside) for name in ("rss_mib", "open_files", "threads", "parts") if inside}
        found.append(part)
        at = until
    return found


def counted(sampler: Sampler, oracle: Oracle) -> dict[str, Any]:
    """Hold the table and both views to the oracle; each is a count of keys that differ, 0 when exact."""
    asked = {
        "events": ("SELECT k, count(), sum(v) FROM soak.events GROUP BY k", oracle.by_key()),
        "by_key": ("SELECT k, sum(n), sum(total) FROM soak.by_key GROUP BY k", oracle.by_key()),
        "by_bucket": ("SELECT bucket, sum(n), sum(total) FROM soak.by_bucket GROUP BY bucket", oracle.by_bucket()),
    }
    differing = {}
    for name, (sql, wanted) in asked.items():
        found = sampler.rows(sql)
        differing[name] = sum(found.get(key, (0, 0)) != wanted.get(key, (0, 0)) for key in found.keys() | wanted.keys())
    return {"rows": oracle.rows, "rows_found": sampler.number("SELECT count() FROM soak.events"), "batches": oracle.batches, "keys_that_differ": differing}


def quiet(sampler: Sampler, spool: Path) -> dict[str, Any]:
    """Wait until nothing runs any more; return what is left over then: all 0 when nothing leaks."""
    deadline = time.monotonic() + _QUIET_S
    while True:
        health = sampler.health()
        left = {name: health[name] for name in ("under_way", "waiting", "beyond", "sessions")} | {"spooled": len(list(spool.glob("*.data")))}
        if not any(left.values()) or time.monotonic() > deadline:
            return left
        time.sleep(0.2)


def accounts_in(folder: Path) -> list[str]:
    """Write roles and users; return the gateway's arguments for them."""
    hashed = accounts.hashed(PASSWORD)
    text = ROLES + "".join(f'[users.{user}]\nrole = "{user}"\npassword_scrypt = "{hashed}"\n' for user in USERS)
    (folder / "users.toml").write_text(text)
    return ["--users", str(folder / "users.toml")]


def load(soak: Soak, sampler: Sampler, seconds: float) -> list[Client]:
    """Run every client for `seconds`, and tell how it goes; return those that did not end."""
    clients = [kind(soak, number) for kind, count in CLIENTS for number in range(count)]
    every, told = max(0.5, min(10.0, seconds / 100)), 0.0
    for client in clients:
        client.start()
    while (now := soak.journal.now()) < seconds:
        try:
            seen = sampler.look(now)
        except (httpx.HTTPError, ValueError) as error:
            soak.journal.failed("sampler", error)
        except psutil.NoSuchProcess:
            soak.journal.failed("sampler", RuntimeError("the gateway has ended"))
            break
        else:
            if now - told >= TELL_S:
                told = now
                print(f"{now / 60:.1f} of {seconds / 60:.0f} min, {(seconds - now) / 60:.1f} to go: {soak.oracle.rows:,} rows, {sum(soak.journal.done.values()):,} requests, "
                      f"{sum(soak.journal.errors.values())} errors, {seen['rss_mib']:.0f} MiB, {seen['parts']:.0f} parts", file=sys.stderr, flush=True)  # fmt: skip
        soak.stop.wait(every)
    soak.stop.set()
    for client in clients:
        client.join(120)
    return [client for client in clients if client.is_alive()]


def verdict(found: dict[str, Any]) -> dict[str, Any]:
    """Return what must hold and whether it does (`holds`), and, of a run that is long enough, each aim with what was measured. Pure."""
    holds = {
        "no_error": not found["errors"], "nobody_stuck": not found["stuck"], "nothing_left": not any(found["left"].values()), "closed_properly": found["exit_status"] == 0,
        "exact": all(c["rows"] == c["rows_found"] and not any(c["keys_that_differ"].values()) for c in (found["counted"], found["counted_after_restart"])),
    }  # fmt: skip
    half = found["samples"][len(found["samples"]) // 4 :] or found["samples"]
    third = max(1, len(half) // 3)
    measured = {
        "light_ms_p99_worst_slice": max(s.get("light_ms_p99", 0.0) for s in found["slices"]),
        "rss_mib_per_hour": slope_per_hour([(s["at_s"], s["rss_mib"]) for s in found["samples"]]),
        **{f"{name}_growth": round(max(s[name] for s in half[-third:]) - max(s[name] for s in half[:third]), 1) for name in ("open_files", "threads")},
        "parts_growth": round(max(s["parts"] for s in half[-third:]) / max(1, *(s["parts"] for s in half[:third])), 2),
    }
    aims = AIMS if found["samples"] and found["samples"][-1]["at_s"] >= TREND_S else {}
    return {"holds": holds, "aims": {name: {"aim": aim, "measured": round(measured[name], 2), "met": measured[name] <= aim} for name, aim in aims.items()}}


def told(soak: Soak, sampler: Sampler, seconds: float) -> dict[str, Any]:
    """Return what the clients and the sampler saw."""
    journal = soak.journal
    return {
        "rows_per_s": round(soak.oracle.rows / seconds), "requests": dict(sorted(journal.done.items())), "errors": dict(journal.errors),
        "error_samples": {name: list(kept) for name, kept in journal.samples.items()}, "errors_asked_for": dict(sorted(journal.asked.items())),
        "longest_wait_s": {kind: round(s, 2) for kind, s in sorted(journal.longest_s.items())}, "slices": slices(journal, sampler.samples, seconds),
        "samples": sampler.samples,
    }  # fmt: skip


def soaked(folder: Path, seconds: float, seed: int) -> dict[str, Any]:
    """Run the whole soak over `folder`."""
    more = accounts_in(folder)
    process, url = start(folder / "gateway", *more)
    try:
        sampler, where = Sampler(process.pid, url), httpx.URL(url)
        for sql in TABLES:
            httpx.post(url, content=sql, auth=("admin", PASSWORD), timeout=60).raise_for_status()
        soak = Soak(where.host, where.port or 0, PASSWORD, seed)
        stuck = load(soak, sampler, seconds)
        found = {"stuck": [client.name for client in stuck], **told(soak, sampler, seconds), "left": quiet(sampler, folder / "gateway" / "spool"),
                 "counted": counted(sampler, soak.oracle)}  # fmt: skip
        process.terminate()
        found["exit_status"] = process.wait(60)
        process, url = start(folder / "gateway", *more)
        found["counted_after_restart"] = counted(Sampler(process.pid, url), soak.oracle)
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
    return found | {"verdict": verdict(found)}


def main() -> None:
    """Parse the arguments, soak, print, and leave nothing behind."""
    parser = argparse.ArgumentParser(prog="./weir bench soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="how long the load lasts (default 60)")
    parser.add_argument("--seed", type=int, default=1, help="of sizes, ways and pauses (default 1)")
    parser.add_argument("--json", action="store_true", help="kept for likeness: the document is always JSON, on standard output")
    given = parser.parse_args()
    sys.setswitchinterval(0.001)  # of the clients' threads: what a light one waits for another belongs to no server
    document: dict[str, Any] = {"benchmark": "soak", "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "machine": machine(), "nice": os.getpriority(os.PRIO_PROCESS, 0),
                                "minutes": given.minutes, "seed": given.seed, "clients": {kind.kind: count for kind, count in CLIENTS}}  # fmt: skip
    with tempfile.TemporaryDirectory(dir=os.environ.get("WEIR_HOME") or None, prefix="bench-soak-") as name:
        document |= soaked(Path(name), given.minutes * 60, given.seed)
    print(json.dumps(document, indent=2))
    if not all(document["verdict"]["holds"].values()):
        sys.exit(1)


if __name__ == "__main__":
    main()

"""What HTTP adds to the embedded ClickHouse: the gateway beside the same engine in process, in turn. Run it by `./weir bench clickhouse --json`.

In: a gateway of its own on a free port, and the same engine with the same configuration in this process, each over a temporary folder. Out: one JSON
document. Every pair is one call of each, one after the other and the first in turn, so that both meet the same machine; ratios and differences
are of pairs. The insert in process reads a file that is there already, so writing the body to a file is all the gateway's cost. The client is a plain socket, kept, and shares the machine's cores with the gateway, as any local client does.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from gateway_fsync import start
from startup import pss_mib
from under_test import beside
from under_test.gateway import InProcess, OverHttp
from under_test.sender import sender

from weir.stack.examine import machine

ROWS = 100_000
WARM_UP = 30
TABLE = ("CREATE TABLE b.events (user_id UInt64, item_id UInt64, kind LowCardinality(String), at DateTime64(3, 'UTC'), value String) "
         "ENGINE = MergeTree ORDER BY (user_id, at) SETTINGS non_replicated_deduplication_window = 1000")
BLOCK = (f"SELECT rand64(1) % 1000000 AS user_id, rand64(2) % 100000 AS item_id, toLowCardinality(toString(number % 7)) AS kind, "
         f"toDateTime64(1700000000 + number, 3, 'UTC') AS at, hex(rand64(3)) AS value FROM numbers({ROWS}) FORMAT Native")
STORED = ("INSERT INTO b.stored SELECT cityHash64(number) % 1000000, cityHash64(number, 1) % 100000, toString(number % 7), "
          "toDateTime64(1700000000 + number, 3, 'UTC'), hex(cityHash64(number, 2)) FROM numbers({rows})")
STREAMS = {  # of a table as ingest's, and of rows that the engine makes up and keeps nowhere, faster than a socket takes them
    **{f"table_{form}": f"SELECT * FROM b.stored FORMAT {form}" for form in ("Native", "TabSeparated", "JSONEachRow")},
    "made_up_Native": "SELECT number, number * 3 AS thrice, toString(number) AS text FROM numbers({rows}) FORMAT Native",
}
QUERIES = {"literal": "SELECT {n}", "by_key": "SELECT count(), max(value) FROM b.events WHERE user_id = {n}"}
AIMS = {  # the part that measures it, and the aim: ratios at least, all others at most
    "insert_ratio": ("inserts", 0.8), "query_cost_ms_p50": ("queries", 0.5), "query_ms_p99": ("queries", 5.0), "stream_ratio": ("streams", 0.8), "idle_mib": ("idle", 100.0),
    "light_beside_heavy_ms_p99": ("beside_heavy", 50.0),
}  # fmt: skip

Call = Callable[[], object]


def paired(first: Call, second: Call, turn: int) -> tuple[float, float]:
    """Return the seconds that each call took; they swap places by `turn`."""
    taken: dict[int, float] = {}
    for at in (0, 1) if turn % 2 == 0 else (1, 0):
        began = time.perf_counter()
        (first, second)[at]()
        taken[at] = time.perf_counter() - began
    return taken[0], taken[1]


def timed(call: Call) -> float:
    """Return the seconds that a call took."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def quantile(values: list[float], share: float) -> float:
    """Return the value below which `share` of them lie (nearest rank)."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def told(pairs: list[tuple[float, float]]) -> dict[str, float]:
    """Return medians and 99th percentiles of both sides in ms, and the median of the pairs' differences and ratios."""
    over, inside = [a * 1000 for a, _ in pairs], [b * 1000 for _, b in pairs]
    return {
        "http_ms_p50": round(statistics.median(over), 3), "in_process_ms_p50": round(statistics.median(inside), 3),
        "http_ms_p10": round(quantile(over, 0.1), 3), "in_process_ms_p10": round(quantile(inside, 0.1), 3),
        "http_ms_p99": round(quantile(over, 0.99), 3), "in_process_ms_p99": round(quantile(inside, 0.99), 3),
        "cost_ms_p50": round(statistics.median(a - b for a, b in zip(over, inside, strict=True)), 3),
        "speed_ratio_p50": round(statistics.median(b / a for a, b in zip(over, inside, strict=True)), 3),
    }  # fmt: skip


def cpu_ms(pid: int) -> float:
    """Return the CPU that a process has used, in user and system mode (ms)."""
    times = psutil.Process(pid).cpu_times()
    return 1000 * float(times.user + times.system)


def stored(ask: Callable[[str], object], rows: int) -> None:
    """Fill the table that long answers, light and heavy queries read, unless it is there."""
    if ask("EXISTS TABLE b.stored") == b"0\n":
        ask(TABLE.replace("b.events", "b.stored"))
        ask(STORED.format(rows=rows))
        ask("OPTIMIZE TABLE b.stored FINAL")


class Bench:
    """Both sides. `pid`: the gateway's process."""

    def __init__(self, url: str, pid: int, inside: InProcess, folder: Path) -> None:
        self.url, self.pid, self.http, self.inside, self.folder = url, pid, OverHttp(url), inside, folder
        for ask in (self.http.ask, inside.ask):
            ask("CREATE DATABASE b ENGINE = Atomic")
            ask(TABLE)

    def inserts(self, rounds: int) -> dict[str, Any]:
        """Insert blocks of 100k rows, each pair the same one."""
        pairs, path = [], self.folder / "block.native"
        for turn in range(-3, rounds):
            block = self.http.ask(BLOCK, wait_end_of_query="1")
            path.write_bytes(block)
            token = f"turn-{turn}"
            pair = paired(
                lambda block=block, token=token: self.http.ask("INSERT INTO b.events FORMAT Native", block, insert_deduplication_token=token),
                lambda token=token: self.inside.ask(f"INSERT INTO b.events FROM INFILE '{path}' COMPRESSION 'none' SETTINGS insert_deduplication_token = '{token}' FORMAT Native"),
                turn,
            )  # fmt: skip
            if turn >= 0:
                pairs.append(pair)
        counted = [int(ask("SELECT count() FROM b.events")) for ask in (self.http.ask, self.inside.ask)]
        if counted != [(rounds + 3) * ROWS] * 2:
            raise SystemExit(f"not exact: {counted} rows of {(rounds + 3) * ROWS}")
        found = told(pairs)
        return {"rows": ROWS, "bytes": path.stat().st_size, "rounds": rounds, **found, "rows_per_s_http": round(ROWS / found["http_ms_p50"] * 1000)}

    def queries(self, rounds: int) -> dict[str, Any]:
        """Ask simple queries, each pair the same new text."""
        found = {}
        for name, text in QUERIES.items():
            pairs = []
            for turn in range(-WARM_UP, rounds):
                sql = text.format(n=turn + WARM_UP)
                pair = paired(lambda sql=sql: self.http.ask(sql), lambda sql=sql: self.inside.ask(sql), turn)
                if turn >= 0:
                    pairs.append(pair)
            found[name] = {"rounds": rounds, **told(pairs)}
        return found

    def streams(self, rounds: int, rows: int) -> dict[str, Any]:
        """Read long answers to their end; beside each, as many plain bytes from a process that makes nothing."""
        for ask in (self.http.ask, self.inside.ask):
            stored(ask, rows)
        found = {}
        for name, text in STREAMS.items():
            sql, pairs = text.format(rows=rows), []  # type: str, list[tuple[float, float]]
            size = self.inside.stream(sql)
            if self.http.stream(sql) != size and not name.endswith("Native"):  # blocks, and so their headers, may be cut otherwise
                raise SystemExit(f"{name}: the two answers differ in length")
            used = {"gateway_and_client_cpu_ms": 0.0, "in_process_cpu_ms": 0.0}
            over, inside = (self._counted(used, side, read, sql, rounds) for side, read in zip(used, (self.http.stream, self.inside.stream), strict=True))
            pairs += [paired(over, inside, turn) for turn in range(rounds)]
            with sender() as plain:
                alone = [timed(lambda plain=plain, size=size: plain.read(size)) for _ in range(rounds)]
            found[name] = {"rows": rows, "bytes": size, "rounds": rounds, **told(pairs), "socket_alone_ms_p50": round(statistics.median(alone) * 1000, 3),
                           **{side: round(ms, 1) for side, ms in used.items()}}  # fmt: skip
        return found

    def _counted(self, used: dict[str, float], side: str, read: Callable[[str], object], sql: str, rounds: int) -> Call:
        """Return a call that reads an answer, and adds the CPU that gateway and client used meanwhile, as a mean of `rounds`, to `used`."""

        def call() -> None:
            before = cpu_ms(self.pid) + cpu_ms(os.getpid())
            read(sql)
            used[side] += (cpu_ms(self.pid) + cpu_ms(os.getpid()) - before) / rounds

        return call

    def idle(self, count: int) -> dict[str, Any]:
        """Open connections that each asked once and stay."""
        before = pss_mib(self.pid)
        open_ones = []
        for turn in range(count):
            client = OverHttp(self.url)
            client.ask(f"SELECT {turn}")
            open_ones.append(client)
        after = pss_mib(self.pid)
        for client in open_ones:
            client.close()
        return {"connections": count, "mib_before": round(before, 1), "mib_after": round(after, 1), "mib": round(after - before, 1)}

    def beside_heavy(self, rounds: int, light: int, rows: int) -> dict[str, Any]:
        """Ask light queries alone, beside one heavy reader and two: of the gateway, and in process."""
        for ask in (self.http.ask, self.inside.ask):
            stored(ask, rows)
        sides = (beside.Side("gateway", self.http.ask, lambda: OverHttp(self.url).ask), beside.Side("in_process", self.inside.ask, self._another_inside))
        return beside.measure(sides, rounds, light, quantile)

    def _another_inside(self) -> Callable[[str], object]:
        connection = self.inside.another()
        return lambda sql: connection.query(sql, "TabSeparated").bytes()


def verdict(found: dict[str, Any]) -> dict[str, Any]:
    """Return each aim of the parts that ran, what was measured, and whether it was met. Pure."""
    measured: dict[str, Callable[[], float]] = {
        "insert_ratio": lambda: found["inserts"]["speed_ratio_p50"],
        "query_cost_ms_p50": lambda: max(q["cost_ms_p50"] for q in found["queries"].values()),
        "query_ms_p99": lambda: max(q["http_ms_p99"] for q in found["queries"].values()),
        "stream_ratio": lambda: min(s["speed_ratio_p50"] for name, s in found["streams"].items() if name.startswith("table_")),
        "idle_mib": lambda: found["idle"]["mib"],
        "light_beside_heavy_ms_p99": lambda: max(found["beside_heavy"][name]["gateway"]["ms_p99"] for name in ("beside_one", "beside_two")),
    }
    told = {name: (aim, measured[name]()) for name, (part, aim) in AIMS.items() if part in found}
    return {name: {"aim": aim, "measured": value, "met": value >= aim if name.endswith("ratio") else value <= aim} for name, (aim, value) in told.items()}


def measure(bench: Bench, given: argparse.Namespace) -> dict[str, Any]:
    """Run every part that is asked for; a line each on standard error."""
    found: dict[str, Any] = {}
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "inserts": lambda: bench.inserts(given.inserts), "queries": lambda: bench.queries(given.queries), "streams": lambda: bench.streams(given.streams, given.rows),
        "idle": lambda: bench.idle(given.connections), "beside_heavy": lambda: bench.beside_heavy(given.rounds, given.light, given.rows),
    }  # fmt: skip
    for name in given.only or parts:
        load = round(os.getloadavg()[0], 2)
        found[name] = {**parts[name]()}
        print(f"{name} (load {load}): {json.dumps(found[name])}", file=sys.stderr, flush=True)
        found.setdefault("load_average_before", {})[name] = load
    return {**found, "aims": verdict(found)}


def main() -> None:
    """Parse the arguments, measure, print, and leave nothing behind."""
    parser = argparse.ArgumentParser(prog="./weir bench clickhouse", description=__doc__)
    parser.add_argument("--inserts", type=int, default=40, help="pairs of inserts of 100,000 rows (default 40)")
    parser.add_argument("--queries", type=int, default=2000, help="pairs of each simple query (default 2000)")
    parser.add_argument("--streams", type=int, default=7, help="pairs of each long answer (default 7)")
    parser.add_argument("--rows", type=int, default=3_000_000, help="rows of a long answer (default 3,000,000)")
    parser.add_argument("--connections", type=int, default=1000, help="idle connections (default 1,000)")
    parser.add_argument("--rounds", type=int, default=4, help="rounds of light queries alone, beside one heavy reader and beside two (default 4)")
    parser.add_argument("--light", type=int, default=250, help="light queries of each side in each of these (default 250)")
    parser.add_argument("--only", nargs="+", choices=sorted({part for part, _ in AIMS.values()}), help="these parts alone")
    parser.add_argument("--json", action="store_true", help="kept for likeness: the document is always JSON, on standard output")
    given = parser.parse_args()
    document: dict[str, Any] = {"benchmark": "clickhouse", "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "machine": machine(), "nice": os.getpriority(os.PRIO_PROCESS, 0)}
    with tempfile.TemporaryDirectory(dir=os.environ.get("WEIR_HOME") or None, prefix="bench-clickhouse-") as name:
        folder = Path(name)
        inside = InProcess(folder / "inside")
        process, url = start(folder / "gateway")
        try:
            document |= measure(Bench(url, process.pid, inside, folder), given)
        finally:
            process.terminate()
            process.wait(60)
            inside.close()
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()

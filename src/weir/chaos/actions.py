"""What the experiments in chaos/*.json call: probes and actions for Chaos Toolkit's python provider.

Keep: processes are found by the name that the supervisor knows and ended by id; one load runs at a time; every wait is bounded.
"""

from __future__ import annotations

import os
import signal
import time

from weir.chaos.load import Load
from weir.chaos.oracle import TABLES, Verdict, compare, count
from weir.contracts.endpoints import Endpoints
from weir.errors import Undecided
from weir.stack import services, settings, supervision, watch

SETTLE_S = 90  # the broker's restart, the consumer's session time-out (45 s) and a replay fit in it
NOW_S = 4  # a service that is up answers within one probe's time-out (2 s)

_loads: list[Load] = []
results: list[dict[str, object]] = []


def start_load(rate: int = 500) -> str:
    """Start the background load; return its run id."""
    load = Load(Endpoints.from_environment().kafka_bootstrap, rate=rate)
    _loads.append(load)
    load.start()
    deadline = time.monotonic() + SETTLE_S
    while not load.journal.acknowledged:
        if time.monotonic() > deadline:
            raise Undecided("no event of the load was acknowledged", hint="is Kafka up? ./weir status")
        time.sleep(0.1)
    return load.journal.run_id


def all_services_ready() -> bool:
    """Return whether every service answers now."""
    configured = settings.load()
    return all(r.state == "ready" for r in watch.observe(services.build(configured), configured.home))


def _ready_within(seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not all_services_ready():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


def services_ready() -> bool:
    """Probe: every service answers. After a fault they get SETTLE_S to come back; before it a stack that is down is told at once."""
    return _ready_within(SETTLE_S if _loads else NOW_S)


def wait_until_ready() -> None:
    """Wait until every service answers again.

    Raises:
        Undecided: it did not come to that, so what follows would not be done to a whole stack.
    """
    if not _ready_within(SETTLE_S):
        raise Undecided(f"not every service was ready again in {SETTLE_S} s", hint="./weir status names them")


def signal_service(service: str, signal_name: str) -> int:
    """Send a signal to a service's process by id; return the id."""
    state = supervision.Control(settings.load().home).states().get(service)
    if state is None or not state.pid:
        raise Undecided(f"{service} has no process to signal", hint="start it: ./weir up")
    os.kill(state.pid, signal.Signals[signal_name])
    results.append({"fault": signal_name, "service": service, "pid": state.pid, "at_s": time.time()})
    return state.pid


def kill_mid_batch(service: str = "ingest") -> int:
    """Kill the ingest worker while the group's commit metadata declares a batch: at once, under load."""
    return signal_service(service, "SIGKILL")


def pause(seconds: float) -> None:
    """Let the fault last."""
    time.sleep(seconds)


def journal_matches_tables() -> bool:
    """Stop the load, wait for the tables to hold all that is owed, and compare by event id.

    Raises:
        Undecided: ClickHouse could not be asked, or nothing was produced: unknown, which is no pass.
    """
    if not _loads:
        return True  # before the fault nothing is owed; the hypothesis after it has a journal
    journal = _loads[-1].stop()
    url = Endpoints.from_environment().clickhouse_url
    verdicts = []
    for table in TABLES:
        deadline = time.monotonic() + SETTLE_S
        while True:
            try:
                found = compare(table, journal, count(url, table, journal.run_id))
            except Exception as error:
                if time.monotonic() > deadline:
                    raise Undecided(f"{table} could not be read: {error}") from error
                time.sleep(1)
                continue
            if found.verdict is not Verdict.NO or found.doubled or time.monotonic() > deadline:
                break
            time.sleep(0.5)
        results.append({"table": table, "owed": found.owed, "found": found.found, "lost": found.lost, "doubled": found.doubled,
                        "verdict": str(found.verdict), "at_s": time.time()})
        verdicts.append(found.verdict)
    if Verdict.UNKNOWN in verdicts:
        raise Undecided("nothing was produced, so nothing was shown")
    return all(v is Verdict.YES for v in verdicts)

"""What the experiments in chaos/*.json call: probes and actions for Chaos Toolkit's python provider.

Keep: processes are found by the name that the supervisor knows and ended by id; one load runs at a time; every wait is bounded and told; a fault
that finds no load, or that a service does not come back from, is `Undecided`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable

import psutil

from weir.chaos import batch
from weir.chaos.load import FINISH_S, Journal, Load
from weir.chaos.oracle import TABLES, Count, Verdict, compare, count
from weir.contracts import names
from weir.contracts.endpoints import Endpoints
from weir.errors import Undecided
from weir.stack import services, settings, supervision, usual, watch

SETTLE_S = 180  # a bound, not an aim: a JVM may start for 150 s (weir.stack.services), then the group's session time-out (10 s) and a replay
NOW_S = 4  # a service that is up answers within one probe's time-out (2 s)
END_S = 30  # a killed JVM gave its memory back for 9 s on a machine with 25 processes waiting for two cores
TELL_S = 5.0  # a wait is told so often
AGAIN_S = 2.0  # counted again after it: a replay that comes late would double rows
STEADY_EVENTS = 500  # produced and counted before a fault: a second's
FAULTS = ("SIGKILL", "SIGSTOP")  # signals that break something

_loads: list[Load] = []
results: list[dict[str, object]] = []
broken: list[str] = []  # what a fault has struck, or was about to: service or pid; empty: the run broke nothing, so it shows nothing
say: list[Callable[[str], None]] = []  # who is told of a wait; set by the runner


def _tell(what: str) -> None:
    for told in say:
        told(f"    {what}")


def _until(what: str, met: Callable[[], bool], seconds: float, every_s: float = 0.5, far: Callable[[float], str] = lambda _seconds: "") -> bool:
    """Wait until `met`, telling of it; return whether it came to that. `far`: says how far it has come in so many seconds."""
    began = told = time.monotonic()
    while not met():
        now = time.monotonic()
        if now - began > seconds:
            return False
        if now - told >= TELL_S:
            told = now
            _tell(f"waiting for {what}{far(now - began)}, at most {seconds - (now - began):.0f} s more")
        time.sleep(every_s)
    return True


def _far(done: int, total: int, seconds: float) -> str:
    """Return how far a wait of some seconds has come, how fast, and what that makes of the rest. Pure."""
    to_go = usual.counted(done, total, seconds)
    return f": {done:,} of {total:,}{to_go and f', {to_go}'}"


def start_load(rate: int = 500, limit: int = 250_000) -> str:
    """Start the background load; return its run id."""
    load = Load(Endpoints.from_environment().kafka_bootstrap, rate=rate, limit=limit)
    _loads.append(load)
    load.start()
    if not _until("an acknowledged event", lambda: bool(load.journal.acknowledged), SETTLE_S, 0.1):
        raise Undecided("no event of the load was acknowledged", hint="is Kafka up? ./weir status")
    return load.journal.run_id


def ready() -> dict[str, bool]:
    """Return of each service whether it answers now."""
    configured = settings.load()
    return {r.name: r.state == "ready" for r in watch.observe(services.build(configured), configured.home)}


def _ready_within(seconds: float) -> bool:
    found: dict[str, bool] = {}

    def met() -> bool:
        found.update(ready())
        return all(found.values())

    return _until("every service to answer", met, seconds, far=lambda _: f": {sum(found.values())} of {len(found)} do, not yet {', '.join(n for n, answers in found.items() if not answers)}")


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


def _process(service: str) -> psutil.Process:
    state = supervision.Control(settings.load().home).states().get(service)
    if state is None or not state.pid:
        raise Undecided(f"{service} has no process to signal", hint="start it: ./weir up")
    return psutil.Process(state.pid)


def _acknowledged() -> int:
    """Return how many events are acknowledged up to a fault that comes now.

    Raises:
        Undecided: there is no load, so the fault would show nothing.
    """
    idle = _loads[-1].idle if _loads else "no load was started"
    if idle:
        raise Undecided(f"{idle}, so the fault would find none under way")
    return len(_loads[-1].journal.acknowledged)


def signal_service(service: str, signal_name: str) -> int:
    """Send a signal to a service's process by id; return the id. One of FAULTS needs a load."""
    process = _process(service)
    noted: dict[str, object] = {"fault" if signal_name in FAULTS else "signal": signal_name, "service": service, "pid": process.pid, "at_s": time.time()}
    if signal_name in FAULTS:
        noted["acknowledged"] = _acknowledged()
        broken.append(service)
    os.kill(process.pid, signal.Signals[signal_name])
    if signal_name == "SIGKILL" and psutil.wait_procs([process], timeout=END_S)[1]:  # until then its port still answers, and all look ready
        raise Undecided(f"{service} (pid {process.pid}) has not ended {END_S} s after SIGKILL")
    results.append(noted)
    return int(process.pid)


def kill_mid_batch(phase: str, service: str = "ingest", table: str = names.LANDING_EVENTS) -> int:
    """Kill the worker where a batch of its own is open in `phase`; return its id.

    It is stopped (SIGSTOP), its group's commits and the landing table are read, and it goes on unless it stood where it should: so often that it did.
    After the kill the commits are read once more, since a commit that was on its way could have ended the batch: then it is done again.

    Args:
        phase: `declared`: no row of the batch is landed; `landed`: its rows are, and the commit that ends it is not.
        service: the worker's name.
        table: the lane that is looked at.

    Raises:
        Undecided: no such moment was met in SETTLE_S, or there was no load.
    """
    endpoints, attempts = Endpoints.from_environment(), 0
    killed: list[int] = []

    def met() -> bool:
        nonlocal attempts
        acknowledged = _acknowledged()
        if not batch.lane(endpoints, table).get("batches"):
            return False  # it has not come to a batch of its own yet: what is declared was declared by one before it
        attempts += 1
        time.sleep(0.013 * (attempts % 11))  # not in step with the batches
        process = _process(service)
        found = _kill_if(process, lambda: batch.look(endpoints, table), phase)
        left = batch.declared(endpoints, table) if found else None
        if found is None or left is None or left.token != found.token:
            return False
        results.append({"fault": "SIGKILL", "service": service, "pid": process.pid, "at_s": time.time(), "acknowledged": acknowledged,
                        "batch": found.token, "phase": found.phase, "rows": found.rows, "landed": found.landed, "attempts": attempts})
        killed.append(process.pid)
        return True

    if not _until(f"a batch that is {phase} and not ended", met, SETTLE_S, 0.01):
        raise Undecided(f"{service} was not met with a batch {phase} and not ended in {attempts} looks, {SETTLE_S} s")
    return killed[0]


def _kill_if(process: psutil.Process, look: Callable[[], batch.Open | None], phase: str) -> batch.Open | None:
    """Stop the process, look, and kill it when a batch is open in that phase; else it goes on."""
    os.kill(process.pid, signal.SIGSTOP)
    try:
        while process.status() not in {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}:
            time.sleep(0.001)
        found = look()
        if found is None or found.phase != phase:
            return None
        broken.append(str(process.pid))
        os.kill(process.pid, signal.SIGKILL)
        psutil.wait_procs([process], timeout=END_S)
        return found
    finally:
        if process.is_running():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)


def wait_until_replayed(table: str = names.LANDING_EVENTS) -> int:
    """Wait until every service answers and the worker that came back has replayed the open batch; return how many it replayed.

    Raises:
        Undecided: it did not come to that.
    """
    wait_until_ready()
    endpoints = Endpoints.from_environment()
    if not _until("the open batch's replay", lambda: bool(batch.lane(endpoints, table).get("replays")), SETTLE_S):
        raise Undecided(f"the worker that came back replayed no batch of {table} in {SETTLE_S} s", hint="./weir logs ingest")
    replays = int(batch.lane(endpoints, table)["replays"])
    results.append({"replayed_batches": replays, "of": table, "at_s": time.time()})
    return replays


def pause(seconds: float) -> None:
    """Let the fault last."""
    time.sleep(seconds)


def journal_matches_tables() -> bool:
    """Stop the load, wait for the tables to hold all that is owed, count once more, and compare by event id.

    Before the fault there is no load yet: then STEADY_EVENTS are produced and counted in the same way.

    Raises:
        Undecided: ClickHouse could not be asked, or nothing was produced, before the fault or after it: unknown, which is no pass.
    """
    if not _loads:
        return _steady_before()
    journal = _ended(_loads[-1])
    before = max((n for o in results if isinstance(n := o.get("acknowledged"), int)), default=0)
    if len(journal.acknowledged) <= before:
        raise Undecided(f"no event was acknowledged after the fault ({before} before it), so nothing was shown")
    return _counted(journal, "verdict")


def _steady_before() -> bool:
    """Return whether a short load, that nothing breaks, stands once in each table: else what is counted after the fault says nothing of the fault."""
    load = Load(Endpoints.from_environment().kafka_bootstrap, limit=STEADY_EVENTS)
    load.start()
    return _counted(_ended(load, STEADY_EVENTS), "before_the_fault")


def _ended(load: Load, of: int = 0) -> Journal:
    """Stop the load, once it has sent `of` events where that is told, and return its journal when the broker has answered of all.

    Raises:
        Undecided: the journal is not whole.
    """
    if not of:
        load.end()
    journal = load.journal
    _until("the broker's answers of the load's events", lambda: load.over, FINISH_S, 0.05,
           lambda seconds: _far(len(journal.acknowledged), of or len(journal.acknowledged) + len(journal.unknown), seconds))
    return load.finish(0.0)


def _counted(journal: Journal, said: str) -> bool:
    """Count the journal's events in each table, twice; note each count, with its verdict under the key `said`; return whether all is there once."""
    url = Endpoints.from_environment().clickhouse_url
    for table in TABLES:
        _settled(url, table, journal)
    time.sleep(AGAIN_S)
    counts = [_settled(url, table, journal) for table in TABLES]
    results.extend({"table": c.table, "owed": c.owed, "found": c.found, "lost": c.lost, "doubled": c.doubled, said: str(c.verdict), "at_s": time.time()}
                   for c in counts)
    return all(c.verdict is Verdict.YES for c in counts)


def _settled(url: str, table: str, journal: Journal) -> Count:
    """Return the count once it is complete, at the latest after SETTLE_S."""
    found: list[Count] = []
    errors: list[Exception] = []

    def complete() -> bool:
        found.clear()
        try:
            found.append(compare(table, journal, count(url, table, journal.run_id)))
        except Exception as error:  # noqa: BLE001 - raised below when it stays
            errors.append(error)
            return False
        return found[0].verdict is not Verdict.NO or bool(found[0].doubled)

    _until(f"the events in {table}", complete, SETTLE_S, far=lambda seconds: _far(found[0].found if found else 0, len(journal.acknowledged), seconds))
    if not found:
        raise Undecided(f"{table} could not be read: {errors[-1]}") from errors[-1]
    return found[0]

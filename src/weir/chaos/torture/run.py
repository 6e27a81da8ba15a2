"""One run of torture: load, kills, the end of the backlog, the verdict, the negative controls.

In: `Wanted`, settings of a stack of its own. Out: one JSON document. Keep: the verdict is yes only when every kill of the plan was made, the topic's end was committed, `verify events` says
yes, the producer's journals agree with the tables, and each planted fault was told.
"""

from __future__ import annotations

import queue
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from weir.chaos.torture import controls, plan
from weir.chaos.torture.cell import SESSION_MS, Cell, end
from weir.chaos.torture.slot import Slot
from weir.chaos.torture.stream import Stream
from weir.contracts import names
from weir.contracts.endpoints import Endpoints
from weir.errors import Undecided
from weir.ingest.clickhouse import ClickHouse
from weir.ingest.verify.outcome import Outcome
from weir.ingest.verify.run import Progress, verify
from weir.simulation.journal import ID_SUM_SQL, Journal
from weir.stack import accounts, usual
from weir.stack.settings import StackSettings
from weir.topics.reader import Reader

PORT_SHIFT: Final = 300  # from the stack that may be running
DRAIN_S: Final = 240.0
TOLD_S: Final = 5.0
KILL_S: Final = 60.0  # the most a kill may take in the end, with every slot's


@dataclass(frozen=True, slots=True)
class Wanted:
    """`kills` by `seed`, on `workers` at once, under `rate` events a second; `budget_s`: no new kill is begun after so long (0: no limit)."""

    kills: int
    seed: int = 1
    workers: int = 2
    rate: int = 2000
    budget_s: float = 0.0


def own(settings: StackSettings) -> StackSettings:
    """Return the settings of a stack beside `settings`: its own ports and empty folder, nothing of it external, the same jars."""
    home, base = settings.home / "torture", settings.port_base + PORT_SHIFT
    clear(home)
    home.mkdir(parents=True, exist_ok=True)
    (settings.home / "jars").mkdir(exist_ok=True)
    if not (home / "jars").exists():
        (home / "jars").symlink_to(settings.home / "jars")
    local, users = Endpoints.local(base), settings.clickhouse_users
    if users:
        local = replace(local, clickhouse_url=accounts.as_user(local.clickhouse_url, accounts.ADMIN, users[accounts.ADMIN]))
    return replace(settings, home=home, port_base=base, endpoints=local, external=frozenset())


def run(wanted: Wanted, settings: StackSettings, report: Callable[[str], None]) -> dict[str, Any]:
    """Torture a stack that is made for it and ended afterwards; its folder is left to the caller.

    Raises:
        WeirError: the stack did not start, or could not be verified at all.
    """
    began, cell = time.monotonic(), Cell(settings)
    try:
        with usual.phase(settings.home.parent, "torture start", lambda line: report(f"starting Kafka, the gateway and dbt's views, {line}")):
            cell.up()
        report(f"up in {time.monotonic() - began:.0f} s; {wanted.kills} kills begin")
        made, failures, journals, seconds = _kills(wanted, cell, report)
        _drain(cell, wanted.workers, report)
        return _judged(wanted, settings, made, failures, journals, seconds, report)
    finally:
        cell.down()


def _kills(wanted: Wanted, cell: Cell, report: Callable[[str], None]) -> tuple[list[plan.Made], list[str], list[Journal], float]:
    left: queue.SimpleQueue[plan.Kill] = queue.SimpleQueue()
    for kill in plan.plan(wanted.kills, wanted.seed):
        left.put(kill)
    made: list[plan.Made] = []
    began, told = time.monotonic(), 0.0

    def next_kill() -> plan.Kill | None:
        if wanted.budget_s and time.monotonic() - began > wanted.budget_s:
            return None
        try:
            return left.get_nowait()
        except queue.Empty:
            return None

    stream = Stream(cell.settings.endpoints.kafka_bootstrap, wanted.rate, wanted.seed)
    slots = [Slot(n, cell, next_kill, made.append, wanted.seed) for n in range(wanted.workers)]
    stream.start()
    for slot in slots:
        slot.start()
    while any(s.is_alive() for s in slots):
        time.sleep(0.2)
        if time.monotonic() - told > TOLD_S:
            told = time.monotonic()
            rate = len(made) / (told - began)
            report(f"{len(made)} of {wanted.kills} kills, {sum(m.hit for m in made)} hit, {rate * 60:.0f} a minute"
                   + (f", {(wanted.kills - len(made)) / rate:.0f} s to go" if rate else ""))
    journals = stream.finish()
    return made, [f for f in (*(s.failure for s in slots), stream.failure) if f], journals, time.monotonic() - began


def _drain(cell: Cell, workers: int, report: Callable[[str], None]) -> None:
    """Let workers without hooks finish what is left.

    Raises:
        Undecided: the topic's end was not committed in time.
    """
    report("the kills are over: workers finish the backlog")
    left, told = usual.Lessening(), usual.sparing(report, TOLD_S)
    finishing = [cell.worker(n, {}) for n in range(workers)]
    reader = Reader(cell.settings.endpoints.kafka_bootstrap, names.ingest_group(names.LANDING_EVENTS))
    try:
        ends = {p: reader.bounds(names.TOPIC_USER_EVENTS, p)[1] for p in reader.partitions(names.TOPIC_USER_EVENTS)}
        deadline = time.monotonic() + DRAIN_S
        while True:
            found = reader.committed(names.TOPIC_USER_EVENTS, list(ends))
            behind = {p: (at, e) for p, e in ends.items() if (at := found.get(p, (0, ""))[0]) < e}
            if not behind:
                break
            told(_unfinished(sum(e - at for at, e in behind.values()), left))
            if time.monotonic() > deadline:
                raise Undecided(f"workers did not finish the backlog in {DRAIN_S:.0f} s: {behind}", hint=f"their logs are under {cell.settings.home}/logs")
            time.sleep(0.3)
    finally:
        reader.close()
        for process in finishing:
            end(process)


def _unfinished(offsets: int, left: usual.Lessening) -> str:
    to_go = left.to_go(offsets)
    return f"{offsets:,} offsets are not committed yet{to_go and f', {to_go}'}"


def _judged(wanted: Wanted, settings: StackSettings, made: Sequence[plan.Made], failures: list[str], journals: Sequence[Journal], seconds: float,
            report: Callable[[str], None]) -> dict[str, Any]:
    e = settings.endpoints

    reading: Callable[[Progress], None] = usual.sparing(lambda at: report(f"verify events: {at}"), TOLD_S)

    def verified() -> Outcome:
        return verify(e.kafka_bootstrap, e.clickhouse_url, settings.home / "verify", reading)

    outcome = verified()
    document = outcome.document()
    report(f"verify events: {document['verdict']}, {document['judged']} records judged in {document['seconds']:.0f} s")
    client = ClickHouse(e.clickhouse_url)
    try:
        journal = against_journals(client, document["total"], journals)
        planted = [c.document() for c in controls.plant(client, verified, outcome)] if outcome.verdict() == "yes" else []
    finally:
        client.close()
    for control in planted:
        report(f"planted {control['name']}: {'caught' if control['caught'] else 'NOT caught'}")
    whole = len(made) == wanted.kills or bool(wanted.budget_s and made)
    exact = document["verdict"] == "yes" and journal["agrees"] and len(planted) == 3 and all(c["caught"] for c in planted)  # noqa: PLR2004 - loss, duplicate, reordering
    verdict = "no" if document["verdict"] == "no" or not journal["agrees"] else "yes" if exact and whole and not failures else "unknown"
    return {
        "verdict": verdict, "wanted": asdict(wanted), "session_ms": SESSION_MS, "seconds": round(seconds, 1), **plan.summary(made), "failures": failures,
        "journal": journal, "verify": document, "controls": planted, "made": plan.rows(made),
    }


def against_journals(client: ClickHouse, total: dict[str, int], journals: Sequence[Journal]) -> dict[str, Any]:
    """Hold what was verified against what the producer was told: counts, and the sum of the accepted events' ids, each once."""
    sent = {"produced": sum(j.produced for j in journals), "bad": sum(j.bad for j in journals), "repeated": sum(j.repeated for j in journals)}
    ids = int(client.execute(f"SELECT {ID_SUM_SQL} FROM (SELECT DISTINCT event_id FROM {names.LANDING_EVENTS} WHERE reject_reason = '')"))
    agrees = (total["landed"] == sent["produced"] + sent["repeated"] and total["quarantined"] == sent["bad"] and total["deduplicated"] == sent["repeated"]
              and ids == sum(j.id_sum for j in journals) % (1 << 64))
    return {"agrees": agrees and all(j.complete for j in journals), **sent}


def clear(home: Path) -> None:
    """Delete a run's folder; the jars behind its link stay."""
    shutil.rmtree(home, ignore_errors=True)

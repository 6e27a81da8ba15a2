"""The way back when the slot is lost, gone or another: a new slot, every captured table read anew, and what was deleted meanwhile deleted here too.

In: the stream as it stands, the register. Out: a `Plan`, then tables that were compared with the source key by key. Keep: the mark is written before anything is changed and goes when the last
table was proven, so that one who is killed in between is followed by another; a snapshot brings no deletes, so a table counts as brought back only once it was compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from weir.capture import bulk, operate, pace
from weir.capture.parts import Parts, Report
from weir.capture.register import turn
from weir.connect.slot import Loss, Slot, Stream, lost
from weir.contracts import cdc, wayback
from weir.contracts.captured import Captured, State
from weir.contracts.endpoints import Endpoints
from weir.contracts.wayback import COMMAND, WayBack
from weir.errors import ServiceFailed, Terminal, Undecided
from weir.reconcile.cycle import Reconciler
from weir.reconcile.outcome import Answer, Outcome
from weir.reconcile.progress import Progress
from weir.reconcile.source import text_of

STILL_S: Final = 300.0  # without a record more: a large table's first chunk, and a worker that was killed, are back long before
FAILED_S: Final = 8.0  # Connect tells the state of the task before for a moment
TELL_S: Final = 5.0
TRIES: Final = 4  # comparisons of a table, of which one may be a resync


@dataclass(frozen=True, slots=True)
class Table:
    """One captured table in the plan: about how many rows it has at the source, why it cannot be proven now (empty: it will be), and whether it is kept as a history."""

    name: str
    source: str
    rows: int
    waits: str = ""
    history: bool = False

    def line(self) -> str:
        """Return it for reading. Pure."""
        copy = "read anew for what was inserted and updated since, then compared key by key: what the source has no more is deleted"
        what = "a history: the changes in between are lost to it, and a new snapshot follows what it has" if self.history else copy
        return f"  {self.name} ({self.source}, about {self.rows:,} rows): {self.waits or what}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is wrong and what would be done. `loss`: empty when only what was begun before is left to do; LSNs as PostgreSQL writes them."""

    loss: str
    since: str
    until: str
    drops_slot: bool
    reads: bool
    tables: tuple[Table, ...]

    def lines(self) -> list[str]:
        """Return it for reading. Pure."""
        found = [f"slot {cdc.SLOT}: {self.loss}; what was changed between {self.since} and {self.until} does not come by the stream"] if self.loss else [
            "a way back that was begun before is not at its end"]
        if self.loss:
            found.append(f"  connector {cdc.CONNECTOR} is stopped and its offsets are deleted{f', slot {cdc.SLOT} is dropped' if self.drops_slot else ''}")
        if self.reads:
            found.append(f"  connector {cdc.CONNECTOR} runs with a new slot and reads every captured table anew")
        return found + [t.line() for t in self.tables]

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def waits(entry: Captured) -> str:
    """Return why a table cannot be proven as part of the way back; empty: it can. Pure."""
    if entry.state is State.PAUSED:
        after = f"./weir table resync {entry.name}" if entry.owned else f"./weir table resume {entry.name} and ./weir reconcile --once --repair --table {entry.name}"
        return f"paused, {after} brings it back"
    if entry.state is State.RESYNCING or (entry.owned and not entry.generation):
        return "a copy is being built, which is compared before it is read"
    return ""


def look(endpoints: Endpoints, home: Path) -> Plan:
    """Return what is to be done.

    Raises:
        Terminal: there is nothing to bring back; says what there is. Unavailable: a part could not be asked.
    """
    stream, mark = Slot(endpoints).look(), read_mark(home)
    return _plan(endpoints, stream, mark, refused(stream, mark))


def refused(stream: Stream, mark: WayBack | None) -> Loss | None:
    """Return what was lost, None where only the rest of an earlier way back is to be done. Pure.

    Raises:
        Terminal: neither is so.
    """
    loss = lost(stream)
    if loss or mark:
        return loss
    if stream.state == "UNREGISTERED":
        raise Terminal(f"nothing to bring back: connector {cdc.CONNECTOR} is not registered", hint="./weir up registers it")
    at = "has committed nothing yet" if stream.committed_lsn is None else f"has committed up to {text_of(stream.committed_lsn)}"
    slot = f"slot {cdc.SLOT} is {stream.wal_status}" if stream.wal_status else f"slot {cdc.SLOT} is still to be made"
    hint = "./weir reconcile --once compares source and sink"
    if stream.task == "FAILED":
        hint = f"the task failed for another reason: {stream.trace or './weir logs connect shows it'}"
    elif stream.state in {"STOPPED", "PAUSED"}:
        hint = f"the connector is {stream.state}: curl -X PUT $WEIR_CONNECT_URL/connectors/{cdc.CONNECTOR}/resume in ./weir run sh"
    raise Terminal(f"nothing to bring back: {slot} and holds all that is owed, Debezium {at}", hint=hint)


def read_mark(home: Path) -> WayBack | None:
    """Return the mark of a way back that is under way; raises as `wayback.parse`."""
    with suppress(FileNotFoundError):
        return wayback.parse(wayback.path(home).read_text())
    return None


def _write(home: Path, mark: WayBack) -> WayBack:
    path = wayback.path(home)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.new")
    beside.write_text(wayback.document(mark))
    beside.replace(path)
    return mark


def _plan(endpoints: Endpoints, stream: Stream, mark: WayBack | None, loss: Loss | None) -> Plan:
    begun = mark or WayBack("", stream.committed_lsn or 0, stream.now_lsn, 0)
    with operate.opened(endpoints) as parts:
        entries = parts.register.tables().values()
        left = [e for e in entries if loss or mark is None or mark.tables is None or e.name in mark.tables]
        tables = tuple(Table(e.name, e.source, parts.source.about(e.source), waits(e), e.history) for e in left)
    why = f"{loss}{f' ({stream.reason})' if stream.reason else ''}" if loss else ""
    return Plan(why, text_of(begun.since_lsn) if begun.since_lsn else "its last commit, which is not known", text_of(stream.now_lsn if loss else begun.until_lsn), bool(loss and stream.wal_status),
                bool(loss) or begun.tables is None, tables)


@dataclass
class WayBackRun:
    """Takes the way. `rebuild`: has dbt make a mart anew, by its name; `report`: is given a line about each step; clock in seconds."""

    endpoints: Endpoints
    home: Path
    rebuild: Callable[[str], None]
    report: Report
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def run(self) -> list[Outcome]:
        """Go to the end; return what was said of each table, mart and view.

        Raises:
            Terminal: there is nothing to bring back. Undecided: a table could not be proven. ServiceFailed: the connector does not run. The mark stays: the next run goes on.
        """
        slot = Slot(self.endpoints)
        with turn(self.home):  # no table is added, resynced or paused by the watcher meanwhile
            stream, mark = slot.look(), read_mark(self.home)
            loss = refused(stream, mark)
            if loss or mark is None or not mark.reading:
                began = mark.began_at_ms if mark else int(time.time() * 1000)
                since = min(n for n in (mark.since_lsn if mark else None, stream.committed_lsn, stream.now_lsn) if n)
                mark = _write(self.home, WayBack(str(loss or (mark.why if mark else "")), since, stream.now_lsn, began))
                self.report(f"connector {cdc.CONNECTOR}: stopping it, deleting its offsets, dropping slot {cdc.SLOT} where there is one")
                slot.let_go()
                mark = _write(self.home, replace(mark, reading=True))
            slot.resume()
        with operate.opened(self.endpoints) as parts:
            if mark.tables is None:
                self._flows(parts, slot)
                mark = _write(self.home, replace(mark, tables=self._listed(parts)))
        return self._proven(mark)

    def _flows(self, parts: Parts, slot: Slot) -> None:
        """Wait until the stream flows past all that was changed before now, and all of it has landed."""
        entries = list(parts.register.tables().values())
        progress = Progress(self.endpoints.kafka_bootstrap)
        try:
            self._read(parts, slot, progress, entries)
        finally:
            progress.close()
        for entry in (e for e in entries if e.state is not State.PAUSED):
            since = self.clock()
            while not bulk.landed(entry.topic, self.endpoints.kafka_bootstrap):
                self.report(f"{entry.name}: ingest lands what was read")
                if self.clock() - since > STILL_S:
                    raise Undecided(f"{entry.topic} does not land", hint=f"./weir status shows ingest; then {COMMAND} goes on")

    def _read(self, parts: Parts, slot: Slot, progress: Progress, entries: Sequence[Captured]) -> None:
        total = sum(parts.source.about(e.source) for e in entries)

        def ends() -> int:
            return sum(sum(progress.ends(e.topic).values()) for e in entries)

        began = since = told = self.clock()
        first = most = ends()
        while True:
            stream, now, at = slot.look(), self.clock(), ends()
            if at > most:
                most, since = at, now
            if stream.reader is not None and stream.task == "RUNNING":  # it reads the slot once the snapshot is done
                try:
                    parts.source.wait_published(stream.now_lsn, time.monotonic() + TELL_S)
                except Undecided:
                    pass
                else:
                    return
            if stream.task == "FAILED" and now - began > FAILED_S:
                raise ServiceFailed(f"connector {cdc.CONNECTOR} does not read the tables anew: {stream.trace}", hint=f"./weir logs connect shows more; {COMMAND} begins anew")
            if now - since > STILL_S:
                raise Undecided(f"connector {cdc.CONNECTOR} reads nothing, its task is {stream.task}", hint=f"./weir logs connect shows why; {COMMAND} goes on")
            if now - told >= TELL_S:
                told = now
                self.report(pace.line("every captured table", most - first, total, now - began))
            self.sleep(1.0)

    def _listed(self, parts: Parts) -> tuple[str, ...]:
        """Return the tables to prove; one that is stopped by command is told to be without changes, so that only a resync lets it flow again."""
        names = []
        for entry in parts.register.tables().values():
            why = waits(entry)
            if entry.state is State.PAUSED and entry.owned and entry.by != "loss":
                with turn(self.home):
                    parts.register.write(entry.to(State.PAUSED, why=f"{entry.why or 'by command'}; changes were lost with the slot", by="loss"))
            if why:
                self.report(f"{entry.name}: {why}")
            else:
                names.append(entry.name)
        return tuple(names)

    def _proven(self, mark: WayBack) -> list[Outcome]:
        """Compare and repair each table that is left, then take the mark away."""
        left, told = list(mark.tables or ()), []
        reconciler = Reconciler(self.endpoints, self.rebuild)
        while left:
            told += self._one(reconciler, left[0])
            mark = _write(self.home, replace(mark, tables=tuple(left[1:])))
            left = left[1:]
        wayback.path(self.home).unlink(missing_ok=True)
        return told

    def _one(self, reconciler: Reconciler, name: str) -> list[Outcome]:
        resynced, why = False, ""
        for _ in range(TRIES):
            with operate.opened(self.endpoints) as parts:  # anew: a resync gives a table another copy
                entry = parts.register.tables().get(name)
            if entry is None or waits(entry):
                self.report(f"{name}: {'captured no more' if entry is None else waits(entry)}")
                return []
            if entry.history and not resynced:  # rows that are the same say nothing of changes in between
                self.report(f"{name}: the changes in between are lost to this history; a new snapshot follows what it has")
                operate.resynced(self.endpoints, self.home, name, self.report)
                resynced = True
                continue
            self.report(f"{name}: comparing with the source, key by key")
            outcomes = reconciler.run([entry.table()], repair=True)
            first = outcomes[0]
            if first.outcome is Answer.YES:
                self.report(f"{name}: {first.rows_checked:,} rows are the source's" + (f"; {first.found} differed and were repaired, {first.extra} of them deleted at the source" if first.found else ""))
                return outcomes
            if first.found and first.oversized == first.found:
                self.report(f"{name}: {first.reason}")
                return outcomes
            why = first.reason
            if first.outcome is Answer.NO and not first.repairable and not resynced:
                self.report(f"{name}: {first.found} keys differ, too many for repairs: a resync")
                operate.resynced(self.endpoints, self.home, name, self.report)
                resynced = True
        raise Undecided(f"{name} is not proven to be as the source: {why}", hint=f"{COMMAND} goes on from here")

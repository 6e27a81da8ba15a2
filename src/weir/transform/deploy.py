"""A changed keyed model is deployed with no blind time: built beside by dbt, caught up, proven against the landing tables, exchanged while no insert runs.

In: a model whose file was changed. Out: `Deployed`. Keep: readers have the old table or the new one, whole; what fails before the exchange is swept and leaves the old one serving; killed at any
step and run again it goes on or begins anew (docs/decisions/0020). One deploy of a home at a time: the caller holds its lock.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from weir.contracts import names
from weir.errors import ContractViolation, Terminal, Unavailable, UnknownName, WeirError
from weir.transform import build, proof, shadow
from weir.transform.proof import Proof
from weir.transform.shadow import Keyed
from weir.transform.warehouse import Warehouse

HISTORIES: Final = ("refuse", "copy", "drop")
STEPS: Final = 4  # build, compare, exchange, catch up once more: what else is done takes no time to speak of
PATIENCE_S: Final = 90.0  # for a gateway that ended in the middle of the exchange to be back
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Deployed:
    """How it went. `changed`: the new table or its query is another; `lone`: keys that the landing tables no longer give, `history`: what became of them.

    `held_ms`: for how long inserts were held; None where the server cannot hold them, and what landed between was caught up after. `ended_earlier`: the exchange of a deploy
    that was killed was ended first.
    """

    model: str
    changed: bool
    proof: Proof
    lone: int
    history: str
    readers: tuple[str, ...]
    held_ms: float | None
    ended_earlier: bool
    seconds: float

    def document(self) -> dict[str, Any]:
        """Return it as JSON values; hashes as text, being wider than JSON's numbers."""
        told = asdict(self)
        told["proof"] |= {k: f"{told['proof'][k]:016x}" for k in ("owed_hash", "there_hash")}
        return told


@dataclass(frozen=True, slots=True)
class Deploy:
    """One deploy of `model`. `environment`: what dbt runs in, `dbt`: what runs it; `history`: what becomes of rows that only the standing table has."""

    warehouse: Warehouse
    environment: Mapping[str, str]
    model: str
    history: str = "refuse"
    report: Report = lambda _line: None
    dbt: build.Dbt = build.alone

    def run(self) -> Deployed:
        """Deploy.

        Raises:
            WeirError: it was not; the old table serves, unless the message says that the exchange had begun.
        """
        began = time.monotonic()
        ended = self._end_earlier()
        live = self._live()
        shadow.sweep(self.warehouse)
        try:
            beside = self._built()
            readers = self._read_on(live, beside)
            proven = self._proven(beside)
            lone = self._history(live, beside)
            self.warehouse.run(f"ALTER TABLE {beside.table} MODIFY COMMENT '{shadow.VERIFIED}'")
        except BaseException:
            with contextlib.suppress(WeirError):  # what is left then goes at the next deploy
                shadow.sweep(self.warehouse)
            raise
        self._step(3, "the exchange; inserts that run are waited for first")
        held_ms = exchange(self.warehouse, self.model, self.report)
        self._settled()
        shadow.sweep(self.warehouse)
        history = "none is lost" if not lone else {"copy": "copied", "drop": "dropped"}[self.history]
        return Deployed(self.model, live.shape != beside.shape, proven, lone, history, readers, held_ms, ended, time.monotonic() - began)

    def _step(self, number: int, what: str) -> None:
        self.report(f"{self.model}, {number} of {STEPS}: {what}")

    def _end_earlier(self) -> bool:
        """End the exchange of a deploy of this model that was killed in it, and bring what landed since, whatever becomes of this deploy."""
        tables = shadow.standing(self.warehouse)
        begun = [m for m in shadow.verified(tables) if tables.get(m, _NONE).comment == shadow.VERIFIED or tables.get(shadow.shadow_of(m), _NONE).feeds]
        if not begun:
            return False
        if other := next((m for m in begun if m != self.model), ""):
            raise ContractViolation(f"the exchange of {other} was begun and not ended", hint=f"./weir deploy {other} ends it")
        self.report(f"{self.model}: ending the exchange that an earlier deploy had begun")
        exchange(self.warehouse, self.model, self.report)
        count = proof.fill(self.warehouse, shadow.standing(self.warehouse)[self.model])
        self.report(f"{self.model}: {count} keys had landed while no view filled it")
        self.warehouse.run(f"ALTER TABLE {names.DB_STAGING}.{self.model} MODIFY COMMENT ''")
        return True

    def _live(self) -> Keyed:
        tables = shadow.standing(self.warehouse)
        known = [n for n, t in tables.items() if t.is_keyed and t.feeds and not n.startswith(names.SHADOW_PREFIX)]
        live = tables.get(self.model)
        if live is not None and live.feeds and not live.is_keyed:
            raise ContractViolation(f"{self.model} is no keyed table ({live.engine}): rows that land while it is caught up beside would count twice",
                                    hint="give it a new name, build it, and let its readers follow")
        if live is None or not live.feeds:
            raise UnknownName.of("deployed keyed model", self.model, known, more=f"; a mart goes by ./weir run dbt build --select {self.model}") if known else Terminal("dbt has built no keyed model yet", hint="./weir run dbt build")
        return live

    def _built(self) -> Keyed:
        self._step(1, f"dbt builds {shadow.shadow_of(self.model)} beside, with its unit tests, and catches it up")
        arguments = ("--select", self.model, "--indirect-selection", "cautious", "--vars", json.dumps({"shadow": self.model}))
        build.build(self.environment, arguments, target="shadow", dbt=self.dbt)
        beside = shadow.standing(self.warehouse).get(shadow.shadow_of(self.model))
        if beside is None or not beside.feeds:
            raise ContractViolation(f"dbt made no table {shadow.shadow_of(self.model)} with a view that fills it", hint="is the model a materialized_view still, and enabled?")
        if not beside.is_keyed:
            raise ContractViolation(f"{self.model} would be no keyed table any more ({beside.engine}): it cannot be caught up exactly beside live traffic",
                                    hint="keep a ReplacingMergeTree (docs/decisions/0004)")
        return beside

    def _read_on(self, live: Keyed, beside: Keyed) -> tuple[str, ...]:
        """See that every view that reads the table reads the new one alike; return their names."""
        found = shadow.readers(self.warehouse, live)
        for reader in found:
            if reader.fires:
                raise ContractViolation(f"{reader.name} fires on inserts into {live.table}, which an exchange would cut off", hint="deploy it as a plain view, or drop it first")
            try:
                gives = {r[0]: r[1] for r in self.warehouse.query(f"DESCRIBE TABLE ({shadow.instead(reader.select, live.table, beside.table)})")}
            except Terminal as error:
                raise ContractViolation(f"{reader.name} cannot read the new {self.model}: {error.message}", hint=EXPAND) from error
            lost = [f"{c} {kind}" for c, kind in reader.columns.items() if gives.get(c) != kind]
            if lost:
                raise ContractViolation(f"{reader.name} would no longer give {', '.join(lost)}", hint=EXPAND)
        return tuple(r.name for r in found)

    def _proven(self, beside: Keyed) -> Proof:
        self._step(2, f"comparing {beside.table} with what its query makes of the landing tables")
        proven = proof.prove(self.warehouse, beside)
        if not proven.good:
            raise ContractViolation(f"{beside.table} is not what its query makes of the landing tables: {proven.missing} keys are missing, {proven.different} rows are of no landed row",
                                    hint="a query that asks the clock, or joins what changes, cannot be caught up; the old table serves on")
        self.report(f"{self.model}: {proven.keys} keys are owed and there, {proven.rows} rows stored, each of a landed row")
        return proven

    def _history(self, live: Keyed, beside: Keyed) -> int:
        lone = proof.lone(self.warehouse, live, beside)
        if not lone or self.history == "drop":
            return lone
        if self.history != "copy":
            raise ContractViolation(f"{lone} keys of {live.table} are not in the landing tables any more, so the new table lacks them",
                                    hint="--history copy takes their rows over as they stand, --history drop gives them up")
        if missing := [c for c in beside.columns if c not in live.columns]:
            raise ContractViolation(f"history cannot be copied: the standing {live.table} has no {', '.join(missing)}", hint="--history drop gives it up")
        if live.key != beside.key:
            raise ContractViolation("history cannot be copied: the key is another", hint="--history drop gives it up")
        copied = proof.copy(self.warehouse, live, beside)
        if copied != lone:
            raise ContractViolation(f"of {lone} keys that only the standing table has {copied} were copied", hint="--history drop gives them up; the old table serves on")
        self.report(f"{self.model}: {lone} keys that the landing tables no longer have were copied")
        return lone

    def _settled(self) -> None:
        """Have dbt take the new table as its own: the standing catch-up once more, which inserts nothing where writes were held, and its mark."""
        self._step(4, "exchanged; dbt catches up once more")
        try:
            build.build(self.environment, ("--select", self.model, "--resource-type", "model"), dbt=self.dbt)
        except WeirError as error:
            raise Terminal(f"{self.model} is exchanged and serves, but dbt's last catch-up did not end: {error.message}", hint=f"./weir deploy {self.model} does it again") from error


EXPAND: Final = "add what is new first, let the readers follow, and take the old away by another deploy"
_NONE: Final = Keyed("", "", "", "", "", "", "")


def exchange(warehouse: Warehouse, model: str, report: Report) -> float | None:
    """Do what is left of an exchange; return for how long writes were held (ms), None where they could not be.

    Raises:
        WeirError: it did not end; another deploy ends it.
    """
    deadline, held = time.monotonic() + PATIENCE_S, 0.0
    while True:
        try:
            statements = shadow.remaining(model, shadow.standing(warehouse))
            if not statements:
                return held
            answer = warehouse.together(statements)
            if answer is None:
                return None
            held += answer
        except Unavailable as error:
            if time.monotonic() > deadline:
                raise Unavailable(f"the exchange of {model} was begun and not ended: {error.message}", hint=f"./weir deploy {model} ends it; until then the table may lack what lands") from error
            report(f"{model}: {error.message}; the exchange is tried again")
            time.sleep(1.0)
        except Terminal as error:
            raise Terminal(f"the exchange of {model} was begun and not ended: {error.message}", hint=f"./weir deploy {model} ends it; until then the table may lack what lands") from error

"""The register of captured tables: for each, the columns its rows are read by, and whether ingest may go on. Kept in ClickHouse, read by several rooms.

In: rows of ops.captured_tables. Out: `Captured` values. Keep: pure; the newest row of a name counts, and none is ever changed; `connect`'s and the
operator's commands write it through `weir.capture`, `ingest` and `quality` read it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, Final

from weir.contracts import cdc, history, names, source_types
from weir.contracts.clickhouse import literal
from weir.contracts.history import Cut, Rows
from weir.contracts.schema import SourceColumn
from weir.errors import ContractViolation

TABLE: Final = f"{names.DB_OPS}.captured_tables"
HOLDS: Final = f"{names.DB_OPS}.captured_holds"
TRUNCATES: Final = f"{names.DB_CAPTURED}.weir_truncates"  # of the tables added by command; those of the shop's are dbt's
ROWS: Final = "__rows"  # ends the name of the view of a history's rows
KEYED: Final = names.DB_CAPTURED  # database of the keyed tables that were added by command; those of dbt are in `staging`
SELECT: Final = f"SELECT document FROM {TABLE} FINAL ORDER BY name FORMAT TabSeparatedRaw"


class State(StrEnum):
    """What ingest does with a table's records: CAPTURING reads them, PAUSED leaves them in Kafka, RESYNCING reads them into a copy that is being made too."""

    CAPTURING = "capturing"
    PAUSED = "paused"
    RESYNCING = "resyncing"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Captured:
    """One table. `columns`: as accepted; `used`: those that the keyed table has; `since_lsn`: rows of earlier transactions may have earlier columns.

    `owned`: its keyed table was made by `./weir table add`, of `generation` for the time being; else dbt made it. `by`: operator, schema (a change that
    is not safe) or loss (changes that did not come). `barrier`: its copy has what a TRUNCATE needs to be a barrier among its rows; one of an earlier version has not. `at_us`: when this was written, microseconds since the epoch.
    """

    name: str
    source: str
    state: State
    columns: tuple[SourceColumn, ...]
    used: frozenset[str]
    owned: bool = False
    why: str = ""
    by: str = ""
    since_lsn: int = 0
    generation: int = 0
    at_us: int = 0
    barrier: bool = False
    history: bool = False
    cut: Cut | None = None

    @property
    def topic(self) -> str:
        """Return its Kafka topic."""
        return f"{names.CDC_PREFIX}.{self.source}"

    @property
    def keyed(self) -> str:
        """Return its keyed table, a ReplacingMergeTree(version, is_deleted), or the one of its history, which every snapshot goes into."""
        if self.history:
            return f"{KEYED}.{self.name}__0"
        return f"{KEYED}.{self.name}__{self.generation}" if self.owned else cdc.CDC_TABLES[self.name].staging

    @property
    def read(self) -> tuple[SourceColumn, ...]:
        """Return the columns that the keyed table has."""
        return tuple(c for c in self.columns if c.name in self.used)

    @property
    def view(self) -> str:
        """Return what its readers read: rows as they stand."""
        return f"{KEYED}.{self.name}" if self.owned else self.keyed

    @property
    def rows_view(self) -> str:
        """Return the view of a history's rows as they stand, each as often as the source has it."""
        return f"{KEYED}.{self.name}{ROWS}"

    def rows(self) -> Rows:
        """Return what a history's rows are made of.

        Raises:
            ContractViolation: it has no snapshot yet.
        """
        if self.cut is None:
            raise ContractViolation(f"{self.name} is a history without a snapshot", hint=f"./weir table resync {self.name}")
        return Rows(self.keyed, self.read, self.generation, self.cut)

    def table(self) -> cdc.CdcTable:
        """Return it as the contract's table."""
        if self.history:
            return HistoryTable(self.name, self.source, self.topic, self.keyed, self.rows_view, rows=self.rows())
        known = cdc.CDC_TABLES.get(self.name)
        return known if known is not None and not self.owned else cdc.CdcTable(self.name, self.source, self.topic, self.keyed, newest(self.keyed, self.topic if self.barrier else ""))

    def to(self, state: State, *, why: str = "", by: str = "") -> Captured:
        """Return it in another state."""
        return replace(self, state=state, why=why, by=by)


@dataclass(frozen=True, slots=True)
class HistoryTable(cdc.CdcTable):
    """A table that is kept as a history. `rows`: how its rows are made."""

    rows: Rows | None = None


def told(entries: Iterable[Captured]) -> list[dict[str, str]]:
    """Return the tables as documents tell them: name, state, who stopped it and why. Pure."""
    return [{"name": e.name, "state": str(e.state), "by": e.by, "why": e.why} for e in entries]


def newest(table: str, topic: str = "") -> str:
    """Return what to read of a keyed table: each key's newest row, without the deleted and, where `topic` is named, what came before its last TRUNCATE."""
    return f"(SELECT * FROM {table} FINAL{f' WHERE {after_truncate(topic)}' if topic else ''})"


def after_truncate(topic: str) -> str:
    """Return the condition that a row came after its topic's last TRUNCATE: by (topic epoch, LSN), or a row of a snapshot by when Connect sent it (docs/decisions/0003).

    A row of the bulk path, whose version is below every epoch, has the LSN of its snapshot, in the epoch of now.
    """
    last = f"FROM {TRUNCATES} WHERE topic = {literal(topic)}"
    epoch = f"if(version < {1 << names.CDC_VERSION_EPOCH_SHIFT}, {names.CDC_TOPIC_EPOCH}, bitShiftRight(version, {names.CDC_VERSION_EPOCH_SHIFT}))"
    return (
        f"if(weir_lsn IS NOT NULL, ({epoch}, ifNull(weir_lsn, 0)) >"
        f" (SELECT max((bitShiftRight(version, {names.CDC_VERSION_EPOCH_SHIFT}), source_lsn)) {last}), weir_produced_at > (SELECT max(produced_at) {last}))"
    )


def document(entry: Captured) -> str:
    """Return the register's text of an entry."""
    return json.dumps(asdict(entry) | {"used": sorted(entry.used)}, separators=(",", ":"))


def parse(text: str) -> Captured:
    """Read an entry.

    Raises:
        ContractViolation: it is not one (an older or a newer program wrote it).
    """
    try:
        found: dict[str, Any] = json.loads(text)
        columns = tuple(SourceColumn(**c) for c in found.pop("columns"))
        return Captured(**{**found, "state": State(found["state"]), "columns": columns, "used": frozenset(found["used"]), "cut": history.parse(found.get("cut"))})
    except (ValueError, TypeError, KeyError) as error:
        raise ContractViolation(f"an entry of {TABLE} is not readable: {text[:120]}", hint="was it written by another version?") from error


def standing(lines: Iterable[str]) -> dict[str, Captured]:
    """Return the tables by name that were not removed, from the answer to SELECT."""
    found = [parse(line) for line in lines if line.strip()]
    return {e.name: e for e in found if e.state is not State.REMOVED}


def misfit(columns: Iterable[SourceColumn], row: dict[str, Any]) -> str:
    """Return why a row does not have what these columns promise, or an empty text; names columns, never values."""
    for c in columns:
        found = source_types.landing(c.type)
        if c.name not in row:
            return f"{c.name} is in its records no more"
        value = row[c.name]
        if value is None:
            if not c.nullable:
                return f"{c.name} is null, and was accepted as NOT NULL"
        elif found is None or not found.fits(value):
            return f"{c.name} has a value that {c.type} cannot hold in ClickHouse, or its type has changed"
    return ""

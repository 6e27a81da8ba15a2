"""A table kept as an append-only history: where its snapshots were cut into the stream, and which of its rows make the table as it stood. Pure.

In: a history's table, its columns, its last snapshot's `Cut`. Out: SQL. Keep: a change is in a snapshot or after it, never both: what the snapshot's transactions wrote is
in it, whatever its LSN, since a row's LSN precedes its commit's (docs/decisions/0015).

Source: PostgreSQL's manual, 9.28.4 (pg_snapshot) and 67.1 (32-bit transaction ids).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from weir.contracts import names, source_types
from weir.contracts.clickhouse import quoted
from weir.contracts.schema import SourceColumn

_IDS: Final = 1 << 32  # a change has its transaction's id without the epoch
IMAGES: Final = "[(after, 1), (before, -1)]"  # what a change adds to the table and takes from it


@dataclass(frozen=True, slots=True)
class Cut:
    """One snapshot of the source. `lsn`: read after it, so that whatever has a later one is not in it; `visible`: its pg_snapshot; `since`: (partition, end) of the topic before it."""

    lsn: int
    visible: str
    since: tuple[tuple[int, int], ...]

    def after(self) -> str:
        """Return the condition that a change came after the snapshot.

        Of what was written before `lsn` that is what a transaction wrote that was under way or began later; such a change lies past `since`, so that an
        older transaction that had the same 32-bit id is not taken for it.
        """
        _, high, running = self.visible.split(":")
        ids = ", ".join(str(int(x) % _IDS) for x in running.split(",") if x)
        began = f"bitAnd(toInt64(tx_id) - {int(high)}, {_IDS - 1}) < {_IDS >> 1}"
        return f"(lsn >= {self.lsn} OR ({self.past()} AND ({f'tx_id IN ({ids}) OR ' if ids else ''}{began})))"

    def past(self) -> str:
        """Return the condition that a change lies past the topic's ends of before the snapshot."""
        base = names.CDC_TOPIC_EPOCH << names.CDC_VERSION_EPOCH_SHIFT
        return f"({' OR '.join(f'(partition = {p} AND position >= {base + at})' for p, at in self.since) or '0'})"


@dataclass(frozen=True, slots=True)
class Rows:
    """What the table's rows are made of: the last snapshot's rows, number `snapshot`, and what came after its cut."""

    table: str
    columns: tuple[SourceColumn, ...]
    snapshot: int
    cut: Cut

    def kinds(self) -> dict[str, str]:
        """Return the type of each column, by its name."""
        return {c.name: source_types.sink_type(c.type, nullable=c.nullable) for c in self.columns}

    def images(self, until: Cut | None = None) -> str:
        """Return, for FROM, the images of rows: the columns, and `weir_n`, 1 for an image that came and -1 for one that went. `until`: of what that snapshot sees alone."""
        span = f"snapshot = 0 AND {self.cut.after()}{f' AND NOT {until.after()}' if until else ''}"
        last = f"(SELECT max(lsn) FROM {self.table} WHERE op = 't' AND {span})"  # 0: there was none
        rows = f"(snapshot = {self.snapshot} AND {last} = 0) OR ({span} AND op != 't' AND lsn > {last})"
        image = f"SELECT arrayJoin(arrayFilter(i -> tupleElement(i, 1) != '', {IMAGES})) AS weir_image FROM {self.table} FINAL WHERE {rows}"
        return (f"(SELECT {read(self.columns, 'weir_doc')}, weir_n FROM"
                f" (SELECT tupleElement(weir_image, 1) AS weir_doc, tupleElement(weir_image, 2) AS weir_n FROM ({image})))")

    def standing(self) -> str:
        """Return the SELECT of the rows as they stand, each as often as the table has it."""
        listed = ", ".join(quoted(c.name) for c in self.columns)
        return f"SELECT {listed} FROM (SELECT {listed}, sum(weir_n) AS weir_n FROM {self.images()} GROUP BY {listed} HAVING weir_n > 0) ARRAY JOIN range(toUInt64(weir_n)) AS weir_copy"


def read(columns: Sequence[SourceColumn], document: str, *, prefix: str = "", nullable: bool = False) -> str:
    """Return the SQL that reads columns from a row's document. `nullable`: each may be null, as where there is no row before or after."""
    return ", ".join(f"{source_types.read(c.name, c.type, nullable=nullable or c.nullable, document=document)} AS {quoted(prefix + c.name)}" for c in columns)


def parse(found: Mapping[str, object] | None) -> Cut | None:
    """Read a cut from the register's document; raises TypeError, ValueError or KeyError where it is none."""
    if found is None:
        return None
    since = found["since"]
    if not isinstance(since, list):
        raise TypeError(since)
    return Cut(int(str(found["lsn"])), str(found["visible"]), tuple((int(p), int(at)) for p, at in since))

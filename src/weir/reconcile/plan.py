"""What to ask each database about one table: SQL for counts and hashes by key bucket, and for single rows. Pure.

In: the table's columns on both sides, its key. Out: SQL. Keep: both sides hash the same columns in the same order; rows that only a bulk load of the
shop's tables brought (version below every CDC version) are nobody's to compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from weir.contracts.cdc import CdcTable
from weir.contracts.names import CDC_VERSION_EPOCH_SHIFT
from weir.errors import ContractViolation
from weir.reconcile import canonical
from weir.reconcile.canonical import Column

KEY_BITS: Final = 32
FIRST_BITS: Final = 6  # 64 buckets first; a bucket that differs is cut sixteenfold until its rows can be looked at one by one
STEP_BITS: Final = 4
BULK_BELOW: Final = 1 << CDC_VERSION_EPOCH_SHIFT

# Key types whose canonical text is a literal of the type in both databases.
KEY_TYPES: Final = frozenset({"smallint", "integer", "bigint", "text", "character varying", "uuid"})

KEYS: Final = "/*keys*/"  # where the SQL takes the keys: listed for ClickHouse, bound for PostgreSQL
Key = tuple[str, ...]
Between = tuple[int | None, int | None]  # of the first key column: past the first, up to and with the second; None: open
Bucket = tuple[int, int]  # rows, sum of row hashes modulo 2^64


@dataclass(frozen=True, slots=True)
class TablePlan:
    """How one table is compared. `unchecked`: source columns that the sink does not have or that have no canonical form, with the reason."""

    table: CdcTable
    key: tuple[Column, ...]
    columns: tuple[Column, ...]
    unchecked: tuple[str, ...]
    between: Between = (None, None)

    @property
    def sliceable(self) -> bool:
        """Say whether both sides order the key's first column alike, so that the table can be compared a slice at a time."""
        return self.key[0].source_type in {"smallint", "integer", "bigint"}

    def within(self, between: Between) -> TablePlan:
        """Return the plan of a slice: everything it asks for lies in it."""
        return replace(self, between=between)

    @property
    def lowest(self) -> int:
        """Return the version from which on a row is compared: of the shop's tables those that CDC brought, of an added one all, since its bulk rows are the source's own."""
        return BULK_BELOW if self.table.key else 0

    @property
    def inside(self) -> tuple[str, str]:
        """Return what is added to a condition on each side for the slice; empty for the whole table."""
        name = self.key[0].name
        bounds = [f"{{q}} {sign} {bound}" for sign, bound in zip((">", "<="), self.between, strict=True) if bound is not None]
        source, sink = ("".join(f" AND {b.format(q=quoted)}" for b in bounds) for quoted in (f'"{name}"', f"`{name}`"))
        return source, sink

    @property
    def _texts(self) -> tuple[tuple[str, str], tuple[str, str]]:
        key = [canonical.expressions(c) for c in self.key]
        return canonical.row_text(key), canonical.row_text([canonical.expressions(c) for c in self.columns])

    def _from(self, *, without: bool) -> tuple[str, str]:
        """Return FROM and WHERE of each side; `without`: the keys bound as a parameter are left out, else only they are taken."""
        key, _ = self._texts
        word = "NOT " if without else ""
        return (
            f"FROM {self.table.source} WHERE {word}(({key[0]}) = ANY({KEYS}::text[])){self.inside[0]}",
            f"FROM {self.table.standing} WHERE version >= {self.lowest} AND ({key[1]}) {word}IN ({KEYS}){self.inside[1]}",
        )

    def buckets(self, bits: int, inside: Sequence[int] | None = None) -> tuple[str, str]:
        """Return the SELECTs of (bucket, rows, sum of hashes), a bucket being the first `bits` bits of the key's hash.

        Args:
            bits: how fine the buckets are.
            inside: only what lies in these buckets of `bits - STEP_BITS` bits; None: the whole table.
        """
        key, row = self._texts
        bucket, hashed, tables = canonical.hash32(key), canonical.hash64(row), self._from(without=True)
        found = []
        for side, total in ((0, "coalesce(sum({h}), 0)::text"), (1, "toString(sum({h}))")):
            narrowed = "" if inside is None else f" AND ({bucket[side]} >> {KEY_BITS - bits + STEP_BITS}) IN ({', '.join(map(str, inside))})"
            cut = f"({bucket[side]} >> {KEY_BITS - bits})" if side == 0 else f"bitShiftRight({bucket[side]}, {KEY_BITS - bits})"
            narrowed = narrowed if side == 0 or inside is None else (
                f" AND bitShiftRight({bucket[side]}, {KEY_BITS - bits + STEP_BITS}) IN ({', '.join(map(str, inside))})")
            found.append(f"SELECT {cut} AS bucket, count(*), {total.format(h=hashed[side])} {tables[side]}{narrowed} GROUP BY bucket")
        return found[0], found[1]

    def rows(self, *, bits: int | None = None, inside: Sequence[int] = ()) -> tuple[str, str]:
        """Return the SELECTs of (framed key, key columns' texts, hash): of the bound keys, or without them of some buckets of `bits` bits."""
        key, row = self._texts
        bucket, hashed, tables = canonical.hash32(key), canonical.hash64(row), self._from(without=bits is not None)
        listed = ", ".join(map(str, inside))
        where = ("", "") if bits is None else (
            f" AND ({bucket[0]} >> {KEY_BITS - bits}) IN ({listed})", f" AND bitShiftRight({bucket[1]}, {KEY_BITS - bits}) IN ({listed})")
        texts = [canonical.expressions(c) for c in self.key]
        return (
            f"SELECT {key[0]}, ARRAY[{', '.join(t[0] for t in texts)}], ({hashed[0]})::text {tables[0]}{where[0]}",
            f"SELECT {key[1]}, [{', '.join(t[1] for t in texts)}], toString({hashed[1]}) {tables[1]}{where[1]}",
        )

    def framed(self, key: Key) -> str:
        """Return a key as both sides' SQL frames it."""
        return "".join(f"{len(text.encode())}:{text}" for text in key)

    def condition(self, keys: Sequence[Key]) -> str:
        """Return a condition for PostgreSQL that holds for just these keys, usable with an index; texts are quoted as literals."""
        def literal(text: str, column: Column) -> str:
            return text if column.source_type in {"smallint", "integer", "bigint"} else "'" + text.replace("'", "''") + "'"

        rows = [[literal(t, c) for t, c in zip(key, self.key, strict=True)] for key in keys]
        if len(self.key) == 1:
            return f'"{self.key[0].name}" IN ({", ".join(r[0] for r in rows)})'
        names = ", ".join(f'"{c.name}"' for c in self.key)
        return f"({names}) IN ({', '.join('(' + ', '.join(r) + ')' for r in rows)})"


def comparable(source: Sequence[tuple[str, str, bool]], sink: dict[str, str], where: str) -> tuple[tuple[Column, ...], tuple[str, ...]]:
    """Return the columns that compare, and of each other why it does not; as for `make`. `where`: the sink's table, for the reasons."""
    columns: list[Column] = []
    unchecked = []
    for name, kind, nullable in source:
        if name not in sink:
            unchecked.append(f"{name}: not in {where}")
            continue
        column = Column(name, kind, sink[name], nullable)
        try:
            canonical.expressions(column)
        except ContractViolation as error:
            unchecked.append(error.message.removeprefix("column "))
        else:
            columns.append(column)
    return tuple(columns), tuple(unchecked)


def make(table: CdcTable, source: Sequence[tuple[str, str, bool]], key: Sequence[str], sink: dict[str, str]) -> TablePlan:
    """Return the plan of a table.

    Args:
        table: which.
        source: (name, type, nullable) of the source's columns in order.
        key: names of the primary key's columns.
        sink: type by name of the keyed table's columns.

    Raises:
        ContractViolation: there is no key, or its type's text is not a literal, or a part of the key did not land.
    """
    columns, unchecked = comparable(source, sink, table.staging)
    keyed = tuple(c for k in key for c in columns if c.name == k)
    if not key or len(keyed) != len(key) or any(c.source_type.split("(")[0] not in KEY_TYPES for c in keyed):
        raise ContractViolation(
            f"{table.source} has no primary key of types {', '.join(sorted(KEY_TYPES))} in {table.staging}", hint="give it one, or leave the table out", table=table.name
        )
    return TablePlan(table, keyed, columns, unchecked)


def visible(xid: int, snapshot: str) -> bool:
    """Say whether the transaction with this 32-bit id is seen by a pg_snapshot `xmin:xmax:xip,…` (64-bit ids; PostgreSQL's manual, 9.28.4)."""
    low, high, running = snapshot.split(":")
    xmin, xmax = int(low), int(high)
    full = (xmax & ~0xFFFFFFFF) | xid
    if full - xmax > 1 << 31:
        full -= 1 << 32
    elif xmax - full > 1 << 31:
        full += 1 << 32
    return full < xmin or (full < xmax and str(full) not in running.split(","))


@dataclass(frozen=True, slots=True)
class Difference:
    """One key that is not the same on both sides; a hash is None where there is no such row. `kind`: missing, extra, different, doubled."""

    key: Key
    kind: str
    source_hash: int | None
    sink_hash: int | None


Rows = dict[Key, list[int]]


def differences(source: Rows, sink: Rows) -> list[Difference]:
    """Compare rows key by key."""
    found = []
    for key in sorted(source.keys() | sink.keys()):
        left, right = source.get(key, []), sink.get(key, [])
        at_source, in_sink = (left[0] if left else None), (right[0] if right else None)
        if not right:
            found.append(Difference(key, "missing", at_source, None))
        elif not left:
            found.append(Difference(key, "extra", None, in_sink))
        elif len(right) > len(left):
            found.append(Difference(key, "doubled", at_source, in_sink))
        elif left != right:
            found.append(Difference(key, "different", at_source, in_sink))
    return found


def unequal(source: dict[int, Bucket], sink: dict[int, Bucket]) -> dict[int, int]:
    """Return the buckets that differ, with how many rows the fuller side has."""
    return {b: max(source.get(b, (0, 0))[0], sink.get(b, (0, 0))[0]) for b in sorted(source.keys() | sink.keys()) if source.get(b) != sink.get(b)}

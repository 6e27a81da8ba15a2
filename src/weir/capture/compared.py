"""Which columns of a table land and are yet never compared with the source: told before the first row, since a verified copy says nothing of them.

In: columns as the catalogue has them. Out: mild `Finding`s, each with what would have the column compared. Keep: pure; asked of the very forms that reconciliation compares by.
"""

from __future__ import annotations

from collections.abc import Sequence

from weir.connect.preflight import Finding
from weir.contracts import source_types
from weir.contracts.schema import SourceColumn
from weir.errors import ContractViolation
from weir.reconcile import canonical


def notes(source: str, columns: Sequence[SourceColumn]) -> list[Finding]:
    """Return a finding for each column of an added table that reconciliation leaves out; none for one that is refused anyway. Pure."""
    found = []
    for c in columns:
        if c.generated == "v":
            found.append(Finding(f"{source}.{c.name} is a virtual column, which is in no change and lands nowhere", "-- compute it where it is read", mild=True))
        elif c.lands and not _has_form(c):
            kind = "text[]" if c.type.endswith("[]") else "text"
            sql = f"ALTER TABLE {source} ALTER COLUMN {c.name} TYPE {kind} USING {c.name}::{kind}; -- or leave it: it lands, and no verdict is about it"
            found.append(Finding(f"{source}.{c.name} of type {c.type} is not compared with the source", sql, mild=True))
    return found


def _has_form(column: SourceColumn) -> bool:
    sink = source_types.sink_type(column.type, nullable=column.nullable)
    try:
        canonical.expressions(canonical.Column(column.name, column.type, sink, column.nullable))
    except ContractViolation:
        return False
    return True

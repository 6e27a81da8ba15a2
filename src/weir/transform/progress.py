"""How far the query that a deploy waits for has come, from ClickHouse's own count of it (system.processes).

In: the server. Out: an `At`, or None where none of a deploy's queries runs. Keep: what cannot be told is no trouble of the deploy's; it is asked of a connection of its own, which waits shortly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from weir.errors import WeirError
from weir.transform.warehouse import LOG_COMMENT, Warehouse

ANSWER_S: Final = 2.0
_RUNNING: Final = """SELECT read_rows, total_rows_approx, elapsed FROM system.processes
WHERE (query_kind IN ('Create', 'Insert') AND position(query, '{model}') > 0) OR (query_kind = 'Select' AND Settings['log_comment'] = '{comment}' AND position(query, 'system.') = 0)
ORDER BY elapsed DESC LIMIT 1"""


@dataclass(frozen=True, slots=True)
class At:
    """Where a query stands: rows it has read, of about how many (0: not known), and for how many seconds it has run."""

    rows: int
    total: int
    seconds: float

    def __str__(self) -> str:
        """Tell it with its rate, and with the time to go where the whole is known."""
        rate = self.rows / max(self.seconds, 1e-3)
        of, to_go = (f" of about {self.total:,}", f", about {(self.total - self.rows) / rate:.0f} s to go") if self.rows and self.total > self.rows else ("", "")
        return f"{self.rows:,}{of} rows read, {rate:,.0f} rows/s{to_go}"


def running(warehouse: Warehouse, model: str) -> At | None:
    """Return how far the longest running query of a deploy of `model` has come, dbt's or its own; None when none runs or it could not be asked."""
    if not model.isidentifier():  # no name of a model
        return None
    try:
        found = warehouse.query(_RUNNING.format(model=model, comment=LOG_COMMENT))
    except (WeirError, ValueError):
        return None
    return At(int(found[0][0]), int(found[0][1]), float(found[0][2])) if found else None

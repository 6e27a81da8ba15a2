"""Negative controls: one loss, one duplicate, one reordering, planted in the landing table; each must be told where it is, and nothing else beside it.

In: a verified stack. Out: what was planted and what was told. Keep: done last, since the tables are wrong afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from weir.contracts import names
from weir.errors import Undecided
from weir.ingest.clickhouse import ClickHouse
from weir.ingest.verify.outcome import FAULTS, Outcome

_CONTENT: Final = ("event_id", "user_id", "item_id", "event_type", "rating", "session_id", "country", "occurred_at")

Fault = tuple[int, str, int, int]  # partition, kind, first offset, last offset


@dataclass(frozen=True, slots=True)
class Control:
    """One fault that was planted."""

    name: str
    planted: tuple[Fault, ...]
    told: tuple[Fault, ...]
    verdict: str

    @property
    def caught(self) -> bool:
        """Return whether exactly what was planted is told, and the verdict is no."""
        return self.verdict == "no" and sorted(self.told) == sorted(self.planted)

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"name": self.name, "caught": self.caught, "planted": [list(f) for f in self.planted], "told": [list(f) for f in self.told], "verdict": self.verdict}


def faults(outcome: Outcome) -> set[Fault]:
    """Return the faults of the landing table."""
    found = set()
    for partition in outcome.landing.tally.faulty():
        told = outcome.landing.tally.document(partition)["ranges"]
        found |= {(partition, kind, first, last) for kind in FAULTS for first, last in told.get(kind, [])}
    return found


def _swap(partition: int, a: int, b: int) -> str:
    def of(column: str, offset: int) -> str:
        return f"(SELECT {column} FROM {names.LANDING_EVENTS} WHERE partition = {partition} AND offset = {offset} LIMIT 1)"

    changes = ", ".join(f"{c} = if(offset = {a}, {of(c, b)}, {of(c, a)})" for c in _CONTENT)
    return f"ALTER TABLE {names.LANDING_EVENTS} UPDATE {changes} WHERE partition = {partition} AND offset IN ({a}, {b}) SETTINGS mutations_sync = 2"


def plant(client: ClickHouse, verify: Callable[[], Outcome], before: Outcome) -> list[Control]:
    """Plant one fault after another, each in other rows, and verify after each.

    Raises:
        Undecided: there are too few rows to plant in.
    """
    text = client.execute(f"SELECT partition, offset FROM {names.LANDING_EVENTS} WHERE reject_reason = '' ORDER BY cityHash64(partition, offset) LIMIT 2")
    places = [tuple(map(int, line.split("\t"))) for line in text.splitlines()]
    pair = client.execute(f"SELECT partition, groupArray(2)(offset) FROM (SELECT partition, offset FROM {names.LANDING_EVENTS} WHERE reject_reason = '' AND (partition, offset) "
                          f"NOT IN ({', '.join(map(str, places))}) ORDER BY offset DESC) GROUP BY partition HAVING count() > 1 ORDER BY partition LIMIT 1").split("\t")
    if len(places) != 2 or len(pair) != 2:  # noqa: PLR2004 - two places, a partition and its offsets
        raise Undecided("there are too few rows to plant a fault in", hint="run more kills, or a higher --rate")
    (p, a), (q, b), r = places[0], places[1], int(pair[0])
    c, d = (int(x) for x in pair[1].strip("[]\n").split(","))
    row = f"partition = {q} AND offset = {b}"
    statements: Mapping[str, tuple[str, tuple[Fault, ...]]] = {
        "loss": (f"ALTER TABLE {names.LANDING_EVENTS} DELETE WHERE partition = {p} AND offset = {a} SETTINGS mutations_sync = 2", ((p, "missing", a, a),)),
        "duplicate": (f"INSERT INTO {names.LANDING_EVENTS} SELECT * FROM {names.LANDING_EVENTS} WHERE {row} SETTINGS insert_deduplicate = 0", ((q, "doubled", b, b),)),
        "reordering": (_swap(r, c, d), tuple((r, "different", first, last) for first, last in ([(d, c)] if c == d + 1 else [(d, d), (c, c)]))),
    }
    known, made = faults(before), []
    for name, (statement, planted) in statements.items():
        client.execute(statement)
        outcome = verify()
        made.append(Control(name, planted, tuple(sorted(faults(outcome) - known)), outcome.verdict()))
        known |= faults(outcome)
    return made

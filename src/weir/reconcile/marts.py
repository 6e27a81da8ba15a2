"""A keyed table against the marts on it: each row recomputed here from the newest version of its key, and compared with what the mart gives.

In: keyed tables, truncates, marts. Out: keys that differ. Keep: read-only; nothing of the path's SQL is used (no FINAL, no view, no macro), so that a wrong
view shows; a key counts when it differs twice, SETTLE_S apart, from a recompute that did not move between. A model that is changed on purpose is changed here too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from weir.contracts import cdc, names
from weir.contracts.clickhouse import literal
from weir.contracts.features import FeatureViewContract
from weir.errors import NotYet
from weir.reconcile.online import inside
from weir.reconcile.outcome import Answer, Outcome
from weir.reconcile.plan import BULK_BELOW, Between, Difference
from weir.reconcile.sink import Sink

SETTLE_S: Final = 1.0  # a row may be in the keyed table a moment before the next SELECT sees it in a view
CATALOGUE: Final = f"{names.DB_STAGING}.stg_catalogue_items"
TRUNCATES: Final = f"{names.DB_STAGING}.stg_truncates"
KEYS_KEPT: Final = 1_000

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Truncates:
    """The last TRUNCATE of a topic: times in milliseconds, its (topic epoch, LSN); zeros: there was none."""

    changed_ms: int = 0
    place: tuple[int, int] = (0, 0)
    produced_ms: int = 0

    def stands(self, version: int, lsn: int | None, changed_ms: int, produced_ms: int) -> bool:
        """Say whether a row came after it (docs/decisions/0003). Pure."""
        if version < BULK_BELOW:
            return changed_ms > self.changed_ms
        if lsn is not None:
            return (version >> names.CDC_VERSION_EPOCH_SHIFT, lsn) > self.place
        return produced_ms > self.produced_ms


def profile(row: Row, changed_ms: int, _: Row | None) -> Row:
    """Return user_profile's row. Pure."""
    return changed_ms, *row


def catalogue(row: Row, changed_ms: int, also: Row | None) -> Row:
    """Return item_catalogue's row: the catalogue's genres and year come before the shop's. Pure."""
    title, year, genres, active = row
    other_genres, other_year, updated_ms = also or ((), 0, 0)
    return max(changed_ms, updated_ms), title, tuple(other_genres or genres), other_year or year, active


@dataclass(frozen=True, slots=True)
class Recompute:
    """How a mart follows from its keyed table: `columns` read of it, `row` of their values, the change's time and the catalogue's row where `joined`."""

    columns: tuple[str, ...]
    row: Callable[[Row, int, Row | None], Row]
    joined: bool = False


RECOMPUTES: Final[Mapping[str, Recompute]] = {
    "user_profile": Recompute(("age", "gender", "occupation", "country", "preferred_genre"), profile),
    "item_catalogue": Recompute(("title", "release_year", "genres", "is_active"), catalogue, joined=True),
}


def compared(expected: Mapping[int, Row], found: Mapping[int, Row]) -> list[Difference]:
    """Return the keys that are not the same. Pure."""
    made = []
    for key in sorted(expected.keys() | found.keys()):
        if expected.get(key) != found.get(key):
            kind = "missing" if key not in found else "extra" if key not in expected else "different"
            made.append(Difference((str(key),), kind, None, None))
    return made


class MartCycle:
    """One mart of a captured table."""

    def __init__(self, table: cdc.CdcTable, view: FeatureViewContract, sink: Sink) -> None:
        self._table, self._view, self._sink, self._how = table, view, sink, RECOMPUTES[view.mart]
        self.name = f"{names.DB_MARTS}.{view.mart}"

    def _truncates(self) -> Truncates:
        rows = self._sink.query(
            f"SELECT toUnixTimestamp64Milli(max(changed_at)), max((bitShiftRight(version, {names.CDC_VERSION_EPOCH_SHIFT}), source_lsn)),"
            f" toUnixTimestamp64Milli(max(produced_at)) FROM {TRUNCATES} WHERE topic = {literal(self._table.topic)} HAVING count() > 0")
        return Truncates(int(rows[0][0]), (int(rows[0][1][0]), int(rows[0][1][1])), int(rows[0][2])) if rows else Truncates()

    def _expected(self, where: str) -> dict[int, Row]:
        key, last = self._table.key, self._truncates()
        columns = ", ".join(self._how.columns)
        rows = self._sink.query(
            f"SELECT {key}, version, is_deleted, source_lsn, toUnixTimestamp64Milli(changed_at), toUnixTimestamp64Milli(produced_at), {columns}"
            f" FROM {self._table.staging} WHERE {where} ORDER BY {key}, version DESC LIMIT 1 BY {key}")
        joined: dict[int, Row] = {}
        if self._how.joined:
            others = self._sink.query(f"SELECT {key}, genres, release_year, toUnixTimestamp64Milli(updated_at) FROM {CATALOGUE} WHERE {where} ORDER BY {key}, version DESC LIMIT 1 BY {key}")
            joined = {k: tuple(rest) for k, *rest in others}
        return {
            k: self._how.row(tuple(values), changed, joined.get(k)) for k, version, deleted, lsn, changed, produced, *values in rows
            if not deleted and last.stands(version, lsn, changed, produced)
        }

    def _found(self, where: str) -> dict[int, Row]:
        columns = ", ".join(n for n, _ in self._view.features)
        rows = self._sink.query(f"SELECT {self._view.entity}, toUnixTimestamp64Milli(event_timestamp), {columns} FROM {self.name} WHERE {where}")
        return {k: tuple(tuple(v) if isinstance(v, list) else v for v in values) for k, *values in rows}

    def compare(self, between: Between) -> tuple[int, list[Difference]]:
        """Return (keys looked at, keys that differ twice) of a slice.

        Raises:
            NotYet: dbt has not made it. Unavailable: ClickHouse did not answer.
        """
        if not self._sink.columns(self.name):
            raise NotYet(f"{self.name} is not there", hint="./weir run dbt build makes it")
        where = inside(self._table.key, between)
        expected = self._expected(where)
        suspects = compared(expected, self._found(where))
        return len(expected), self._settled(suspects, expected) if suspects else []

    def _settled(self, suspects: Sequence[Difference], before: Mapping[int, Row]) -> list[Difference]:
        time.sleep(SETTLE_S)
        keys = {int(d.key[0]) for d in suspects[:KEYS_KEPT]}
        where = f"{self._table.key} IN ({', '.join(map(str, sorted(keys)))})"
        now = self._expected(where)
        again = compared(now, self._found(where))
        return [d for d in again if before.get(int(d.key[0])) == now.get(int(d.key[0]))]

    def outcome(self, table: Outcome, checked: int, found: Sequence[Difference], left: Sequence[Difference], *, repair: bool) -> Outcome:
        """Return what is said of a slice. What its table was verified through, it was verified through too, the mart being like the table."""
        made = Outcome("mart", self.name, Answer.NO if left else Answer.YES, rows_checked=checked, repaired=len(found) - len(left))
        made.reason = f"{len(left)} keys differ from a recompute of {self._table.staging}" if left else ""
        for kind in ("missing", "extra", "different"):
            setattr(made, kind, sum(d.kind == kind for d in found))
        made.repairable = (not repair or not left) if found else None
        if not left:
            made.verified_lsn, made.verified_at_ms = table.verified_lsn, table.verified_at_ms
        return made

"""Marts and landing tables, as the materializer reads them.

In: statements. Out: rows. Keep: an error is told by ClickHouse's code, never by its text; an entity that the source deleted has no row, though
its events still stand in the mart.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from clickhouse_connect.driver.exceptions import ClickHouseError
from urllib3.exceptions import HTTPError

from weir.contracts import names
from weir.contracts.clickhouse import NOT_BUILT_CODES, TRANSIENT_CODES, literal, parse
from weir.contracts.features import FeatureViewContract, ValueType
from weir.contracts.online import Value
from weir.errors import NotYet, Terminal, Unavailable, WeirError
from weir.features.due import Key
from weir.features.store import Row

TIMEOUT_S: Final = 30
_HINT: Final = "./weir logs clickhouse shows why"
_SOURCE: Final = {
    "user_id": ("users", names.STAGED_USERS, names.STANDING_USERS),
    "item_id": ("items", names.STAGED_ITEMS, names.STANDING_ITEMS),
}


def failure(error: Exception) -> WeirError:
    """Return what a driver's error means to the loop: NotYet, Unavailable (also when no code came: nobody answered) or Terminal."""
    code = getattr(error, "code", None)
    text = str(error)[:300]
    if code in NOT_BUILT_CODES:
        return NotYet(f"a table is not built yet: {text}", hint="./weir run dbt build makes it", code=code)
    if code is None or code in TRANSIENT_CODES:
        return Unavailable(f"ClickHouse does not answer: {text}", hint=_HINT, code=code)
    return Terminal(f"ClickHouse refused: {text}", hint=_HINT, code=code)


def statement(view: FeatureViewContract, keys: Sequence[Key] | None) -> str:
    """Return the SELECT of a view's rows for `keys` (all when None), without those of deleted or truncated entities. Pure.

    A mart that the source's own changes trigger is made of the keyed copy and has no deleted row; the others are made of events.
    """
    chosen = "" if keys is None else f"{view.entity} IN ({', '.join(literal(k) for k in keys)})"
    conditions = [chosen] if chosen else []
    trigger, staged, standing = _SOURCE.get(view.entity, ("", "", ""))
    if staged and trigger not in view.triggers:
        where, also = (f" WHERE {chosen}", f"{chosen} AND ") if chosen else ("", "")
        stands = f"SELECT {view.entity} FROM {standing}{where}"
        conditions.append(f"{view.entity} NOT IN (SELECT {view.entity} FROM {staged} WHERE {also}{view.entity} NOT IN ({stands}))")
    columns = ", ".join((view.entity, "event_timestamp", *(name for name, _ in view.features)))
    tail = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"SELECT {columns} FROM {names.DB_MARTS}.{view.mart}{tail}"


def to_value(kind: ValueType, raw: Any) -> Value:
    """Return the driver's value as a feature value."""
    if raw is None:
        return None
    if kind is ValueType.BOOL:
        return bool(raw)
    if kind is ValueType.INT64:
        return int(raw)
    if kind is ValueType.DOUBLE:
        return float(raw)
    return list(raw) if kind.endswith("_LIST") else str(raw)


def to_row(view: FeatureViewContract, raw: Sequence[Any]) -> Row:
    """Return one result row of `statement` as a row to store."""
    moment: datetime = raw[1]
    values = tuple(to_value(kind, value) for (_, kind), value in zip(view.features, raw[2:], strict=True))
    return Row(raw[0], values, int(moment.timestamp() * 1000))


class Marts:
    """One connection. Every method raises NotYet, Unavailable or Terminal, as `failure` says."""

    def __init__(self, clickhouse_url: str) -> None:
        import clickhouse_connect

        try:
            self._client = clickhouse_connect.get_client(**parse(clickhouse_url).arguments, autogenerate_session_id=False, send_receive_timeout=TIMEOUT_S)
        except (ClickHouseError, HTTPError, OSError) as error:
            raise failure(error) from error

    def query(self, sql: str) -> Sequence[Sequence[Any]]:
        """Return the rows of a statement."""
        try:
            return list(self._client.query(sql).result_rows)
        except (ClickHouseError, HTTPError, OSError) as error:
            raise failure(error) from error

    def rows(self, view: FeatureViewContract, keys: Sequence[Key] | None) -> list[Row]:
        """Return a view's rows for `keys` (all when None)."""
        return [to_row(view, raw) for raw in self.query(statement(view, keys))]

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

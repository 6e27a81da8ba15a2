"""ClickHouse against the online store, for the feature views that a captured table feeds: each key's stored bytes against its mart's row.

In: a view, marts, Redis. Out: an `Outcome` and the stale keys. Keep: read-only; KEYS_A_SLICE keys at a time, slice by slice to the last key, so that a whole
cycle leaves none out; a key counts as stale when it differs twice, SETTLE_S apart, from a mart's row that did not move between.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

import redis

from weir.contracts import names
from weir.contracts.clickhouse import literal
from weir.contracts.features import FEATURE_VIEWS, FeatureViewContract, ValueType
from weir.contracts.online import (
    Value,
    decode_timestamp,
    decode_value,
    entity_key,
    entity_prefix,
    entity_value,
    view_fields,
)
from weir.errors import ContractViolation, Unavailable
from weir.reconcile.outcome import Answer, Outcome
from weir.reconcile.plan import Between
from weir.reconcile.sink import Sink

KEYS_A_SLICE: Final = 20_000
BATCH: Final = 500
SETTLE_S: Final = 3.0  # the materializer looks every 0.15 s and reads each key a second time a tick later

Stored = tuple[int, tuple[Value, ...]]  # event time in ms, features in the contract's order


def views_of(table: str) -> list[FeatureViewContract]:
    """Return the views that only this table's changes make due."""
    return [v for v in FEATURE_VIEWS if v.triggers == (table,)]


def _value(kind: ValueType, raw: Any) -> Value:
    if raw is None:
        return None
    simple: dict[ValueType, type] = {ValueType.BOOL: bool, ValueType.INT64: int, ValueType.DOUBLE: float, ValueType.STRING: str}
    return simple[kind](raw) if kind in simple else list(raw)


def inside(column: str, between: Between) -> str:
    """Return ClickHouse's condition for a slice. Pure."""
    bounds = [f"{column} {sign} {bound}" for sign, bound in zip((">", "<="), between, strict=True) if bound is not None]
    return " AND ".join(bounds) or "1"


def parts(sink: Sink, table: str, column: str) -> Iterator[Between]:
    """Return slices of a table's keys, KEYS_A_SLICE of them each, the last one open; where one ends is asked when it is due."""
    low: int | None = None
    while True:
        rows = sink.query(f"SELECT {column} FROM {table} WHERE {inside(column, (low, None))} ORDER BY {column} LIMIT 1 OFFSET {KEYS_A_SLICE - 1}")
        high = int(rows[0][0]) if rows else None
        yield low, high
        if high is None:
            return
        low = high


class OnlineCycle:
    """One view's cycle."""

    def __init__(self, view: FeatureViewContract, sink: Sink, redis_url: str) -> None:
        self._view, self._sink = view, sink
        self._redis: Any = redis.Redis.from_url(redis_url, socket_timeout=5, socket_connect_timeout=2)

    def _mart(self, where: str) -> dict[int | str, Stored]:
        v = self._view
        columns = ", ".join(name for name, _ in v.features)
        rows = self._sink.query(f"SELECT {v.entity}, toUnixTimestamp64Milli(event_timestamp), {columns} FROM {names.DB_MARTS}.{v.mart} WHERE {where}")
        return {r[0]: (int(r[1]), tuple(_value(kind, x) for (_, kind), x in zip(v.features, r[2:], strict=True))) for r in rows}

    def _online(self, keys: Sequence[int | str]) -> dict[int | str, Stored | None]:
        """Return what is stored of each key; None: nothing, or bytes that are no value."""
        found: dict[int | str, Stored | None] = {}
        fields = view_fields(self._view)
        try:
            for start in range(0, len(keys), BATCH):
                pipe = self._redis.pipeline(transaction=False)
                for key in keys[start : start + BATCH]:
                    pipe.hmget(entity_key(self._view.entity, key), fields)
                for key, stored in zip(keys[start : start + BATCH], pipe.execute(), strict=True):
                    found[key] = self._decoded(stored)
        except redis.RedisError as error:
            raise Unavailable(f"Redis does not answer: {error}", hint="./weir logs redis shows why") from error
        return found

    def _decoded(self, stored: Sequence[bytes | None]) -> Stored | None:
        if stored[0] is None:
            return None
        try:
            return decode_timestamp(stored[0]), tuple(decode_value(kind, x) for (_, kind), x in zip(self._view.features, stored[1:], strict=True))
        except (ContractViolation, IndexError):
            return None

    def orphans(self) -> list[int | str]:
        """Return keys that the store has and the mart has not, seen twice."""
        present = {r[0] for r in self._sink.query(f"SELECT {self._view.entity} FROM {names.DB_MARTS}.{self._view.mart}")}
        found = self._orphans(present)
        return self.still(found, {}) if found else []

    def _orphans(self, present: Collection[int | str]) -> list[int | str]:
        prefix = entity_prefix(self._view.entity)
        pattern = b"".join(b"\\" + bytes([b]) if b in b"*?[]^\\-" else bytes([b]) for b in prefix) + b"*"
        try:
            keys = [entity_value(self._view.entity, k) for k in self._redis.scan_iter(match=pattern, count=1000)]
        except redis.RedisError as error:
            raise Unavailable(f"Redis does not answer: {error}", hint="./weir logs redis shows why") from error
        others = [k for k in keys if k is not None and k not in present]
        return [k for k, stored in self._online(others).items() if stored is not None]

    def parts(self) -> Iterator[Between]:
        """Return the slices of the mart's keys."""
        return parts(self._sink, f"{names.DB_MARTS}.{self._view.mart}", self._view.entity)

    def compare(self, between: Between) -> tuple[int, list[int | str]]:
        """Return (keys looked at, keys that differ twice) of a slice."""
        mart = self._mart(inside(self._view.entity, between))
        online = self._online(list(mart))
        suspects = [k for k, row in mart.items() if online[k] != row]
        return len(mart), self.still(suspects, mart) if suspects else []

    def still(self, keys: Sequence[int | str], before: dict[int | str, Stored] | None = None) -> list[int | str]:
        """Return which of these keys differ SETTLE_S later too, from a row that did not move since `before`."""
        time.sleep(SETTLE_S)
        listed = ", ".join(literal(k) for k in keys)
        now = self._mart(f"{self._view.entity} IN ({listed})")
        online = self._online(keys)
        return [k for k in keys if online[k] != now.get(k) and (before is None or before.get(k) == now.get(k))]

    def outcome(self, table: Outcome, checked: int, stale: int, repaired: int, *, repair: bool) -> Outcome:
        """Return what is said of this view. What its table was verified through, it was verified through too, the store being like the mart."""
        standing = stale - repaired
        made = Outcome("view", self._view.name, Answer.NO if standing else Answer.YES, f"{standing} keys are stale online" if standing else "",
                       rows_checked=checked, stale=stale, repaired=repaired, repairable=(not repair or not standing) if stale else None)
        if not standing:
            made.verified_lsn, made.verified_at_ms = table.verified_lsn, table.verified_at_ms
        return made

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()

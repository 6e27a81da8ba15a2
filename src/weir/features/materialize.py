"""The loop: what has landed, which keys are due, read their marts, write them, move the watermark.

In: ClickHouse, Redis. Out: features. Keep: a crash between write and watermark repeats writes, which compare-and-set makes harmless; keys
without a row are removed.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from weir.contracts import names
from weir.contracts.features import FEATURE_VIEWS, FeatureViewContract, ValueType
from weir.contracts.online import Value
from weir.errors import Unavailable
from weir.features.due import Changes, Key, Watermark, due, user_of
from weir.features.store import OnlineStore, Row
from weir.telemetry import Telemetry

TICK_S = 0.15
SWEEP_S = 20.0  # views whose values slide with the clock are read whole this often
BATCH_REFRESH_S = 900.0
KEYS_A_QUERY = 2000
LATENCIES_KEPT = 2000
SAMPLE = 200  # of the rows of a partition in one tick, for the latency: not only the newest, which waited least

log = logging.getLogger("weir.features")


@dataclass
class Freshness:
    """What /health tells: times in ms since the epoch, latencies in ms."""

    last_tick_ms: int = 0
    newest_event_ms: dict[str, int] = field(default_factory=dict)
    rows_written: dict[str, int] = field(default_factory=dict)
    event_latency_ms: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES_KEPT))
    cdc_latency_ms: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES_KEPT))
    state: str = "starting"

    def document(self) -> dict[str, Any]:
        """Return it as JSON values, with p50 and p99 of the latencies."""
        def quantile(values: Iterable[float], q: float) -> float | None:
            ordered = sorted(values)
            return round(ordered[min(len(ordered) - 1, int(q * len(ordered)))], 1) if ordered else None

        return {
            "state": self.state, "last_tick_ms": self.last_tick_ms, "newest_event_ms": self.newest_event_ms, "rows_written": self.rows_written,
            "event_to_feature_ms": {"p50": quantile(self.event_latency_ms, 0.5), "p99": quantile(self.event_latency_ms, 0.99)},
            "cdc_to_feature_ms": {"p50": quantile(self.cdc_latency_ms, 0.5), "p99": quantile(self.cdc_latency_ms, 0.99)},
        }


def literal(key: Key) -> str:
    """Return a key as SQL."""
    return str(key) if isinstance(key, int) else "'" + key.replace("\\", "\\\\").replace("'", "\\'") + "'"


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


class Materializer:
    """Reads marts and writes the online store."""

    def __init__(self, clickhouse_url: str, store: OnlineStore, telemetry: Telemetry) -> None:
        import clickhouse_connect

        try:
            self._client = clickhouse_connect.get_client(dsn=clickhouse_url, autogenerate_session_id=False, send_receive_timeout=30)
        except Exception as error:
            raise Unavailable(f"ClickHouse does not answer: {error}", hint="./weir logs clickhouse shows why") from error
        self._store, self._telemetry = store, telemetry
        self.freshness = Freshness()
        self._watermark = Watermark.decode(store.watermark("landing"))
        self._again = Changes()
        # What an earlier process wrote: keys whose window slid past while nobody looked must still be removed.
        self._known: dict[str, set[Key]] = {v.name: store.entities(v) for v in FEATURE_VIEWS if v.window_s}

    def _query(self, sql: str) -> Sequence[Sequence[Any]]:
        try:
            return list(self._client.query(sql).result_rows)
        except Exception as error:
            raise Unavailable(f"ClickHouse refused or did not answer: {str(error)[:300]}", hint="./weir logs clickhouse shows why") from error

    def look(self) -> tuple[Changes, Watermark, list[str], list[float], list[float]]:
        """Return what has landed past the watermark: changed keys, the watermark after it, traceparents, produced and committed times (ms)."""
        events = self._query(
            f"SELECT topic, partition, max(offset), groupUniqArray(user_id), groupUniqArray(item_id), groupUniqArray(country), "
            f"groupUniqArrayIf(64)(traceparent, traceparent != ''), groupArraySample({SAMPLE}, 1)(toUnixTimestamp64Milli(produced_at)) FROM {names.LANDING_EVENTS} "
            f"WHERE {self._watermark.condition([names.TOPIC_USER_EVENTS])} GROUP BY topic, partition"
        )
        cdc_topics = (names.TOPIC_CDC_USERS, names.TOPIC_CDC_ITEMS)
        changes = self._query(
            f"SELECT topic, partition, offset, key, toUnixTimestamp64Milli(ifNull(source_at, produced_at)) FROM {names.LANDING_CDC} "
            f"WHERE {self._watermark.condition(cdc_topics)} ORDER BY topic, partition, offset LIMIT 50000"
        )
        items = self._query(
            f"SELECT topic, partition, max(offset), groupUniqArray(item_id) FROM {names.LANDING_CATALOGUE} "
            f"WHERE {self._watermark.condition([names.TOPIC_ITEM_CATALOGUE])} GROUP BY topic, partition"
        )
        ends = {(r[0], r[1]): r[2] for r in [*events, *changes, *items]}
        keys = {user_of(r[0], r[3]) for r in changes} - {None}
        found = Changes(
            frozenset(u for r in events for u in r[3] if u), frozenset(i for r in events for i in r[4] if i), frozenset(str(c) for r in events for c in r[5] if c),
            frozenset(k[1] for k in keys if k and k[0] == "users"), frozenset(k[1] for k in keys if k and k[0] == "items") | frozenset(i for r in items for i in r[3] if i),
        )
        traces = [t for r in events for t in r[6]]
        return found, self._watermark.advanced(ends), traces, [float(t) for r in events for t in r[7]], [float(r[4]) for r in changes[-200:]]

    def tick(self) -> int:
        """Look once and bring what changed into the store; return the rows written."""
        changes, watermark, traces, produced, committed = self.look()
        written = 0
        # A landing part is visible before the views behind it are: keys are read once more a tick later, when they are.
        again, self._again = self._again, changes
        for view, keys in due(again).values():
            written += self.refresh(view, sorted(keys, key=str))
        if changes:
            with self._telemetry.span("weir.features.materialize", parent=traces[0] if traces else "", links=traces[1:]):
                for view, keys in due(changes).values():
                    written += self.refresh(view, sorted(keys, key=str))
            now = time.time() * 1000
            self.freshness.event_latency_ms.extend(now - t for t in produced)
            self.freshness.cdc_latency_ms.extend(now - t for t in committed)
            if produced:
                self._telemetry.record("weir.features.event_latency_ms", now - min(produced))
            if committed:
                self._telemetry.record("weir.features.cdc_latency_ms", now - min(committed))
        if watermark.offsets != self._watermark.offsets:
            self._store.set_watermark("landing", watermark.encode())
            self._watermark = watermark
        self.freshness.last_tick_ms = int(time.time() * 1000)
        self.freshness.state = "running"
        return written

    def refresh(self, view: FeatureViewContract, keys: Sequence[Key] | None = None) -> int:
        """Read a view's mart for `keys` (all when None) and write it; keys without a row are removed. Returns the rows written."""
        written = 0
        chunks: list[Sequence[Key] | None] = [None] if keys is None else [keys[i : i + KEYS_A_QUERY] for i in range(0, len(keys), KEYS_A_QUERY)]
        for chunk in chunks:
            version_ms = int(time.time() * 1000)  # before the read: a row that lands during it is due again by its offset
            where = "" if chunk is None else f" WHERE {view.entity} IN ({', '.join(literal(k) for k in chunk)})"
            columns = ", ".join(name for name, _ in view.features)
            rows = [self._row(view, r) for r in self._query(f"SELECT {view.entity}, event_timestamp, {columns} FROM {names.DB_MARTS}.{view.mart}{where}")]
            written += self._store.write(view, rows, version_ms)
            present: set[Key] = {r.entity for r in rows}
            gone = (self._known.get(view.name, set()) if chunk is None else set(chunk)) - present
            if gone:
                self._store.delete(view, gone, version_ms)
            self._known[view.name] = present if chunk is None else (self._known.get(view.name, set()) | present) - gone
            if rows:
                self.freshness.newest_event_ms[view.name] = max(self.freshness.newest_event_ms.get(view.name, 0), *(r.event_ms for r in rows))
        self.freshness.rows_written[view.name] = self.freshness.rows_written.get(view.name, 0) + written
        self._telemetry.count("weir.features.rows", written, {"view": view.name})
        return written

    @staticmethod
    def _row(view: FeatureViewContract, raw: Sequence[Any]) -> Row:
        moment: datetime = raw[1]
        values = tuple(to_value(kind, value) for (_, kind), value in zip(view.features, raw[2:], strict=True))
        return Row(raw[0], values, int(moment.timestamp() * 1000))

    def sweep(self) -> int:
        """Read whole the views whose values slide with the clock."""
        return sum(self.refresh(v) for v in FEATURE_VIEWS if v.window_s)

    def refresh_all(self, *, batch_only: bool = False) -> dict[str, int]:
        """Read every view whole (or those that only a batch changes); return the rows written by view."""
        return {v.name: self.refresh(v) for v in FEATURE_VIEWS if not batch_only or v.triggers == ("batch",)}

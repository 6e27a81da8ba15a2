"""The loop: what has landed, which keys are due, read their marts, write them, move the watermark.

In: ClickHouse, Redis. Out: features. Keep: a crash between write and watermark repeats writes, which compare-and-set makes harmless; keys
without a row are removed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.trace import SpanKind

from weir.contracts import names
from weir.contracts.features import FEATURE_VIEWS, FeatureViewContract
from weir.contracts.path import LANDED
from weir.features.due import Changes, Exports, Key, Watermark, due, emptied, look_back_s, table_of, user_of
from weir.features.marts import Marts
from weir.features.store import OnlineStore
from weir.telemetry import LINKS, RECORD_SPANS, Telemetry, sampled

TICK_S = 0.15
QUIET_TICK_S = 0.4  # once nothing was written for QUIET_S: a look at the counts takes 5 to 10 ms of a core, six a second a twentieth of it
QUIET_S = 30.0
LOOK_S = 20.0  # looked at this often although no table's count moved: as many rows may have come as went
SWEEP_S = 20.0  # views whose values slide with the clock are read whole this often
REST_S = 900.0  # the other views are read whole this often: those that a batch makes, and what a change broke off before its view would leave old until its next one
KEYS_A_QUERY = 2000
ROWS_A_LOOK = 50_000  # of one landing table: what a look holds in memory (a few MB) and keeps from the other tables (well below 1 s)
LOOK_BACK_S = look_back_s()
LATENCIES_KEPT = 2000
SAMPLED = "reject_reason = '' AND match(traceparent, '[13579bdf]$')"  # as weir.telemetry.sampled has it; a rejected event has no feature
SAMPLE = 200  # of the rows of a partition in one tick, for the latency: not only the newest, which waited least


@dataclass
class Freshness:
    """What /health tells: times in ms since the epoch, latencies in ms."""

    last_tick_ms: int = 0
    newest_event_ms: dict[str, int] = field(default_factory=dict)
    rows_written: dict[str, int] = field(default_factory=dict)
    event_latency_ms: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES_KEPT))
    cdc_latency_ms: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES_KEPT))

    def document(self) -> dict[str, Any]:
        """Return it as JSON values, with p50 and p99 of the latencies."""
        def quantile(values: Iterable[float], q: float) -> float | None:
            ordered = sorted(values)
            return round(ordered[min(len(ordered) - 1, int(q * len(ordered)))], 1) if ordered else None

        return {
            "last_tick_ms": self.last_tick_ms, "newest_event_ms": self.newest_event_ms, "rows_written": self.rows_written,
            "event_to_feature_ms": {"p50": quantile(self.event_latency_ms, 0.5), "p99": quantile(self.event_latency_ms, 0.99)},
            "cdc_to_feature_ms": {"p50": quantile(self.cdc_latency_ms, 0.5), "p99": quantile(self.cdc_latency_ms, 0.99)},
        }


def changed(events: Sequence[Sequence[Any]], changes: Sequence[Sequence[Any]], items: Sequence[Sequence[Any]]) -> Changes:
    """Return the keys in a look's rows (see `Materializer.look`). Pure. A rejected row's key is 0 or unreadable, and nobody's."""
    keyed = [(key, r[5]) for r in changes if (key := user_of(r[0], r[3]))]
    made_or_gone = {key for key, op in keyed if op in {"c", "d"}}

    def of(table: str, keys: Iterable[tuple[str, int]]) -> frozenset[int]:
        return frozenset(number for name, number in keys if name == table)

    return Changes(
        frozenset(u for r in events for u in r[3] if u), frozenset(i for r in events for i in r[4] if i), frozenset(str(c) for r in events for c in r[5] if c),
        of("users", (key for key, _ in keyed)), of("items", (key for key, _ in keyed)) | frozenset(i for r in items for i in r[3] if i),
        of("users", made_or_gone), of("items", made_or_gone),
        frozenset(table for r in changes if r[5] == "t" and (table := table_of(r[0]))),
    )


class Materializer:
    """Reads marts and writes the online store."""

    def __init__(self, marts: Marts, store: OnlineStore, telemetry: Telemetry) -> None:
        self._marts, self._store, self._telemetry = marts, store, telemetry
        self.freshness = Freshness()
        self._watermark = self._saved = Watermark.decode(store.watermark("landing"))
        self._exports = Exports(done=int(store.watermark("profile_exports") or 0))
        self._again = Changes()
        self._landed: dict[str, int] = {}
        self._looked_s = float("-inf")
        # What an earlier process wrote: keys whose window slid past while nobody looked must still be removed.
        self._known: dict[str, set[Key]] = {v.name: store.entities(v) for v in FEATURE_VIEWS if v.window_s}

    def landed(self) -> dict[str, int]:
        """Return the rows of each landing table: of the parts' headers, so it reads no row. `look` at rest, six times a second, was a fifth of a core."""
        count = "SELECT '{0}' AS name, count() FROM {0}"
        return {name: int(rows) for name, rows in self._marts.query(" UNION ALL ".join(map(count.format, LANDED)))}

    def look(self) -> tuple[Changes, Watermark, list[str], list[float], list[float]]:
        """Return what has landed past the watermark, at most ROWS_A_LOOK of each table (the rest is for the next look).

        That is: changed keys, the watermark after it, traceparents, produced and committed times (ms). Each inner read goes along the primary
        key and ends at its limit; of a partition never looked at, events that no view can show any more are passed by.
        """
        unseen = f"produced_at > now64(3, 'UTC') - INTERVAL {LOOK_BACK_S} SECOND" if LOOK_BACK_S else "1"
        bound = f"ORDER BY topic, partition, offset LIMIT {ROWS_A_LOOK}"
        events = self._marts.query(
            f"SELECT topic, partition, max(offset), groupUniqArray(user_id), groupUniqArray(item_id), groupUniqArray(country), "
            f"arraySlice(arraySort(groupUniqArrayIf(traceparent, {SAMPLED})), 1, {LINKS}), groupArraySample({SAMPLE}, 1)(toUnixTimestamp64Milli(produced_at)) FROM ("
            f"SELECT topic, partition, offset, user_id, item_id, country, traceparent, reject_reason, produced_at FROM {names.LANDING_EVENTS} "
            f"WHERE {self._watermark.condition([names.TOPIC_USER_EVENTS], unseen)} {bound}) GROUP BY topic, partition"
        )
        cdc_topics = (names.TOPIC_CDC_USERS, names.TOPIC_CDC_ITEMS)
        changes = self._marts.query(
            f"SELECT topic, partition, offset, key, toUnixTimestamp64Milli(ifNull(source_at, produced_at)), op FROM {names.LANDING_CDC} "
            f"WHERE {self._watermark.condition(cdc_topics)} {bound}"
        )
        items = self._marts.query(
            f"SELECT topic, partition, max(offset), groupUniqArray(item_id) FROM (SELECT topic, partition, offset, item_id FROM {names.LANDING_CATALOGUE} "
            f"WHERE {self._watermark.condition([names.TOPIC_ITEM_CATALOGUE])} {bound}) GROUP BY topic, partition"
        )
        ends: dict[tuple[str, int], int] = {}
        for topic, partition, offset, *_ in (*events, *changes, *items):
            ends[topic, partition] = max(offset, ends.get((topic, partition), 0))
        traces = sampled(t for r in events for t in r[6])
        return changed(events, changes, items), self._watermark.advanced(ends), traces, [float(t) for r in events for t in r[7]], [float(r[4]) for r in changes[-200:]]

    def tick(self) -> int:
        """Look, when something has landed, and bring what changed into the store; return the rows written."""
        landed = self.landed()  # before the look: what comes in between moves the count of the next tick
        seen: tuple[Changes, Watermark, list[str], list[float], list[float]] = (Changes(), self._watermark, [], [], [])
        if landed != self._landed or time.monotonic() - self._looked_s > LOOK_S:
            seen = self.look()
            self._looked_s = time.monotonic()
            self._landed = landed if seen[1].offsets == self._watermark.offsets else {}  # a look that found some may have left some
        changes, watermark, traces, produced, committed = seen
        written = 0
        # A landing part is visible before the views behind it are: keys are read once more a tick later, when they are.
        written += self._bring(self._again)
        if changes:
            with self._telemetry.span("weir.features.materialize", links=traces):
                written += self._bring(changes)
                self._followed(traces)
            now = time.time() * 1000
            self.freshness.event_latency_ms.extend(now - t for t in produced)
            self.freshness.cdc_latency_ms.extend(now - t for t in committed)
            if produced:
                self._telemetry.record("weir.features.event_latency_ms", now - min(produced))
            if committed:
                self._telemetry.record("weir.features.cdc_latency_ms", now - min(committed))
        if self._watermark.offsets != self._saved.offsets:  # all below it has been read twice now; a crash repeats the rest
            self._store.set_watermark("landing", self._watermark.encode())
            self._saved = self._watermark
        self._watermark, self._again = watermark, changes
        written += self._profiles(landed[names.LANDING_PROFILE_EXPORTS])
        self.freshness.last_tick_ms = int(time.time() * 1000)
        return written

    def _followed(self, traces: Sequence[str]) -> None:
        """Have the traces of the first RECORD_SPANS sampled events go on; the others have the links of the tick's span, in which this is called."""
        tick = self._telemetry.traceparent() if traces else ""
        for parent in traces[:RECORD_SPANS]:
            with self._telemetry.span("weir.features.event", kind=SpanKind.CONSUMER, parent=parent, links=[tick]):
                pass

    def _profiles(self, rows: int) -> int:
        """Read the profiles whole after a bulk load of them (its rows have no offset to follow; now there are `rows`); return the rows written."""
        if not self._exports.due(rows, time.monotonic()):
            return 0
        written = sum(self.refresh(v) for v in FEATURE_VIEWS if "users" in v.triggers)
        self._store.set_watermark("profile_exports", str(rows))
        self._exports.done = rows
        return written

    def _bring(self, changes: Changes) -> int:
        written = 0
        for view in emptied(changes):
            written += self.refresh(view)
        for view, keys in due(changes).values():
            written += self.refresh(view, sorted(keys, key=str))
        return written

    def refresh(self, view: FeatureViewContract, keys: Sequence[Key] | None = None) -> int:
        """Read a view's mart for `keys` (all when None) and write it; keys without a row are removed. Returns the rows written."""
        written = 0
        chunks: list[Sequence[Key] | None] = [None] if keys is None else [keys[i : i + KEYS_A_QUERY] for i in range(0, len(keys), KEYS_A_QUERY)]
        for chunk in chunks:
            version_ms = int(time.time() * 1000)  # before the read: a row that lands during it is due again by its offset
            rows = self._marts.rows(view, chunk)
            written += self._store.write(view, rows, version_ms)
            present: set[Key] = {r.entity for r in rows}
            gone = (self._stored(view) if chunk is None else set(chunk)) - present
            if gone:
                self._telemetry.count("weir.features.removed", self._store.delete(view, gone, version_ms), {"view": view.name})
            if view.window_s:
                self._known[view.name] = present if chunk is None else (self._known[view.name] | present) - gone
            if rows:
                self.freshness.newest_event_ms[view.name] = max(self.freshness.newest_event_ms.get(view.name, 0), *(r.event_ms for r in rows))
        self.freshness.rows_written[view.name] = self.freshness.rows_written.get(view.name, 0) + written
        self._telemetry.count("weir.features.rows", written, {"view": view.name})
        return written

    def _stored(self, view: FeatureViewContract) -> set[Key]:
        """Return the entities that have features of a view: remembered for those swept often, asked of Redis for the others."""
        return self._known[view.name] if view.window_s else self._store.entities(view)

    def views(self, *, slide: bool | None = None) -> list[str]:
        """Return the names of all views; of those whose values slide with the clock (`slide`), or of the others."""
        return [v.name for v in FEATURE_VIEWS if slide is None or slide == bool(v.window_s)]

    def whole(self, view: str) -> int:
        """Read a view whole; return the rows written."""
        return self.refresh(next(v for v in FEATURE_VIEWS if v.name == view))

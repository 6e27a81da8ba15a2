"""Walks the landed events below the marks and keeps what is late, repeated or in conflict, a window at a time. Run by `weir.quality.advance` after its own round.

In: marks, landing.user_events. Out: rows of ops.event_windows, metrics. Keep: no event is counted in two windows; looking takes at most SHARE of one core, and
what waits meanwhile is told; an answer that did not come writes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from weir.contracts import names
from weir.errors import Unavailable
from weir.quality import event_windows as of
from weir.quality import marks
from weir.quality.ask import append, query
from weir.quality.event_windows import EventWindow, Repeats, Span
from weir.telemetry import Telemetry

SHARE: Final = 0.05  # of one core: a window of 4 M events takes seconds, which ingest would miss at its peak; a backlog waits for quieter times
TIMEOUT_S: Final = 60.0


@dataclass
class EventWalk:
    """One walker. `url`: ClickHouse's."""

    url: str
    telemetry: Telemetry
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    _step: int = of.STEP
    _rest_until: float = 0.0

    def round(self) -> EventWindow | None:
        """Look through the next window, unless the last one's rest is not over or nothing waits.

        Raises:
            Unavailable: ClickHouse could not be asked, or took too long: the next window is half as large.
        """
        known = marks.read(self.url, marks.held_from(int(self.clock() * 1000)))
        last = query(self.url, of.last_sql()) if known is not None else None
        if known is None or last is None:
            raise Unavailable("ClickHouse could not be asked for marks or windows", hint="the next round asks again")
        at, number = (of.position(last[0]["next"]), int(last[0]["number"])) if last else (of.begun(known), 0)
        self.telemetry.gauge("weir.quality.events_waiting", of.waiting(at, known))
        span = of.following(at, known, self._step)
        if span is None or self.monotonic() < self._rest_until:
            return None
        began = self.monotonic()
        try:
            found = self._look(self._back(span, number), number + 1, began)
        except Unavailable:
            self._step = max(of.LEAST, self._step // 2)
            raise
        finally:
            self._rest_until = self.monotonic() + (self.monotonic() - began) * (1 / SHARE - 1)
        self._step = min(of.STEP, 2 * self._step)
        self.write(found)
        self._tell(found)
        return found

    def _ask(self, sql: str) -> list[dict[str, object]]:
        found = query(self.url, sql, TIMEOUT_S)
        if found is None:
            raise Unavailable(f"{names.LANDING_EVENTS} could not be read for late and repeated events", hint="./weir logs clickhouse shows why")
        return found

    def _back(self, span: Span, number: int) -> Span:
        """Return the window with how far back repeats are sought."""
        row = self._ask(of.back_sql(number))[0]
        if not int(str(row["n"])):
            return span
        back = row["back"]
        assert isinstance(back, dict)  # noqa: S101 - a Map is an object in JSON
        return replace(span, back=of.position(back), back_rows=int(str(row["back_rows"])), back_to_ms=int(str(row["oldest"])))

    def _look(self, span: Span, number: int, began: float) -> EventWindow:
        times = of.times(self._ask(of.times_sql(span)))
        repeats = Repeats()
        if times.rows:
            ids = self._ask(of.listed_sql(span))[0]["ids"]
            assert isinstance(ids, list)  # noqa: S101 - an Array is one in JSON
            if ids:
                repeats = of.repeats(self._ask(of.repeats_sql(span, ids))[0])
        return EventWindow(number, span, times, repeats, self.monotonic() - began, int(self.clock() * 1000))

    def write(self, window: EventWindow) -> None:
        """Append a window.

        Raises:
            Unavailable: ClickHouse did not take it.
        """
        append(self.url, names.EVENT_WINDOWS, [of.document(window)], TIMEOUT_S)

    def _tell(self, w: EventWindow) -> None:
        times, repeats = w.times, w.repeats
        self.telemetry.count("weir.quality.events_late", times.late_1h, {"than": "1h"})
        self.telemetry.count("weir.quality.events_late", times.late_1d, {"than": "1d"})
        self.telemetry.count("weir.quality.events_restating", sum(times.hours.values()), {"grain": "hour"})
        self.telemetry.count("weir.quality.events_restating", sum(times.days.values()), {"grain": "day"})
        self.telemetry.count("weir.quality.events_repeated", repeats.repeated - repeats.conflicting, {"contents": "same"})
        self.telemetry.count("weir.quality.events_repeated", repeats.conflicting, {"contents": "other"})
        self.telemetry.count("weir.quality.events_counted_again", repeats.again_by_user, {"table": "int_user_events"})
        self.telemetry.count("weir.quality.events_counted_again", repeats.again_by_item, {"table": "int_item_events"})
        self.telemetry.record("weir.quality.events_look_s", w.cost_s)

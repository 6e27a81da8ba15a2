"""`python -m weir.quality.advance`: check what has landed window by window, and the old windows again, until SIGTERM. Beside the services, under their supervisor.

In: landing tables, ledger, Kafka's offsets. Out: rows of ops.checked_windows; of ops.event_windows by weir.quality.event_walk. Keep: one writer of a home; a window is written only when every part could be asked,
so a mark never passes what is not known; what is wrong is written as such and looked at again each round.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from weir.contracts import names
from weir.contracts.clickhouse import literal
from weir.contracts.endpoints import Endpoints
from weir.errors import Unavailable
from weir.quality import ask, gaps, landing, marks, pipeline, windows
from weir.quality.ask import Offsets
from weir.quality.event_walk import EventWalk
from weir.quality.marks import RECHECK_S, Key, Mark
from weir.quality.windows import STEP, Window
from weir.telemetry import setup
from weir.telemetry.companion import attempt, begin

EVERY_S: Final = 10.0  # a look counts what came since: 0.8 M rows at the planned peak
ROUND_S: Final = 20.0  # a backlog is worked off in turns of so long, each with its re-checks
AT_ONCE: Final = 4 * STEP  # offsets in one question
AGAIN: Final = 8  # windows that are checked again at once; a round goes on while there are more and time
LEAST: Final = 1 << 12  # offsets: the smallest step, where a range has more gaps than can be looked up
TIMEOUT_S: Final = 60.0

log = logging.getLogger("weir.quality.advance")

_ROWS: Final = (
    "SELECT topic, partition, first, next, days, fault, toUnixTimestamp64Milli(newest_at) AS newest, toUnixTimestamp64Milli(occurred_at) AS occurred,"
    f" toUnixTimestamp64Milli(checked_at) AS checked FROM {names.CHECKED_WINDOWS} FINAL"
)


def _must(found: list[dict[str, object]] | None, what: str) -> list[dict[str, object]]:
    if found is None:
        raise Unavailable(f"{what} could not be read", hint="./weir logs clickhouse shows why")
    return found


@dataclass
class Advance:
    """One owner of the marks. `known`: the gaps that are known to be empty."""

    endpoints: Endpoints
    known: gaps.Gaps = field(default_factory=gaps.Gaps)
    _steps: dict[Key, int] = field(default_factory=dict)
    clock: Callable[[], float] = time.time
    _bounds: dict[Key, tuple[int, int]] | None = None  # lowest and highest offset in the ledger

    @property
    def url(self) -> str:
        """Return where ClickHouse is."""
        return self.endpoints.clickhouse_url

    def _now_ms(self) -> int:
        return int(self.clock() * 1000)

    def _since(self) -> str:
        return marks.held_from(self._now_ms())

    def round(self, seconds: float = ROUND_S) -> bool:
        """Check what is new and what is due, for about so long; return whether more is waiting.

        Raises:
            Unavailable: Kafka or ClickHouse could not be asked.
        """
        deadline = time.monotonic() + seconds
        captured = pipeline.ask_captured(self.url)
        offsets = ask.kafka(self.endpoints.kafka_bootstrap, {t.topic for t in captured or ()})
        known = marks.read(self.url, self._since())
        if captured is None or offsets is None or known is None or not marks.there(self.url):
            raise Unavailable("Kafka or ClickHouse could not be asked, or ingest has not made its tables yet", hint="the next round asks again")
        self.recheck(offsets, deadline)
        offsets = self._orphans(offsets, known)
        while behind := {k: s for k, at in offsets.items() if (s := self._first(known.get(k), k, at)) < (at.committed or 0)}:
            if time.monotonic() > deadline:
                return True
            if not self._step(offsets, behind):
                return False  # Kafka cannot tell of what is missing: asked again in the next round, in smaller steps
            known = marks.read(self.url, self._since()) or known
        return False

    def _first(self, mark: Mark | None, key: Key, at: Offsets) -> int:
        """Return from where a partition is to be checked: from its mark, at first from the lowest offset that its landing table can have."""
        return mark.next if mark else min(at.begin, (self._bounds or {}).get(key, (at.begin, 0))[0])

    def _orphans(self, offsets: Mapping[Key, Offsets], known: Mapping[Key, Mark]) -> dict[Key, Offsets]:
        """Return the offsets, and those of partitions that Kafka has no more and whose rows are landed: all of them expired."""
        if self._bounds is None or any(k not in known and at.committed is not None and k not in self._bounds for k, at in offsets.items()):
            rows = _must(ask.query(self.url, f"SELECT topic, partition, min(first_offset) AS low, max(last_offset) AS high FROM {names.LEDGER} GROUP BY topic, partition", TIMEOUT_S), names.LEDGER)
            self._bounds = {(str(r["topic"]), int(str(r["partition"]))): (int(str(r["low"])), int(str(r["high"]))) for r in rows}
        gone = {k: Offsets(high + 1, high + 1, high + 1) for k, (_, high) in self._bounds.items() if k not in offsets}
        return {**gone, **offsets}

    def _step(self, offsets: Mapping[Key, Offsets], behind: Mapping[Key, int]) -> bool:
        """Check one window of some partitions that are behind; return whether any mark moved."""
        spans: dict[Key, tuple[int, int]] = {}
        edges = self._edges({k: (first, self._steps.get(k, STEP)) for k, first in behind.items() if (offsets[k].committed or 0) - first > self._steps.get(k, STEP)})
        for key, first in sorted(behind.items(), key=lambda item: item[1] - (offsets[item[0]].committed or 0)):
            spans[key] = first, windows.span(first, offsets[key].committed or 0, self._steps.get(key, STEP), edges.get(key))
            if sum(after - low for low, after in spans.values()) > AT_ONCE:
                break
        found = self.check(offsets, spans)
        lasts = self._last(spans)
        self.write([windows.joined(lasts.get(w.key), w) for w in found])
        for key in spans:
            done = any(w.key == key for w in found)
            self._steps[key] = min(STEP, 2 * self._steps.get(key, STEP)) if done else max(LEAST, self._steps.get(key, STEP) // 2)
        for window in found:
            if window.fault:
                log.warning("%s/%d offsets %d to %d: %s", *window.key, window.first, window.next - 1, window.fault)
        return bool(found)

    def _edges(self, wanted: Mapping[Key, tuple[int, int]]) -> dict[Key, tuple[int, int]]:
        """Return of each partition the end of the last batch within its step, 0 where there is none, and of the first one."""
        found: dict[Key, tuple[int, int]] = {}
        for (topic, partition), (first, step) in wanted.items():
            rows = _must(ask.query(
                self.url, f"SELECT count() AS n, maxIf(last_offset + 1, last_offset < {first + step}) AS within, min(last_offset) + 1 AS lowest FROM {names.LEDGER}"
                f" WHERE topic = {literal(topic)} AND partition = {partition} AND last_offset >= {first} AND last_offset < {first + 8 * STEP}", TIMEOUT_S), names.LEDGER)
            if int(str(rows[0]["n"])):
                found[topic, partition] = int(str(rows[0]["within"])), int(str(rows[0]["lowest"]))
        return found

    def _tell(self, offsets: Mapping[Key, Offsets], spans: Mapping[Key, tuple[int, int]]) -> dict[Key, tuple[landing.Landed, int]]:
        """Return what is landed and what is booked in each range.

        Raises:
            Unavailable: ClickHouse could not tell.
        """
        landed: dict[Key, landing.Landed] = {}
        since = self._since()  # once: at midnight two answers would be of different days
        for table in names.LANDINGS:
            mine = {k: s for k, s in spans.items() if names.landing_of(k[0]) == table}
            told = landing.windows(self.url, table, mine, {k: offsets[k].begin for k in mine if k in offsets}, since, TIMEOUT_S) if mine else {}
            if told is None:
                raise Unavailable(f"{table} could not be read", hint="./weir logs clickhouse shows why")
            landed |= told
        booked = landing.booked(self.url, spans, since, TIMEOUT_S)
        if booked is None:
            raise Unavailable(f"{names.LEDGER} could not be read", hint="./weir logs clickhouse shows why")
        return {k: (x, booked.get(k, 0)) for k, x in landed.items()}

    def check(self, offsets: Mapping[Key, Offsets], spans: Mapping[Key, tuple[int, int]]) -> list[Window]:
        """Check one range of each partition with all that can be asked, Kafka's records in its gaps too; those that Kafka could not tell of are left out."""
        told, now_ms = self._tell(offsets, spans), self._now_ms()
        at = {k: Offsets(min(max(first, offsets[k].begin), after), after, after) for k, (first, after) in spans.items()}
        lost, _ = gaps.look(self.endpoints.kafka_bootstrap, self.url, at, {k: x.owed for k, (x, _) in told.items()}, self.known)
        found = [windows.judged(k, spans[k], x, booked, offsets[k], lost.get(k), now_ms) for k, (x, booked) in told.items()]
        return [w for w in found if w is not None]

    def _last(self, keys: Mapping[Key, object]) -> dict[Key, Window]:
        where = " OR ".join(f"(topic = {literal(t)} AND partition = {p})" for t, p in keys)
        rows = _must(ask.query(self.url, f"{_ROWS} WHERE {where} ORDER BY topic, partition, first DESC LIMIT 1 BY topic, partition", TIMEOUT_S), names.CHECKED_WINDOWS)
        return {w.key: w for w in map(windows.parse, rows)}

    def recheck(self, offsets: Mapping[Key, Offsets], deadline: float) -> None:
        """Check again the windows that are wrong, and those whose check is too old, the oldest first."""
        wrong = self._due("fault != ''")
        while wrong or (due := self._due(f"fault = '' AND checked_at < fromUnixTimestamp64Milli({self._now_ms() - RECHECK_S * 1000})")):
            since, now_ms, written = self._since(), self._now_ms(), []
            for window in wrong or due:
                spans = {window.key: (window.first, window.next)}
                at = {window.key: offsets.get(window.key, Offsets(window.next, window.next, window.next))}
                if window.fault:
                    found = next(iter(self.check(at, spans)), None)
                    written.append(windows.mended(window, found, since, at[window.key].begin))
                else:
                    landed, booked = self._tell(at, spans)[window.key]
                    written.append(windows.again(window, landed, booked, since, now_ms))
                    if written[-1].fault:
                        log.warning("%s/%d offsets %d to %d, checked again: %s", *window.key, window.first, window.next - 1, written[-1].fault)
            self.write(written)
            wrong = []
            if time.monotonic() > deadline:
                return

    def _due(self, which: str) -> list[Window]:
        rows = _must(ask.query(self.url, f"{_ROWS} WHERE newest_at {marks.compared(self._since())} AND {which} ORDER BY checked_at LIMIT {AGAIN}", TIMEOUT_S), names.CHECKED_WINDOWS)
        return [windows.parse(r) for r in rows]

    def write(self, found: Sequence[Window]) -> None:
        """Append windows.

        Raises:
            Unavailable: ClickHouse did not take them.
        """
        if not found:
            return
        written = f"{time.time_ns() / 1e9:.6f}"
        ask.append(self.url, names.CHECKED_WINDOWS, [windows.document(w) | {"written_at": written} for w in found], TIMEOUT_S)


def main() -> None:
    """Work in rounds; a part that is away is asked again the next time."""
    ended = begin()
    home = Path(os.environ["WEIR_HOME"])
    (home / "run").mkdir(parents=True, exist_ok=True)
    advance, more, telemetry = Advance(Endpoints.from_environment()), False, setup("quality")
    walk = EventWalk(advance.url, telemetry)
    with (home / "run" / "quality.lock").open("w") as lock:
        while not ended.wait(0.2 if more else EVERY_S):
            with telemetry.span("weir.quality.round"):
                outcome, more = _turn(advance, walk, lock)
            telemetry.count("weir.quality.rounds", 1, {"outcome": outcome})
    telemetry.shutdown()


def _turn(advance: Advance, walk: EventWalk, lock: IO[str]) -> tuple[str, bool]:
    """Work one round, and the events' walk behind it, where no other process of this home does; return its outcome, and whether more is waiting."""
    more = False

    def work() -> None:
        nonlocal more
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Unavailable("another process of this home has the marks") from error
        more = advance.round()
        walk.round()

    return attempt(work, log), more


if __name__ == "__main__":
    main()

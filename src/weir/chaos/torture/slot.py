"""One place for a worker: start it, let it die where the plan says, note how that went, start the next.

In: the kills still to make, a cell. Out: `Made`, one a kill. Keep: a worker that does not come to its point in time is killed, and that is a miss; a worker that ended in another way is a
miss too, and is told; kills at random are made only once the worker has taken up a batch.
"""

from __future__ import annotations

import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from weir.chaos.torture.cell import Cell, Process, end
from weir.chaos.torture.plan import GATEWAY, RANDOM, Kill, Made
from weir.contracts import names
from weir.errors import WeirError
from weir.ingest import intent, points
from weir.topics.reader import Reader

PATIENCE_S: Final = 30.0  # a start (2 s), a dead member's session (3 s) and a pass of a rare point fit in it several times
RANDOM_S: Final = 1.5
SEEN_S: Final = 0.02


class Slot(threading.Thread):
    """Makes kills until `next_kill` gives none. `made` is read once it has ended; `failure`: why it gave up."""

    def __init__(self, number: int, cell: Cell, next_kill: Callable[[], Kill | None], told: Callable[[Made], None], seed: int) -> None:
        super().__init__(name=f"slot-{number}", daemon=True)
        self.number, self._cell, self._next, self._told = number, cell, next_kill, told
        self._rng = random.Random(f"{seed}/{number}")  # noqa: S311 - repeatable on purpose
        self._reader = Reader(cell.settings.endpoints.kafka_bootstrap, names.ingest_group(names.LANDING_EVENTS))
        self._began = time.monotonic()
        self._process: Process | None = None
        self._trail, self._since, self._count = Path(), 0.0, 0
        self.failure = ""

    def run(self) -> None:
        """Make kills; what nobody foresaw ends the slot and is told."""
        try:
            while (kill := self._next()) is not None:
                self._told(self._make(kill))
        except Exception as error:  # noqa: BLE001 - told as the run's failure
            self.failure = f"slot {self.number}: {error!r}"
        finally:
            if self._process is not None:
                end(self._process)
            self._reader.close()

    def _make(self, kill: Kill) -> Made:
        if kill.where != RANDOM:
            return self._at_point(kill)
        process = self._working()
        time.sleep(self._rng.uniform(0, RANDOM_S))
        if kill.what == GATEWAY:
            flying = points.in_flight(self._passed())
            hit = self._cell.kill_gateway()
            return self._note(kill, hit=hit, flying=flying)  # the worker lives on, and repeats its insert
        alive = process.poll() is None
        process.send_signal(signal.SIGKILL)
        return self._dead(kill, process, expected=alive)

    def _start(self, more: dict[str, str]) -> Process:
        self._count += 1
        self._trail = self._cell.settings.home / "trails" / f"{self.number}-{self._count}"
        self._trail.parent.mkdir(parents=True, exist_ok=True)
        self._since = time.monotonic()
        self._process = self._cell.worker(self.number, {points.TRAIL: str(self._trail), **more})
        return self._process

    def _at_point(self, kill: Kill) -> Made:
        if self._process is not None and self._process.poll() is None:
            end(self._process)  # it outlived a kill of the gateway
        process = self._start({points.CRASH_AT: f"{kill.where}:{kill.nth}"})
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return self._dead(kill, process, expected=False)
        return self._dead(kill, process, expected=self._passed()[-1:] == [kill.where] and self._passed().count(kill.where) == kill.nth)

    def _working(self) -> Process:
        """Return a worker that has taken up a batch; a new one when none runs."""
        if self._process is None or self._process.poll() is not None:
            self._start({})
        process, deadline = self._process, time.monotonic() + PATIENCE_S
        assert process is not None  # noqa: S101 - just started
        while not self._passed() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(SEEN_S)
        return process

    def _passed(self) -> list[str]:
        return self._trail.read_text().split() if self._trail.exists() else []

    def _dead(self, kill: Kill, process: Process, *, expected: bool) -> Made:
        code = process.wait(PATIENCE_S)
        trail = self._passed()
        flying = points.in_flight(trail) or (expected and kill.where == "after_replay")
        return self._note(kill, hit=expected and code == -signal.SIGKILL, flying=flying)

    def _note(self, kill: Kill, *, hit: bool, flying: bool) -> Made:
        now = time.monotonic()
        return Made(self.number, kill.what, kill.where, kill.nth, hit, flying, self._open_intents(), round(now - self._since, 2), round(now - self._began, 1))

    def _open_intents(self) -> int:
        """Return how many batches the group's commits declare now; -1 when Kafka did not say."""
        try:
            found = self._reader.committed(names.TOPIC_USER_EVENTS, self._reader.partitions(names.TOPIC_USER_EVENTS))
            return len({i.token for _, metadata in found.values() if (i := intent.decode(metadata)) is not None})
        except WeirError:
            return -1

"""The load while workers die: events as ./weir load makes them, in short pieces, some bad, some sent twice, with pauses in which a lane finishes its last batch.

In: the broker, a rate, a seed. Out: records, one journal a piece. Keep: only what the broker acknowledged is in a journal; Kafka is not killed, so all of it is.
"""

from __future__ import annotations

import random
import threading
from typing import Final

from weir.simulation.journal import Journal
from weir.simulation.load import Shape, run
from weir.telemetry import setup

PIECE_S: Final = 1.5
PAUSE_S: Final = 0.5


class Stream(threading.Thread):
    """Produces until `finish`."""

    def __init__(self, bootstrap: str, rate: int, seed: int) -> None:
        super().__init__(name="load", daemon=True)
        self._brokers, self._rate, self._seed = bootstrap, rate, seed
        self._ended = threading.Event()
        self.journals: list[Journal] = []
        self.failure = ""

    def run(self) -> None:
        """Produce piece after piece."""
        rng = random.Random(self._seed)  # noqa: S311 - repeatable on purpose
        telemetry = setup("weir-torture", otlp_url="")
        shape = Shape(events=max(1, int(self._rate * PIECE_S)), rate=self._rate, bad=0.005, late=0.01, dup=0.005)
        try:
            while not self._ended.is_set():
                self.journals.append(run(self._brokers, shape, self._seed * 100_000 + len(self.journals), telemetry=telemetry))
                self._ended.wait(rng.uniform(0, PAUSE_S))
        except Exception as error:  # noqa: BLE001 - told as the run's failure
            self.failure = f"load: {error!r}"

    def finish(self) -> list[Journal]:
        """End after the piece that is being sent; return the journals."""
        self._ended.set()
        self.join(120)
        return self.journals

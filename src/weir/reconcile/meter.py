"""What reconciliation costs: this process' CPU, and how long PostgreSQL and ClickHouse worked for it.

In: time, the machine's load. Out: seconds of one core. Keep: at rest an upper bound: a server's statement is counted by how long it took, on a single thread, what
it waited for the disk included; where more runs than there are cores, what it waited for a core is taken out, by the load average.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager


def crowd() -> float:
    """Return how many wait for each core, at least 1 (getloadavg(3), the last minute)."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


class Meter:
    """Adds up. Not shared between threads."""

    def __init__(self) -> None:
        self.postgres_s = self.clickhouse_s = 0.0
        self._own_s = time.process_time()

    @contextmanager
    def postgres(self) -> Iterator[None]:
        """Count what runs inside as PostgreSQL's work."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.postgres_s += (time.monotonic() - began) / crowd()

    @contextmanager
    def clickhouse(self) -> Iterator[None]:
        """Count what runs inside as ClickHouse's work."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.clickhouse_s += (time.monotonic() - began) / crowd()

    @property
    def total_s(self) -> float:
        """Return all of it since this was made, in seconds of one core."""
        return time.process_time() - self._own_s + self.postgres_s + self.clickhouse_s

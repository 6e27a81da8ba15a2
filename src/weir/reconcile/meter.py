"""What reconciliation costs: this process' CPU, and how long PostgreSQL and ClickHouse worked for it.

In: time. Out: seconds of one core. Keep: an upper bound: a server's statement is counted by how long it took, on a single thread, waits and all, so that
a busy machine slows reconciliation down and never the other way round.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


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
            self.postgres_s += time.monotonic() - began

    @contextmanager
    def clickhouse(self) -> Iterator[None]:
        """Count what runs inside as ClickHouse's work."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.clickhouse_s += time.monotonic() - began

    @property
    def total_s(self) -> float:
        """Return all of it since this was made, in seconds of one core."""
        return time.process_time() - self._own_s + self.postgres_s + self.clickhouse_s

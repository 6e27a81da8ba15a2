"""The register in ClickHouse: read whole, written an entry at a time, one writer of a home at a time.

Keep: an entry is never changed, only followed by a later one.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from weir.contracts import captured
from weir.contracts.captured import Captured
from weir.contracts.clickhouse import literal
from weir.errors import Unavailable
from weir.reconcile.sink import Sink

WAIT_S: Final = 60.0  # a round of the watcher takes a second; a resync may take longer


class Register:
    """One register. Not shared between threads."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def tables(self) -> dict[str, Captured]:
        """Return the captured tables by name."""
        return captured.standing(r[0] for r in self._sink.query(f"SELECT document FROM {captured.TABLE} FINAL ORDER BY name"))

    def write(self, entry: Captured) -> Captured:
        """Append an entry; return it with its time."""
        made = replace(entry, at_us=time.time_ns() // 1000)
        self._sink.command(
            f"INSERT INTO {captured.TABLE} (name, at, document) SELECT {literal(made.name)}, fromUnixTimestamp64Micro({made.at_us}, 'UTC'), {literal(captured.document(made))}"
        )
        return made

    def held(self, entry: Captured) -> str:
        """Return why ingest holds a table since its entry was written, or an empty text."""
        rows = self._sink.query(f"SELECT why FROM {captured.HOLDS} WHERE topic = {{t:String}} AND at > fromUnixTimestamp64Micro({entry.at_us}, 'UTC') ORDER BY at LIMIT 1", t=entry.topic)
        return str(rows[0][0]) if rows else ""


@contextmanager
def turn(home: Path, *, wait_s: float = WAIT_S) -> Iterator[None]:
    """Let one command or watcher of a home change the register at a time, waiting for another at most so long.

    Raises:
        Unavailable: another is at work still.
    """
    (home / "run").mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait_s
    with (home / "run" / "capture.lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise Unavailable("another ./weir table, deploy, replay or quarantine command, or the watcher of captured tables, is at work", hint="run it again when it is done") from error
                time.sleep(0.1)
            else:
                break
        yield

"""How a peer's process talks to the race: `ready`, then one JSON line a batch. Standard library only: each peer runs in an environment of its own.

In: one line on standard input (go), its end (stop). Out: {"rows", "at", "first", "batches", "rejoins", "state"}, as Weir's worker under `bench/ingest.py`.
Keep: nothing but these lines leaves by standard output; what a library prints there goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time


class Told:
    """What one process has told so far; `ended` is set when the race is over."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self.rows = self.batches = 0
        self.first = 0.0
        self.ended = threading.Event()

    def wait_for_go(self) -> None:
        """Say ready; return when the race starts."""
        print("ready", file=self._out, flush=True)
        sys.stdin.readline()
        threading.Thread(target=self._until_end, daemon=True).start()

    def _until_end(self) -> None:
        sys.stdin.read()
        self.ended.set()

    def fetched(self, began: float) -> None:
        """Note when the first fetch that brought a record was called (seconds since the epoch)."""
        self.first = self.first or began

    def landed(self, rows: int) -> None:
        """Tell that so many more rows are acknowledged by table and views."""
        self.rows, self.batches = self.rows + rows, self.batches + 1
        line = {"rows": self.rows, "at": time.time(), "first": self.first, "batches": self.batches, "rejoins": 0, "state": "running"}
        print(json.dumps(line), file=self._out, flush=True)

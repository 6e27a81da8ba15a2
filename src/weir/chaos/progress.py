"""Says what an experiment is doing, with the seconds since it began; Chaos Toolkit calls it at each step."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from chaoslib.run import RunEventHandler

Say = Callable[[str], None]


def failure(run: dict[str, Any]) -> str:
    """Return why a step could not be done, without the names of the errors that Chaos Toolkit puts before it. Pure."""
    said = (run.get("exception") or ["it did not run"])[-1].strip()
    return str(said).removeprefix("chaoslib.exceptions.ActivityFailed: ").removeprefix("weir.errors.Undecided: ")


class Progress(RunEventHandler):
    """One line a step. `say` prints a line."""

    def __init__(self, say: Say, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._say, self._clock, self._began_s = say, clock, clock()

    def tell(self, what: str) -> None:
        """Say it, with the time."""
        self._say(f"{self._clock() - self._began_s:6.1f} s  {what}")

    def start_hypothesis_before(self, experiment: dict[str, Any]) -> None:
        """Before the fault."""
        self.tell(f"before the fault: {experiment['steady-state-hypothesis']['title']}?")

    def start_hypothesis_after(self, experiment: dict[str, Any]) -> None:
        """After it."""
        self.tell(f"after the fault: {experiment['steady-state-hypothesis']['title']}?")

    def start_activity(self, activity: dict[str, Any]) -> None:
        """One step begins."""
        values = ", ".join(f"{k} {v}" for k, v in activity["provider"].get("arguments", {}).items())
        self.tell(f"  {activity['name']}{f' ({values})' if values else ''}")

    def activity_completed(self, activity: dict[str, Any], run: dict[str, Any]) -> None:
        """Tell of what failed; the rest is told by the next step."""
        if run.get("status") != "succeeded":
            self.tell(f"  {activity['name']} could not be done: {failure(run)}")

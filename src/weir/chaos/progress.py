"""Says what an experiment is doing: how many of its steps are done, the seconds since it began, and about how many are to go; Chaos Toolkit calls it at each step."""

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


def steps(experiment: dict[str, Any]) -> int:
    """Return how many steps an experiment has: its hypothesis is looked at before and after the fault. Pure."""
    return 2 * len(experiment["steady-state-hypothesis"]["probes"]) + len(experiment["method"]) + len(experiment.get("rollbacks") or ())


class Progress(RunEventHandler):
    """One line a step. `say` prints a line; `total`: steps; `usual_s`: how long a whole run took here, None where none has told."""

    def __init__(self, say: Say, total: int, usual_s: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._say, self._total, self._usual_s, self._clock = say, total, usual_s, clock
        self._began_s, self._step = clock(), 0

    def note(self, what: str) -> None:
        """Say it, with the time alone: a wait tells its own time to go."""
        self._say(f"{self._clock() - self._began_s:6.1f} s  {what}")

    def tell(self, what: str) -> None:
        """Say it, with the time, and with the time to go where an earlier run tells it."""
        at = self._clock() - self._began_s
        to_go = "" if self._usual_s is None else f" (about {self._usual_s - at:.0f} s to go)" if at < self._usual_s else f" (longer than the {self._usual_s:.0f} s of the last whole run)"
        self._say(f"{at:6.1f} s  {what}{to_go}")

    def start_hypothesis_before(self, experiment: dict[str, Any]) -> None:
        """Before the fault."""
        self.tell(f"before the fault: {experiment['steady-state-hypothesis']['title']}?")

    def start_hypothesis_after(self, experiment: dict[str, Any]) -> None:
        """After it."""
        self.tell(f"after the fault: {experiment['steady-state-hypothesis']['title']}?")

    def start_activity(self, activity: dict[str, Any]) -> None:
        """One step begins."""
        values = ", ".join(f"{k} {v}" for k, v in activity["provider"].get("arguments", {}).items())
        self._step += 1
        self.tell(f"  step {self._step} of {self._total}: {activity['name']}{f' ({values})' if values else ''}")

    def activity_completed(self, activity: dict[str, Any], run: dict[str, Any]) -> None:
        """Tell of what failed; the rest is told by the next step."""
        if run.get("status") != "succeeded":
            self.tell(f"  {activity['name']} could not be done: {failure(run)}")

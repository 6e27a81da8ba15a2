"""`python -m weir.capture.rotate`: continuous reconciliation until SIGTERM. Beside the services, under their supervisor.

In: the environment. Out: evidence, repairs, telemetry. Keep: at most a share of one core (WEIR_RECONCILE_SHARE, 0.015 by default) over each step and the rest after it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final

from weir.contracts import captured, cdc
from weir.contracts.captured import State
from weir.contracts.endpoints import Endpoints
from weir.errors import SettingsError
from weir.reconcile.cycle import chosen
from weir.reconcile.rotation import SHARE, Rotation, rest_s
from weir.reconcile.sink import Sink
from weir.telemetry import Telemetry, setup
from weir.telemetry.companion import attempt, begin
from weir.transform import build

AWAY_S: Final = 10.0  # before a part that is away is asked again
log = logging.getLogger("weir.reconcile")


def flowing(sink: Sink) -> Sequence[cdc.CdcTable]:
    """Return the contract's tables and those of the register that were added and flow."""
    if not sink.columns(captured.TABLE):
        return chosen("")
    entries = captured.standing(r[0] for r in sink.query(f"SELECT document FROM {captured.TABLE} FINAL ORDER BY name")).values()
    return chosen("", [e.table() for e in entries if e.owned and e.generation and e.state is State.CAPTURING])


def rebuild(environment: Mapping[str, str], mart: str) -> None:
    """Have dbt make a mart anew; raises as `weir.transform.build.build`."""
    log.warning("%s differs from its recompute: dbt makes it anew", mart)
    build.build(environment, ["--select", mart])


def share(environment: Mapping[str, str]) -> float:
    """Return the part of one core that may be used.

    Raises:
        SettingsError: it is no number above 0 and at most 1.
    """
    text = environment.get("WEIR_RECONCILE_SHARE", str(SHARE))
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found <= 1:
        raise SettingsError(f"WEIR_RECONCILE_SHARE is {text!r}", hint="a number above 0 and at most 1, of one core, such as 0.015")
    return found


def _round(rotation: Rotation, telemetry: Telemetry, budget: float, ended: threading.Event) -> None:
    steps, began = rotation.turn(), time.monotonic()
    while not ended.is_set():
        with telemetry.span("weir.reconcile.step"):
            spent = next(steps, None)
        if spent is None:
            return
        took = time.monotonic() - began
        ended.wait(rest_s(spent, took, budget))
        telemetry.count("weir.reconcile.steps", 1, {"outcome": "done"})
        telemetry.gauge("weir.reconcile.load", spent / (time.monotonic() - began))
        began = time.monotonic()
    steps.close()


def main() -> None:
    """Go round until asked to end; a part that is away is asked again a little later."""
    ended = begin()
    environment, budget = dict(os.environ), share(os.environ)
    rotation = Rotation(Endpoints.from_environment(), flowing, lambda mart: rebuild(environment, mart))
    telemetry = setup("reconcile")
    while not ended.wait(AWAY_S):
        outcome = attempt(lambda: _round(rotation, telemetry, budget, ended), log)
        if outcome != "done":  # each step that is done was counted
            telemetry.count("weir.reconcile.steps", 1, {"outcome": outcome})
    telemetry.shutdown()


if __name__ == "__main__":
    main()

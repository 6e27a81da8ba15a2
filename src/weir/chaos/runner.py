"""Run one experiment and leave its evidence: verdict, times, rows lost and doubled, versions, date."""

from __future__ import annotations

import json
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from weir.chaos import actions
from weir.errors import Terminal

VERDICTS = {"completed": "yes", "failed": "no"}  # Chaos Toolkit's status; anything else (aborted, interrupted) is unknown


def available(root: Path) -> list[str]:
    """Return the names of the experiments under chaos/."""
    return sorted(p.stem for p in (root / "chaos").glob("*.json"))


def verdict(journal: dict[str, Any]) -> str:
    """Return yes, no or unknown from Chaos Toolkit's journal. Pure; unknown whenever a check did not run."""
    if journal.get("deviated"):
        return "no"
    probes = [p for side in (journal.get("steady_states") or {}).values() if side for p in side.get("probes", [])]
    if not probes or any(p.get("status") != "succeeded" for p in [*probes, *journal.get("run", [])]):
        return "unknown"
    return VERDICTS.get(str(journal.get("status")), "unknown")


def run(root: Path, home: Path, name: str) -> dict[str, Any]:
    """Run chaos/<name>.json and return the evidence, which is also written under home/evidence.

    Raises:
        Terminal: there is no such experiment.
    """
    path = root / "chaos" / f"{name}.json"
    if not path.exists():
        raise Terminal(f"no experiment {name!r}", hint=f"there are {', '.join(available(root))}")
    from chaoslib.experiment import run_experiment

    experiment = json.loads(path.read_text())
    actions.results.clear()
    actions._loads.clear()  # noqa: SLF001 - one experiment a process, one load an experiment
    began = time.time()
    journal = run_experiment(experiment)
    evidence = {
        "experiment": name,
        "verdict": verdict(journal),
        "status": journal.get("status"),
        "began_at_ms": int(began * 1000),
        "seconds": round(time.time() - began, 1),
        "observations": list(actions.results),
        "versions": {p: version(p) for p in ("chdb-core", "confluent-kafka", "chaostoolkit-lib")},
    }
    folder = home / "evidence"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}-{int(began)}.json").write_text(json.dumps(evidence, indent=2, default=str))
    return evidence

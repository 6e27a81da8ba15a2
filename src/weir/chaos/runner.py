"""Run one experiment and leave its evidence: verdict, times, rows lost and doubled, versions, date."""

from __future__ import annotations

import json
import logging
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from weir.chaos import actions
from weir.chaos.oracle import Verdict
from weir.chaos.progress import Progress, Say, failure, steps
from weir.errors import UnknownName
from weir.quality import recovery

ALWAYS_ROLL_BACK = {"runtime": {"rollbacks": {"strategy": "always"}}}  # after Ctrl-C too: a paused service goes on


def available(root: Path) -> list[str]:
    """Return the names of the experiments under chaos/."""
    return sorted(p.stem for p in (root / "chaos").glob("*.json"))


def _failed(journal: Mapping[str, Any]) -> list[str]:
    """Return what of the experiment did not run to its end, as `name: why`. Chaos Toolkit marks it so and goes on. Pure."""
    states = journal.get("steady_states") or {}
    probes = [p for side in ("before", "after") for p in (states.get(side) or {}).get("probes", [])]
    return [f"{a['activity'].get('name', '')}: {failure(a)}"
            for a in [*probes, *journal.get("run", [])] if a.get("status") != "succeeded"]


def verdict(journal: Mapping[str, Any], observations: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Return yes, no or unknown, and why it is not yes. Pure.

    Args:
        journal: what Chaos Toolkit returned. When the hypothesis fails before the method, it says completed and not deviated, and nothing was run.
        observations: what the actions noted; those with a `verdict` are counts of a table.

    A count that is a no stays one, whatever failed beside it. Else *no* needs a deviation that every probe could look at, and *yes* that the
    steady state was met before and after, that all of the method ran, and that tables were counted; all else is unknown.
    """
    counts = [o for o in observations if "verdict" in o]
    wrong = [f"{o['table']} lost {len(o['lost'])} and doubled {len(o['doubled'])} or more of {o['owed']} events" for o in counts if o["verdict"] == Verdict.NO]
    if wrong:
        return Verdict.NO, "; ".join(wrong)
    if failed := _failed(journal):
        return Verdict.UNKNOWN, "; ".join(failed)
    states = journal.get("steady_states") or {}
    before, after = ((states.get(side) or {}).get("steady_state_met") for side in ("before", "after"))
    if not before:
        return Verdict.UNKNOWN, "the steady state was not there before the fault, so nothing was broken"
    if journal.get("deviated"):
        missed = [p["activity"]["name"] for p in states["after"]["probes"] if not p.get("tolerance_met")]
        return Verdict.NO, f"the steady state did not come back after the fault: {', '.join(missed)}"
    if not after or not journal.get("run") or journal.get("status") != "completed":
        return Verdict.UNKNOWN, f"the experiment was not run to its end ({journal.get('status')})"
    if not counts or any(o["verdict"] != Verdict.YES for o in counts):
        return Verdict.UNKNOWN, "no table was counted against the journal"
    return Verdict.YES, ""


def commit(root: Path) -> str:
    """Return the checkout's commit, with `-dirty` when files differ from it; empty where there is no git or no repository."""
    try:
        done = subprocess.run(["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"], capture_output=True, text=True,
                              timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def run(root: Path, home: Path, name: str, say: Say = lambda _line: None) -> dict[str, Any]:
    """Run chaos/<name>.json and return the evidence, which is also written under home/evidence.

    Args:
        root: the checkout.
        home: WEIR_HOME.
        name: of the experiment.
        say: is given a line for each step, and for each wait of some seconds.

    Raises:
        UnknownName: there is no such experiment.
    """
    path = root / "chaos" / f"{name}.json"
    if not path.exists():
        raise UnknownName.of("experiment", name, available(root))
    from chaoslib.experiment import run_experiment

    experiment = json.loads(path.read_text())
    actions.results.clear()
    actions.broken.clear()
    actions._loads.clear()  # noqa: SLF001 - one experiment a process, one load an experiment
    began = time.time()
    logging.getLogger("chaostoolkit").addHandler(logging.NullHandler())  # its lines are the progress's
    usual_s = recovery.usual_s(home, name)
    say(f"{name}: {'no whole run of it is on record here, so the time to go is not known' if usual_s is None else f'the last whole run took {usual_s:.0f} s'}")
    progress = Progress(say, steps(experiment), usual_s)
    actions.say[:] = [progress.note]
    journal = run_experiment(experiment, ALWAYS_ROLL_BACK, event_handlers=[progress])
    answer, reason = verdict(journal, actions.results)
    evidence = {
        "experiment": name,
        "verdict": str(answer),
        "reason": reason,
        "broken": len(actions.broken),  # faults; 0: it shows nothing, and no verdict rests on it
        "status": journal.get("status"),
        "began_at_ms": int(began * 1000),
        "seconds": round(time.time() - began, 1),
        "observations": list(actions.results),
        "commit": commit(root),
        "versions": {p: version(p) for p in ("chdb-core", "confluent-kafka", "chaostoolkit-lib")},
    }
    folder = home / "evidence"
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / f"{name}-{int(began)}.tmp"
    written.write_text(json.dumps(evidence, indent=2, default=str))
    written.replace(written.with_suffix(".json"))
    recovery.prune(home, name)
    return evidence

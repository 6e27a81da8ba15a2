"""When recovery was last proven: the newest verdict of each chaos experiment, and the newest yes, from the evidence that their runs left.

In: WEIR_HOME/evidence/<experiment>-<seconds>.json, written by `weir.chaos.runner`; chaos/*.json for the names. Out: a `Proof` an experiment, and a
`Check` each. Keep: an experiment that was never run is said to be so; evidence that cannot be read is an unknown run, not a missing one; a run that broke
nothing (the steady state was not there) is shown and judges nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from weir.quality.judge import Check, Verdict

EXPERIMENTS = Path(__file__).resolve().parents[3] / "chaos"
KEPT = 50  # runs of each experiment whose evidence is kept whatever they said
_NAME = re.compile(r"(?P<experiment>.+)-(?P<at_s>\d+)\.json")


@dataclass(frozen=True, slots=True)
class Proof:
    """One experiment: what its newest run said, when it began (ms since the epoch), on which commit, and when the newest run that said yes began.

    `verdict` and `at_ms` are None when it was never run, `proven_at_ms` when it never said yes; `failed_at_ms` is of the newest run that said no, unless
    a later one said yes: a run that showed nothing does not take a no back. `judged` is the verdict of the newest run that broke something, which alone
    counts; None when there is none.
    """

    experiment: str
    verdict: Verdict | None = None
    at_ms: int | None = None
    reason: str = ""
    commit: str = ""
    proven_at_ms: int | None = None
    proven_commit: str = ""
    failed_at_ms: int | None = None
    failed_reason: str = ""
    judged: Verdict | None = None
    judged_reason: str = ""


def _runs(home: Path, experiment: str) -> Iterator[tuple[Path, int, dict[str, Any]]]:
    """Yield (file, ms, evidence) of the experiment's runs, the newest first; each file is read only when it is asked for."""
    found = [(int(m["at_s"]), path) for path in (home / "evidence").glob(f"{experiment}-*.json")
             if (m := _NAME.fullmatch(path.name)) and m["experiment"] == experiment]
    for at_s, path in sorted(found, reverse=True):
        try:
            document = json.loads(path.read_text())
            yield path, int(document["began_at_ms"]), {**document, "verdict": Verdict(document["verdict"])}
        except (OSError, ValueError, KeyError, TypeError):
            yield path, at_s * 1000, {"verdict": Verdict.UNKNOWN, "reason": f"its evidence {path.name} cannot be read"}


def proof(home: Path, experiment: str) -> Proof:
    """Return what the runs of one experiment have shown."""
    newest = Proof(experiment)
    for _, at_ms, run in _runs(home, experiment):
        verdict, commit = run["verdict"], str(run.get("commit", ""))
        if newest.at_ms is None:
            newest = Proof(experiment, verdict, at_ms, str(run.get("reason", "")), commit)
        if newest.judged is None and run.get("broken") != 0:
            newest = replace(newest, judged=verdict, judged_reason=str(run.get("reason", "")))
        if verdict is Verdict.NO and newest.failed_at_ms is None:
            newest = replace(newest, failed_at_ms=at_ms, failed_reason=str(run.get("reason", "")))
        if verdict is Verdict.YES:
            return replace(newest, proven_at_ms=at_ms, proven_commit=commit)
    return newest


def usual_s(home: Path, experiment: str) -> float | None:
    """Return the seconds that the newest run took which broke something and counted to its end; None when there is none."""
    for _, _, run in _runs(home, experiment):
        if run["verdict"] is not Verdict.UNKNOWN and run.get("broken") != 0 and isinstance(run.get("seconds"), int | float):
            return float(run["seconds"])
    return None


def prune(home: Path, experiment: str, kept: int = KEPT) -> list[Path]:
    """Delete an experiment's evidence but for the newest `kept` runs and those on which `proof` rests: the last yes, the last no, the last that broke something.

    Returns:
        what was deleted.
    """
    wanted: set[str] = set()
    gone = []
    for nth, (path, _, run) in enumerate(_runs(home, experiment)):
        marks = {str(run["verdict"])} | ({"broken"} if run.get("broken") != 0 else set())
        if nth >= kept and not (marks - {str(Verdict.UNKNOWN)}) - wanted:
            path.unlink(missing_ok=True)
            gone.append(path)
        wanted |= marks
    return gone


def proofs(home: Path, experiments: Path = EXPERIMENTS) -> tuple[Proof, ...]:
    """Return the proof of every experiment that there is, by name."""
    return tuple(proof(home, path.stem) for path in sorted(experiments.glob("*.json")))


def judge_recovery(found: Sequence[Proof] | None) -> list[Check]:
    """Judge each experiment by its newest no, unless a yes came after it, else by its newest run that broke something. Pure.

    One that was never run, or broke nothing whenever it was, is shown so, and is no check of what stands in the tables.
    """
    if found is None:
        return [Check("recovery", Verdict.UNKNOWN, "no evidence was asked for")]
    return [Check(f"recovery of {p.experiment}", p.judged, p.judged_reason) if p.failed_at_ms is None
            else Check(f"recovery of {p.experiment}", Verdict.NO, p.failed_reason) for p in found if p.judged is not None]


def proven_at_ms(found: Sequence[Proof] | None) -> int | None:
    """Return the earliest, over all experiments, of the times they last said yes; None when one never did, or none was asked. Pure."""
    times = [p.proven_at_ms for p in found or ()]
    known = [t for t in times if t is not None]
    return min(known) if known and len(known) == len(times) else None


def document(found: Sequence[Proof], now_ms: int) -> list[dict[str, object]]:
    """Return the proofs as JSON values, with the age in seconds of the newest run and of the newest yes. Pure."""

    def age_s(at_ms: int | None) -> float | None:
        return None if at_ms is None else round(max(0, now_ms - at_ms) / 1000, 1)

    return [asdict(p) | {"age_s": age_s(p.at_ms), "proven_age_s": age_s(p.proven_at_ms)} for p in found]

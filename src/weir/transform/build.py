"""`dbt build` as a subprocess, its results as values.

In: the environment of the stack. Out: `BuildResult`. Keep: a failing node's own message is what the caller sees; run artifacts live in WEIR_HOME; builds that follow each
other may share a process that has imported dbt and parsed the project (`weir.transform.session`).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weir.errors import ServiceFailed

ROOT = Path(__file__).resolve().parents[3]
TIMEOUT_S = 600
LINES = 6  # of what dbt said at its end: the fault, and then the files that it is about
MESSAGE_CHARACTERS = 400  # of what dbt said; compiled SQL may follow
BAD_STATUSES = frozenset({"error", "fail", "runtime error"})
HINT = "./weir run dbt build shows all of it"


@dataclass(frozen=True, slots=True)
class NodeResult:
    """One node of a run: `status` is dbt's word (success, pass, warn, error, fail, skipped)."""

    unique_id: str
    status: str
    seconds: float
    message: str
    query_id: str


@dataclass(frozen=True, slots=True)
class BuildResult:
    """A whole run."""

    nodes: tuple[NodeResult, ...]
    seconds: float

    def count(self, *statuses: str) -> int:
        """Return how many nodes ended in one of `statuses`."""
        return sum(n.status in statuses for n in self.nodes)


def read_results(document: Mapping[str, Any]) -> BuildResult:
    """Read dbt's run_results.json (schema v6). Pure."""
    nodes = tuple(
        NodeResult(r["unique_id"], r["status"], float(r["execution_time"]), str(r.get("message") or ""),
                   str((r.get("adapter_response") or {}).get("query_id") or ""))
        for r in document["results"]
    )
    return BuildResult(nodes, float(document["elapsed_time"]))


def environment(base: Mapping[str, str], target: str = "target") -> dict[str, str]:
    """Return the environment that dbt runs in: its own folders, artifacts in WEIR_HOME (in the folder `target` of dbt's), nothing sent home."""
    home = Path(base["WEIR_HOME"]) / "dbt"
    return {**base, "DBT_PROJECT_DIR": str(ROOT / "dbt"), "DBT_PROFILES_DIR": str(ROOT / "dbt"), "DBT_TARGET_PATH": str(home / target),
            "DBT_LOG_PATH": str(home / "logs"), "DBT_SEND_ANONYMOUS_USAGE_STATS": "false", "DO_NOT_TRACK": "1"}


Ran = tuple[int, str]  # dbt's exit code, and what it said
Dbt = Callable[[Mapping[str, str], Sequence[str]], Ran]


def alone(env: Mapping[str, str], arguments: Sequence[str]) -> Ran:
    """Run dbt in a process of its own.

    Raises:
        subprocess.TimeoutExpired: it did not end within TIMEOUT_S.
    """
    done = subprocess.run([str(Path(sys.executable).parent / "dbt"), *arguments], env=env, capture_output=True, text=True, check=False, timeout=TIMEOUT_S, cwd=ROOT)
    return done.returncode, done.stdout + done.stderr


def build(base: Mapping[str, str], arguments: Sequence[str] = (), target: str = "target", dbt: Dbt = alone) -> BuildResult:
    """Run `dbt build` and return its results. `target`: where the artifacts go; another folder for a run under other names, whose manifest is not to be read for the project's.

    Raises:
        ServiceFailed: a node failed, dbt could not run, ended badly or not in time; names the node and what it said.
    """
    env = environment(base, target)
    folder = Path(env["DBT_TARGET_PATH"])
    folder.mkdir(parents=True, exist_ok=True)
    results = folder / "run_results.json"
    results.unlink(missing_ok=True)
    try:
        code, said = dbt(env, ["--quiet", "build", *arguments])
    except subprocess.TimeoutExpired as error:
        raise ServiceFailed(f"dbt build did not end within {TIMEOUT_S} s", hint=HINT) from error
    return judge(code, said, read_results(json.loads(results.read_text())) if results.exists() else None)


def judge(code: int, output: str, result: BuildResult | None) -> BuildResult:
    """Return the result of a run that ended well. Pure. `code`: dbt's exit code; `result`: None when dbt wrote none.

    Raises:
        ServiceFailed: it did not: no results, a bad node, or an exit code that no node explains (a failing hook, an interruption).
    """
    lines = [line for line in output.splitlines() if line.strip()]
    last = " ".join(" ".join(lines[-LINES:]).split())[:MESSAGE_CHARACTERS] or "no output"
    if result is None:
        raise ServiceFailed(f"dbt build did not run: {last}", hint=HINT)
    bad = [n for n in result.nodes if n.status in BAD_STATUSES]
    if bad:
        raise ServiceFailed(f"dbt: {bad[0].unique_id} failed: {bad[0].message.strip()[:MESSAGE_CHARACTERS]}", hint=HINT)
    if code != 0:
        raise ServiceFailed(f"dbt build ended with exit code {code}, though no node failed: {last}", hint=HINT)
    return result

"""`dbt build` as a subprocess, its results as values.

In: the environment of the stack. Out: `BuildResult`. Keep: a failing node's own message is what the caller sees; run artifacts live in WEIR_HOME.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weir.errors import ServiceFailed

ROOT = Path(__file__).resolve().parents[3]
TIMEOUT_S = 600


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


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """Return the environment that dbt runs in: its own folders, artifacts in WEIR_HOME, nothing sent home."""
    home = Path(base["WEIR_HOME"]) / "dbt"
    return {**base, "DBT_PROJECT_DIR": str(ROOT / "dbt"), "DBT_PROFILES_DIR": str(ROOT / "dbt"), "DBT_TARGET_PATH": str(home / "target"),
            "DBT_LOG_PATH": str(home / "logs"), "DBT_SEND_ANONYMOUS_USAGE_STATS": "false", "DO_NOT_TRACK": "1"}


def build(base: Mapping[str, str], arguments: Sequence[str] = ()) -> BuildResult:
    """Run `dbt build` and return its results.

    Raises:
        ServiceFailed: a node failed, or dbt could not run; names the node and what it said.
    """
    env = environment(base)
    target = Path(env["DBT_TARGET_PATH"])
    target.mkdir(parents=True, exist_ok=True)
    results = target / "run_results.json"
    results.unlink(missing_ok=True)
    dbt = Path(sys.executable).parent / "dbt"
    done = subprocess.run([str(dbt), "--quiet", "build", *arguments], env=env, capture_output=True, text=True, check=False, timeout=TIMEOUT_S, cwd=ROOT)
    if not results.exists():
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise ServiceFailed(f"dbt build did not run: {lines[-1] if lines else 'no output'}", hint="./weir run dbt build shows all of it")
    result = read_results(json.loads(results.read_text()))
    bad = [n for n in result.nodes if n.status in {"error", "fail", "runtime error"}]
    if bad:
        raise ServiceFailed(f"dbt: {bad[0].unique_id} failed: {bad[0].message.strip()[:400]}", hint="./weir run dbt build shows all of it")
    return result

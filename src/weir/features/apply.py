"""`feast apply`, as a subprocess: importing Feast costs seconds, and its registry belongs to its own command."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from weir.errors import ServiceFailed


def apply(environment: Mapping[str, str]) -> None:
    """Apply `feature_repo/` to the registry in WEIR_HOME/feast.

    Raises:
        ServiceFailed: Feast refused; carries its last line.
    """
    repo = Path(__file__).resolve().parents[3] / "feature_repo"
    Path(environment["WEIR_HOME"], "feast").mkdir(parents=True, exist_ok=True)
    feast = Path(sys.executable).parent / "feast"
    done = subprocess.run([str(feast), "--chdir", str(repo), "apply"], env=dict(environment), capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise ServiceFailed(f"feast apply failed: {lines[-1] if lines else 'no output'}", hint="./weir run feast apply shows all of it")

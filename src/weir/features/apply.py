"""`feast apply`, as a subprocess: importing Feast costs seconds, and its registry belongs to its own command."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from weir.errors import ServiceFailed

TIMEOUT_S: Final = 180.0  # it takes 10 to 20 s on two cores, most of it importing Feast


def apply(environment: Mapping[str, str], *, feast: Path | None = None, timeout_s: float = TIMEOUT_S) -> None:
    """Apply `feature_repo/` to the registry in WEIR_HOME/feast. `feast`: the command, that of this environment by default.

    Raises:
        ServiceFailed: Feast refused (carries its last line), or did not end in `timeout_s` and was killed.
    """
    repo = Path(__file__).resolve().parents[3] / "feature_repo"
    folder = Path(environment["WEIR_HOME"], "feast")
    folder.mkdir(parents=True, exist_ok=True)
    command = [str(feast or Path(sys.executable).parent / "feast"), "--chdir", str(repo), "apply"]
    said = folder / "apply.log"  # a file, not a pipe: a process that Feast started and left could hold a pipe open past the timeout
    with said.open("wb") as file:
        try:
            done = subprocess.run(command, env=dict(environment), stdout=file, stderr=subprocess.STDOUT, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired as error:
            raise ServiceFailed(
                f"feast apply did not end in {timeout_s:.0f} s and was ended", hint=f"what it said is in {said}; is its registry on a slow disk?"
            ) from error
    if done.returncode:
        lines = [line for line in said.read_text(errors="replace").splitlines() if line.strip()]
        raise ServiceFailed(f"feast apply failed: {lines[-1] if lines else 'no output'}", hint="./weir run feast apply shows all of it")

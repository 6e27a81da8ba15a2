"""What `./weir test` runs: the checks a reviewer would run, then the tests, quick ones first."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

PATHS = ("src", "tests", "dashboards", "feature_repo", "bench")


def _checks() -> list[tuple[str, Sequence[str]]]:
    python = sys.executable
    bin_dir = Path(python).parent
    return [
        ("ruff", [python, "-m", "ruff", "check", *PATHS]),
        ("types", [python, "-m", "mypy"]),
        ("layers", [str(bin_dir / "lint-imports")]),
    ]


def run(root: Path, *, long: bool, only: str) -> int:
    """Run checks and tests under `root`; print each check's result; return the exit code (0: all passed)."""
    failed = []
    if not only:
        for name, command in _checks():
            began = time.monotonic()
            done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
            verdict = "ok" if done.returncode == 0 else "FAILED"
            sys.stdout.write(f"check {name}: {verdict} ({time.monotonic() - began:.0f} s)\n")
            if done.returncode:
                failed.append(name)
                sys.stdout.write(done.stdout[-4000:] + done.stderr[-2000:])
            sys.stdout.flush()
    arguments = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--durations=10"]
    if not long:
        arguments += ["-m", "not long"]
    order = [only] if only else ["unit", "contract", "house", "docs", "oracle", "stack"]
    arguments += [f"tests/{name}" for name in order if (root / "tests" / name).is_dir()]
    code = subprocess.run(arguments, cwd=root, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, check=False).returncode
    if failed:
        sys.stdout.write(f"failed checks: {', '.join(failed)}\n")
    return code or (1 if failed else 0)

"""What `./weir test` runs: the checks a reviewer would run, then the tests, quick ones first."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from weir.cli import browser
from weir.errors import UnknownName, WeirError

# How often the gateway is killed with an insert in flight (20 otherwise), rounds of random changes (4 otherwise), seconds of pgbench; for how many seconds the
# gateway's scanner is held to the engine's parser (known oddities only otherwise); fuzzed records that are decoded (100,000 otherwise).
LONG = {"WEIR_TEST_KILLS": "1000", "WEIR_TEST_ROUNDS": "24", "WEIR_TEST_PGBENCH_S": "600", "WEIR_FUZZ_S": "600", "WEIR_TEST_FUZZED": "1000000"}
PATHS = ("src", "tests", "dashboards", "feature_repo", "bench", "deploy", ".ci", "weir")
SUITE_S = 1800  # what checks and tests may take on two cores without --long
ORDER = ("unit", "contract", "house", "docs", "oracle", "stack")


def _checks() -> list[tuple[str, Sequence[str]]]:
    python = sys.executable
    bin_dir = Path(python).parent
    return [
        ("ruff", [python, "-m", "ruff", "check", *PATHS]),
        ("types", [python, "-m", "mypy", "--no-incremental"]),
        ("layers", [str(bin_dir / "lint-imports")]),
    ]


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def ensure_browser(home: Path) -> str:
    """Return the path of a browser for the dashboard's test, fetched below `home` where the machine has none; empty, with the reason on standard output, when none can be had."""
    try:
        return browser.ensure(home, _say)
    except WeirError as error:
        sys.stdout.write(f"no browser, so the dashboard's tests will fail: {error}\n")
        return ""


def chosen(root: Path, only: str) -> list[str]:
    """Return the folders of tests/ to run, quick ones first; `only` may name one of them, or a folder in one, such as unit/ingest.

    Raises:
        UnknownName: it names no such folder. (Without a path pytest would run everything.)
    """
    there = [name for name in ORDER if (root / "tests" / name).is_dir()]
    if not only:
        return there
    first, _, rest = only.rstrip("/").partition("/")
    if first not in there or ".." in rest or not (root / "tests" / only).is_dir():
        raise UnknownName.of("folder of tests", only, there)
    return [only]


def told_time(seconds: float, *, whole: bool) -> str:
    """Return the line that says how long checks and tests took, and when the `whole` suite took longer than it may. Pure."""
    past = f", more than the {SUITE_S} s that it may take on two cores that do nothing else" if whole and seconds > SUITE_S else ""
    return f"checks and tests: {seconds:.0f} s{past}"


def run(root: Path, home: Path, *, long: bool, only: str) -> int:
    """Run checks and tests under `root`, with what they fetch kept below `home` (WEIR_HOME); print each check's result; return the exit code (0: all passed).

    Raises:
        UnknownName: there is no folder of tests `only`.
    """
    order, failed, started = chosen(root, only), [], time.monotonic()
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
    arguments = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--durations=10", "-rs"]
    if not long:
        arguments += ["-m", "not long"]
    arguments += [f"tests/{name}" for name in order]
    if not only or only == "stack":
        os.environ["WEIR_CHROMIUM"] = ensure_browser(home)
    env = {**(LONG if long else {}), **os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    code = subprocess.run(arguments, cwd=root, env=env, check=False).returncode
    sys.stdout.write(told_time(time.monotonic() - started, whole=not (long or only)) + "\n")
    if failed:
        sys.stdout.write(f"failed checks: {', '.join(failed)}\n")
    return code or (1 if failed else 0)

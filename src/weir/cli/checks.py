"""What `./weir test` runs: the checks a reviewer would run and the quick tests, beside the stack tests.

In: the folders of tests/. Out: each check's and each run's own words, the exit code. Keep: a stack waits for much of its time (for a start, a merge, a poll), so
the others run in what it leaves, at a lower priority; on one core everything runs in a row; Ctrl-C waits until the stack is down.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO

from weir.cli import browser
from weir.errors import UnknownName, WeirError
from weir.stack import usual

# How often the gateway is killed with an insert in flight (12 otherwise), rounds of random changes (4 otherwise), seconds of pgbench; for how many seconds the
# gateway's scanner is held to the engine's parser (known oddities only otherwise); fuzzed records that are decoded (100,000 otherwise).
LONG = {"WEIR_TEST_KILLS": "1000", "WEIR_TEST_ROUNDS": "24", "WEIR_TEST_PGBENCH_S": "600", "WEIR_FUZZ_S": "600", "WEIR_TEST_FUZZED": "1000000"}
PATHS = ("src", "tests", "dashboards", "feature_repo", "bench", "deploy", ".ci", "weir")
SUITE_S = 1800  # what checks and tests may take on two cores without --long
ORDER = ("unit", "contract", "house", "docs", "oracle", "stack")
ALONE = "stack"  # its tests share one stack, so they run in one process
YIELDING = ("nice", "-n", "5")  # beside the stack, whose tests wait with a deadline: a third of its weight (sched(7)); at 10, a tenth, tests here missed deadlines of their own
FOLLOW_S = 0.5
TELL_S = 60.0
TELL_CHECKS_S = 20.0  # they take about a minute
_PERCENT = re.compile(r"\[ *(\d+)%\]$", re.MULTILINE)
SIDE_BY_SIDE = 4  # how many files of the other tests run at once, at most: each may have a gateway, a Redis or a PostgreSQL of its own


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


def workers() -> int:
    """Return how many files of quick tests run at once: as many as this process has cores, at most SIDE_BY_SIDE."""
    return min(len(os.sched_getaffinity(0)), SIDE_BY_SIDE)


def steps(order: Sequence[str], *, long: bool, at_once: int) -> list[list[str]]:
    """Return pytest's arguments, run by run, for the folders of tests in `order`: quick ones `at_once` files at a time, and ALONE by itself. Pure.

    pytest-xdist would begin with the files of most tests; in the order given, tests/conftest.py puts those first that take longest, and all cores end together.
    """
    shared = ["-p", "no:cacheprovider", "--durations=25", "-rs", *([] if long else ["-m", "not long"])]
    quick = [f"tests/{name}" for name in order if name.partition("/")[0] != ALONE]
    alone = [f"tests/{name}" for name in order if name.partition("/")[0] == ALONE]
    side_by_side = ["-n", str(at_once), "--dist", "loadfile", "--no-loadscope-reorder"] if at_once > 1 else []
    return [[*shared, *more, *paths] for more, paths in ((side_by_side, quick), (["-vv"], alone)) if paths]  # -vv: a line a test, with pytest's percentage


def told_time(seconds: float, *, whole: bool) -> str:
    """Return the line that says how long checks and tests took, and when the `whole` suite took longer than it may. Pure."""
    past = f", more than the {SUITE_S} s that it may take on two cores that do nothing else" if whole and seconds > SUITE_S else ""
    return f"checks and tests: {seconds:.0f} s{past}"


def _checked(root: Path, before: Sequence[str] = ()) -> list[str]:
    """Run the checks under `root` side by side, print each one's result and return the names of those that failed."""

    def one(check: tuple[str, Sequence[str]]) -> tuple[str, subprocess.CompletedProcess[str], float]:
        name, command = check
        began = time.monotonic()
        return name, subprocess.run([*before, *command], cwd=root, capture_output=True, text=True, check=False), time.monotonic() - began

    failed = []
    with ThreadPoolExecutor() as pool:
        for name, done, took in pool.map(one, _checks()):
            _say(f"check {name}: {'ok' if done.returncode == 0 else 'FAILED'} ({took:.0f} s)")
            if done.returncode:
                failed.append(name)
                _say(done.stdout[-4000:] + done.stderr[-2000:])
    return failed


def _usually(home: Path, name: str, what: str, every_s: float) -> AbstractContextManager[usual.Phase]:
    """Say now and then for how long `what` runs yet, by the last time that it passed."""
    return usual.phase(home, name, lambda line: _say(f"\n{what}: {line}"), every_s)


def _checking(root: Path, home: Path, before: Sequence[str]) -> list[str]:
    with _usually(home, "checks", "lint, types and layers", TELL_CHECKS_S) as now:
        failed = _checked(root, before)
        now.well = not failed
    return failed


@contextmanager
def _pytest(root: Path, arguments: Sequence[str], env: Mapping[str, str], before: Sequence[str] = (), out: IO[bytes] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Begin a run; at the end wait for it, past Ctrl-C too, which it is sent as well: it takes its stack down."""
    process = subprocess.Popen([*before, sys.executable, "-m", "pytest", *arguments], cwd=root, env=env, stdout=out)
    try:
        yield process
    finally:
        process.wait()


def _follow(process: subprocess.Popen[bytes], said: Path) -> None:
    """Print what a run has said so far, and what it says until it ends."""
    with said.open(errors="replace") as file:
        while True:
            running = process.poll() is None
            if text := file.read():
                sys.stdout.write(text)
                sys.stdout.flush()
            elif not running:
                return
            else:
                time.sleep(FOLLOW_S)


def progress(said: str, seconds: float) -> str:
    """Return how far a run is that has said so much in `seconds`, by pytest's own percentage, and about how long it has to go; empty before the first one. Pure."""
    done = [int(found) for found in _PERCENT.findall(said)]
    if not done or not done[-1]:
        return ""
    return f"{done[-1]} % after {seconds:.0f} s, about {seconds * (100 - done[-1]) / done[-1]:.0f} s to go"


def _telling(said: Path, every_s: float) -> AbstractContextManager[None]:
    """Say now and then how far the stack tests are, which say nothing themselves while the others do."""

    def tell(seconds: float) -> None:
        if line := progress(said.read_text(errors="replace"), seconds):
            _say(f"\nstack tests: {line}")

    return usual.now_and_then(tell, every_s)


def _in_a_row(root: Path, env: Mapping[str, str], runs: Sequence[Sequence[str]], *, home: Path, whole: bool, before: Sequence[str] = ()) -> tuple[list[str], list[int]]:
    """Run one after another, beside the first the checks if `whole`: the type checker keeps one core busy for a minute. Return the failed checks and the exit codes."""
    failed, codes = list[str](), []
    with ThreadPoolExecutor(1) as pool:
        checking = pool.submit(_checking, root, home, before) if whole else None
        for arguments in runs:
            name = " ".join(a for a in arguments if a.startswith("tests/"))
            with _usually(home, f"test {name}{'' if '-m' in arguments else ' --long'}", name, TELL_S) as now:
                with _pytest(root, arguments, env, before) as one:
                    pass
                now.well = one.returncode == 0
            codes.append(one.returncode)
            failed = checking.result() if checking else []
    return failed, codes


def _beside(root: Path, home: Path, env: Mapping[str, str], alone: Sequence[str], others: Sequence[Sequence[str]]) -> tuple[list[str], list[int]]:
    """Run the stack tests `alone`, and the checks and the `others` in what they leave; return the failed checks and the exit codes."""
    with tempfile.NamedTemporaryFile(prefix="weir-test-") as said, _pytest(root, alone, env, out=said.file) as stack:
        _say("the stack tests run beside the others; what they say follows at the end")
        with _telling(Path(said.name), TELL_S):
            failed, codes = _in_a_row(root, env, others, home=home, whole=True, before=YIELDING)
        _follow(stack, Path(said.name))
    return failed, [*codes, stack.returncode]


def run(root: Path, home: Path, *, long: bool, only: str) -> int:
    """Run checks and tests under `root`, with what they fetch kept below `home` (WEIR_HOME); print each check's result; return the exit code (0: all passed).

    Raises:
        UnknownName: there is no folder of tests `only`.
    """
    order, started, at_once = chosen(root, only), time.monotonic(), workers()
    if not only or only.partition("/")[0] == ALONE:
        os.environ["WEIR_CHROMIUM"] = ensure_browser(home)
    env = {**(LONG if long else {}), **os.environ}
    runs = steps(order, long=long, at_once=at_once)
    if len(runs) > 1 and at_once > 1:
        failed, codes = _beside(root, home, env, runs[-1], runs[:-1])
    else:
        failed, codes = _in_a_row(root, env, runs, home=home, whole=not only)
    _say(told_time(time.monotonic() - started, whole=not (long or only)))
    if failed:
        _say(f"failed checks: {', '.join(failed)}")
    return next((code for code in codes if code), 1 if failed else 0)

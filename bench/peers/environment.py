"""The peers' own environment and jars: locked, fetched once, kept under WEIR_HOME.

In: requirements/bench-build.lock, requirements/bench.lock, bench/peers/spark.jars.lock. Out: WEIR_HOME/bench-env-<digest>/, WEIR_HOME/bench-jars/. Keep: nothing
of it is in the environment that the product runs in; a half-made one is never used (a mark is written last). The steps, their progress and what they say when
there is no network are the launcher's.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.machinery
import importlib.util
import shutil
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("bootstrap", "bench-build", "bench")
UNPACKED_BYTES = 3_030_000_000  # what uv had written when it was done, its cache empty before (pyspark is fetched, unpacked, built, copied)
JARS_LOCK = Path(__file__).with_name("spark.jars.lock")
JAVA = """#!/bin/sh
for argument do
    shift
    [ "$argument" = --add-modules=jdk.incubator.vector ] || set -- "$@" "$argument"
done
exec "{java}" "$@"
"""


def _launcher() -> Any:
    loader = importlib.machinery.SourceFileLoader("weir_launcher", str(ROOT / "weir"))
    spec = importlib.util.spec_from_loader("weir_launcher", loader)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]  # (own) a loader was given
    loader.exec_module(module)
    return module


def digest(version: str = sys.version, texts: tuple[bytes, ...] | None = None) -> str:
    """Return the digest of everything that decides the environment's content. Pure, given the texts of the locks."""
    found = texts if texts is not None else tuple((ROOT / "requirements" / f"{name}.lock").read_bytes() for name in LOCKS)
    return hashlib.sha256(b"\0".join([version.encode(), *found])).hexdigest()[:12]


def _install(target: Path) -> None:
    launcher = _launcher()
    shutil.rmtree(target, ignore_errors=True)
    launcher.step("making the peers' environment", [sys.executable, "-m", "venv", "--clear", str(target)])
    python, locks = str(target / "bin" / "python"), ROOT / "requirements"
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    launcher.step("installing the installer", [*pip, "install", "-q", "--require-hashes", "-r", str(locks / "bootstrap.lock")])
    env = launcher.installer_environment(pip) | {"VIRTUAL_ENV": str(target)}
    uv = [python, "-m", "uv", "pip", "install", "-q", "--require-hashes", "--python", python]
    launcher.step("installing what pyspark is built with", [*uv, "-r", str(locks / "bench-build.lock")], env)
    launcher.step("installing the peers (about 600 MB the first time)", [*uv, "--no-build-isolation", "-r", str(locks / "bench.lock")], env, UNPACKED_BYTES)
    (target / ".complete").write_text("whole\n")


def python(home: Path) -> Path:
    """Return the interpreter of the peers' environment, made now if need be; one maker at a time.

    Raises:
        SystemExit: a step failed; one line on standard error says what to do.
    """
    target = home / f"bench-env-{digest()}"
    with (home / ".bench-env.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (target / ".complete").exists():
            for old in home.glob("bench-env-*"):
                shutil.rmtree(old, ignore_errors=True)
            _install(target)
    return target / "bin" / "python"


def java_home(folder: Path, java: Path) -> Path:
    """Return a JAVA_HOME for Spark whose `java` is `java`, without the one module that Spark's launcher asks for and the wheel's JRE lacks.

    It is jdk.incubator.vector, which only MLlib's linear algebra uses; a JVM that is told to add a module it has not got does not start.
    """
    script = folder / "bin" / "java"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(JAVA.format(java=java))
    script.chmod(0o755)
    return folder


def jars(home: Path) -> list[Path]:
    """Return the jars of Spark's Kafka package, fetched now if need be.

    Raises:
        WeirError: the repository could not be reached, or a sum differs from the lock.
    """
    from weir.connect import jars as locked

    def report(line: str) -> None:
        print(f"weir: fetching Spark's Kafka package: {line}", file=sys.stderr, flush=True)

    return sorted((locked.fetch(home / "bench-jars", report, JARS_LOCK) / "spark").glob("*.jar"))

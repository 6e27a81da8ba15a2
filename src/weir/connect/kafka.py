"""Kafka, one node in KRaft mode.

In: `connect/server.properties`, the port. Out: WEIR_HOME/kafka, its command. Keep: the storage is formatted once.
"""

from __future__ import annotations

import errno
import re
import shutil
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from string import Template

from weir.connect import jars, java
from weir.connect.command import Command
from weir.contracts.endpoints import PORT_OFFSETS, Endpoints
from weir.errors import ServiceFailed

HEAP_MB = 384  # 178 MB resident at rest; a 200,000 events/s load stayed below it
_TEMPLATE = Path(__file__).resolve().parents[3] / "connect" / "server.properties"


def _properties(home: Path) -> Path:
    return home / "kafka" / "server.properties"


def prepare(home: Path, endpoints: Endpoints) -> None:
    """Fetch the jars and write the settings.

    Raises:
        Unavailable: the jars could not be fetched.
    """
    jars.fetch(home)
    port = int(endpoints.kafka_bootstrap.rsplit(":", 1)[1])
    data = home / "kafka" / "data"
    data.mkdir(parents=True, exist_ok=True)
    controller = port + PORT_OFFSETS["kafka_controller"] - PORT_OFFSETS["kafka"]
    text = Template(_TEMPLATE.read_text()).safe_substitute(PORT=str(port), CONTROLLER_PORT=str(controller), DATA_DIR=str(data))
    _properties(home).write_text(text)


def format_storage(home: Path) -> None:
    """Format the storage once; some seconds of a JVM. It is made beside and put in its place whole, so that one who is killed in it begins anew.

    Raises:
        ServiceFailed: formatting failed, or what is there is no storage of Kafka's.
    """
    data = home / "kafka" / "data"
    if (data / "meta.properties").exists():
        return
    real = data.resolve()  # it may be a link to a larger disk
    beside, properties = real.with_name(f"{real.name}.new"), _properties(home).with_suffix(".format")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True, exist_ok=True)
    properties.write_text(re.sub(r"^log\.dirs=.*$", lambda _: f"log.dirs={beside}", _properties(home).read_text(), flags=re.MULTILINE))
    arguments = ("format", "--standalone", "-t", cluster_id(), "-c", str(properties))
    done = subprocess.run(
        java.argv(home, "kafka", heap_mb=128, quick_start=True, main="kafka.tools.StorageTool", arguments=arguments),
        capture_output=True, text=True, check=False,
    )
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise ServiceFailed(f"Kafka's storage could not be formatted: {lines[-1] if lines else 'no output'}", hint="./weir doctor shows what is missing on this machine", service="kafka")
    try:
        beside.replace(real)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise ServiceFailed(f"Kafka's storage could not be put at {data}: {error.strerror}", hint="it has to be a folder of its own on that disk, and no mount point", service="kafka") from error
        raise ServiceFailed(f"{data} has files in it and is no storage of Kafka's: it has no meta.properties", hint="move them away; ./weir clean deletes them, with all other data", service="kafka") from error


def cluster_id(make: Callable[[], uuid.UUID] = uuid.uuid4) -> str:
    """Return a new cluster id. One that begins with a dash would be taken for an option (1 in 64), so it is drawn again, as Kafka's Uuid.randomUuid does."""
    while True:
        text = urlsafe_b64encode(make().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text


def command(home: Path, endpoints: Endpoints) -> Command:
    """Return the broker's command."""
    argv = java.argv(home, "kafka", heap_mb=HEAP_MB, quick_start=True, main="kafka.Kafka", arguments=(str(_properties(home)),), flags=java.agent(home))
    return Command(argv, {"TZ": "UTC", **java.agent_environment("kafka", endpoints.otlp_url)}, home, None)

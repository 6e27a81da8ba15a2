"""The Kafka Connect worker with Debezium, exactly-once source.

In: `connect/worker.properties`, the jars. Out: its command. Keep: the database's password reaches Connect as a file, never in a setting.
"""

from __future__ import annotations

from pathlib import Path
from string import Template
from urllib.parse import urlsplit

from weir.connect import jars, java
from weir.connect.command import Command
from weir.connect.postgres import read_or_create_secret
from weir.contracts.endpoints import Endpoints

HEAP_MB = 512  # a snapshot needed about 500 MB resident, heap and all
_TEMPLATE = Path(__file__).resolve().parents[3] / "connect" / "worker.properties"


def secrets_file(home: Path) -> Path:
    """Return the properties file that Connect's FileConfigProvider reads."""
    return home / "secrets" / "connect.properties"


def _properties(home: Path) -> Path:
    return home / "connect" / "worker.properties"


def prepare(home: Path, endpoints: Endpoints) -> None:
    """Fetch the jars, write the settings and the secrets file."""
    jars.fetch(home)
    plugins = home / "connect" / "plugins"
    plugins.mkdir(parents=True, exist_ok=True)
    link = plugins / "debezium"
    if not link.is_symlink():
        link.symlink_to(home / "jars" / "debezium", target_is_directory=True)
    password = read_or_create_secret(home, "cdc")
    file = secrets_file(home)
    file.touch(mode=0o600)
    file.write_text(f"cdc_password={password}\n")
    text = Template(_TEMPLATE.read_text()).safe_substitute(
        BOOTSTRAP=endpoints.kafka_bootstrap, PORT=str(urlsplit(endpoints.connect_url).port), PLUGIN_PATH=str(plugins), SECRETS_DIR=str(file.parent)
    )
    _properties(home).write_text(text)


def command(home: Path, endpoints: Endpoints) -> Command:
    """Return the worker's command. Full JIT: it starts slower, and its snapshots run faster (./weir bench cdc measures them)."""
    main = "org.apache.kafka.connect.cli.ConnectDistributed"
    argv = java.argv(home, "kafka", heap_mb=HEAP_MB, quick_start=False, main=main, arguments=(str(_properties(home)),), flags=java.agent(home))
    return Command(argv, {"TZ": "UTC", **java.agent_environment("connect", endpoints.otlp_url)}, home / "connect", None)

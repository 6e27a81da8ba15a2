"""The Kafka Connect worker with Debezium, exactly-once source.

In: `connect/worker.properties`, the jars, how brokers of one's own are spoken to. Out: its command. Keep: passwords reach Connect as a file, never in a setting.
"""

from __future__ import annotations

from pathlib import Path
from string import Template
from urllib.parse import urlsplit

from weir.connect import jars, java, java_client
from weir.connect.command import Command
from weir.connect.postgres import read_or_create_secret
from weir.contracts.endpoints import Endpoints
from weir.topics import client

HEAP_MB = 512  # a snapshot needed about 500 MB resident, heap and all
# Of the worker itself, and of what it makes for connectors.
PREFIXES = ("", "producer.", "consumer.", "admin.")
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
    settings, secrets = _spoken(home, endpoints)
    _write_secret(file, f"cdc_password={password}\n" + secrets)
    text = Template(_TEMPLATE.read_text()).safe_substitute(
        BOOTSTRAP=endpoints.kafka_bootstrap, PORT=str(urlsplit(endpoints.connect_url).port), PLUGIN_PATH=str(plugins), SECRETS_DIR=str(file.parent)
    )
    _properties(home).write_text(text + settings)


def _write_secret(path: Path, text: str) -> None:
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600, exist_ok=False)
    fresh.write_text(text)
    fresh.replace(path)


def _spoken(home: Path, endpoints: Endpoints) -> tuple[str, str]:
    """Return how the brokers are spoken to, as lines of the worker's settings and lines of its secrets file; write the key store if they want one.

    Raises:
        SettingsError: the client file, or the key that it names, cannot be used.
    """
    keystore = secrets_file(home).with_name("kafka-keystore.pem")
    keystore.unlink(missing_ok=True)
    if not endpoints.kafka_client:
        return "", ""
    found = client.read(Path(endpoints.kafka_client))
    if "ssl.key.location" in found:
        pem = java_client.pem(*(Path(found[name]).read_text(errors="replace") for name in ("ssl.key.location", "ssl.certificate.location")))
        if java_client.PLAIN_KEY in pem:
            found.pop("ssl.key.password", None)  # Java takes every key for an encrypted one when it has a password
        _write_secret(keystore, pem)
    java = java_client.translated(found, str(keystore))
    secrets = "".join(java_client.line(f"kafka.{key}", java[key]) for key in sorted(java_client.SECRET & java.keys()))
    shown = {k: f"${{file:{secrets_file(home)}:kafka.{k}}}" if k in java_client.SECRET else v for k, v in java.items()}
    return "".join(java_client.line(prefix + k, v) for prefix in PREFIXES for k, v in shown.items()), secrets


def command(home: Path, endpoints: Endpoints) -> Command:
    """Return the worker's command. Full JIT: it starts slower, and its snapshots run faster (./weir bench cdc measures them)."""
    main = "org.apache.kafka.connect.cli.ConnectDistributed"
    argv = java.argv(home, "kafka", heap_mb=HEAP_MB, quick_start=False, main=main, arguments=(str(_properties(home)),), flags=java.agent(home))
    return Command(argv, {"TZ": "UTC", **java.agent_environment("connect", endpoints.otlp_url)}, home / "connect", None)

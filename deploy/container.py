"""What our images start: a service with its secrets, Kafka Connect, one set-up step, or a health probe.

In: the environment with `{secret:NAME}` in place of a password, files in /run/secrets. Out: the service, as this same process. Keep: a
secret is in no image, no compose file and no argument; the settings files are those of the local stack, differences are appended here.
"""

# ruff: noqa: INP001 - a script that an image starts by path, not a package
from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from weir.contracts import names
from weir.contracts.endpoints import PORT_OFFSETS, Endpoints
from weir.errors import SettingsError, Unavailable, WeirError

SECRETS = Path("/run/secrets")
USAGE = "usage: container.py run COMMAND… | connect | setup postgres|kafka|clickhouse|connect | health URL"

# Topics that Debezium would make itself, with the one replica that connect/connectors/shop.json asks for.
CONNECTOR_TOPICS = {f"{names.CDC_PREFIX}.public.weir_signal": 1, f"__debezium-heartbeat.{names.CDC_PREFIX}": 1}


def filled(environment: Mapping[str, str], secrets: Path) -> dict[str, str]:
    """Return the environment with every `{secret:NAME}` replaced by the content of `secrets`/NAME.

    Raises:
        SettingsError: a secret is missing; names its variable and file.
    """

    def content(variable: str, name: str) -> str:
        try:
            return (secrets / name).read_text().strip()
        except OSError as error:
            raise SettingsError(
                f"{variable} needs the secret {name}, and {secrets / name} cannot be read", hint="make it as deploy/README.md says", key=variable
            ) from error

    def one(variable: str, value: str) -> str:
        return re.sub(r"\{secret:([a-z_]+)\}", lambda m: content(variable, m[1]), value)

    return {k: one(k, v) for k, v in environment.items()}


def adopt(secrets: Path, home: Path) -> None:
    """Copy the secrets that weir.connect reads from its home there (its own would be made up otherwise). Mode 0600."""
    folder = home / "secrets"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    for name in ("postgres", "cdc"):
        if (secrets / name).exists():
            descriptor, temporary = tempfile.mkstemp(dir=folder)  # whole under another name first: several containers share the home
            with os.fdopen(descriptor, "w") as file:
                file.write((secrets / name).read_text().strip())
            Path(temporary).replace(folder / name)


def worker_overrides(endpoints: Endpoints) -> dict[str, str]:
    """Return what differs from connect/worker.properties when there are three brokers and other hosts call. Pure."""
    port = endpoints.connect_url.rsplit(":", 1)[1]
    return {
        "listeners": f"http://0.0.0.0:{port}",
        "rest.advertised.host.name": "connect",
        "config.storage.replication.factor": "3",
        "offset.storage.replication.factor": "3",
        "status.storage.replication.factor": "3",
    }


def start_connect(home: Path, endpoints: Endpoints) -> tuple[str, ...]:
    """Write the worker's settings and return its command; of two lines with one key Java reads the later."""
    from weir.connect import worker

    worker.prepare(home, endpoints)
    with (home / "connect" / "worker.properties").open("a") as file:
        file.writelines(f"\n{k}={v}" for k, v in worker_overrides(endpoints).items())
    return worker.command(home, endpoints).argv


def replicated_topics(endpoints: Endpoints) -> None:
    """Create our topics with the brokers' default replication, before the local stack's step would make them with one replica.

    Raises:
        Unavailable: the brokers did not answer.
    """
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import AdminClient, NewTopic

    from weir.connect.register import WEEK_MS

    settings = {"retention.ms": str(WEEK_MS), "max.message.bytes": "1048576"}
    wanted = [NewTopic(t, num_partitions=n, replication_factor=-1, config=settings) for t, n in (names.PARTITIONS | CONNECTOR_TOPICS).items()]
    admin = AdminClient({"bootstrap.servers": endpoints.kafka_bootstrap})
    for topic, future in admin.create_topics(wanted, request_timeout=20).items():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise Unavailable(f"topic {topic} could not be created: {error}", hint="docker compose logs kafka-1 shows more") from error


def set_up(name: str, home: Path, endpoints: Endpoints) -> None:
    """Do what the local stack does once `name` is ready, patiently."""
    from weir.stack import lifecycle
    from weir.stack.settings import StackSettings

    root = Path(__file__).resolve().parents[1]
    base = int(endpoints.api_url.rsplit(":", 1)[1]) - PORT_OFFSETS["api"]
    hooks = lifecycle.after_ready(StackSettings(home, root, base, endpoints, frozenset(), home / "dataset"))
    if name not in hooks:
        raise SettingsError(f"there is no set-up step {name!r}", hint=f"known are {', '.join(hooks)}", key=name)
    if name == "kafka":
        lifecycle.patiently(lambda: replicated_topics(endpoints))
    lifecycle.patiently(hooks[name])


def main(arguments: list[str]) -> int:
    """Act on the first argument; does not return when it becomes a service."""
    match arguments:
        case ["health", url]:
            from weir.stack import probe

            return 0 if probe.ready(url) else 1
        case ["run", *command] if command:
            os.environ.update(filled(os.environ, SECRETS))
            os.execvp(command[0], command)  # noqa: S606 - becoming the service is the point
        case ["connect"] | ["setup", _]:
            os.environ.update(filled(os.environ, SECRETS))
            home, endpoints = Path(os.environ["WEIR_HOME"]), Endpoints.from_environment()
            adopt(SECRETS, home)
            if arguments[0] == "setup":
                set_up(arguments[1], home, endpoints)
                return 0
            argv = start_connect(home, endpoints)
            os.execv(argv[0], argv)  # noqa: S606 - becoming the service is the point
    print(USAGE, file=sys.stderr)  # noqa: T201 - one line for the container's log
    return 2


if __name__ == "__main__":
    try:
        raise SystemExit(main(sys.argv[1:]))
    except WeirError as failed:
        sys.exit(str(failed))

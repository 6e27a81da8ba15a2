"""What must exist before data can flow: topics, the shop's schema, the connector.

In: running services. Out: topics, tables, publication, a connector whose task runs. Keep: everything may be run again; a FAILED task is
seen although its connector says RUNNING.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import urlsplit

from weir.connect import preflight, publication
from weir.connect.postgres import read_or_create_secret
from weir.connect.worker import secrets_file
from weir.contracts import cdc, names, tls
from weir.contracts.endpoints import Endpoints
from weir.errors import ContractViolation, ServiceFailed, Unavailable
from weir.topics.client import client_settings

_ROOT = Path(__file__).resolve().parents[3] / "connect"
CONNECTOR = cdc.CONNECTOR
ROLE = "weir_cdc"  # Debezium's, in connect/connectors/shop.json
WEEK_MS = 7 * 86_400_000
CONNECTOR_WAIT_S = 60
LIST = "table.include.list"
SIZE = "max.message.bytes"  # of a topic
log = logging.getLogger("weir.connect")


def ensure_topics(endpoints: Endpoints) -> None:
    """Create the topics that are missing, with their partitions (those of CDC topics are fixed: see names.PARTITIONS), the brokers' replication and a week's retention.

    Raises:
        Unavailable: the broker did not answer in time.
        ContractViolation: a CDC topic that was there has another number of partitions.
    """
    _ensure_topics(endpoints, names.PARTITIONS)


def ensure_topic(endpoints: Endpoints, topic: str, partitions: int) -> None:
    """Create the topic of an added table; raises as `ensure_topics`."""
    _ensure_topics(endpoints, {topic: partitions})


def _ensure_topics(endpoints: Endpoints, partitions: Mapping[str, int]) -> None:
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient(client_settings(endpoints.kafka_bootstrap))
    wanted = [
        NewTopic(topic, num_partitions=count, replication_factor=-1, config={"retention.ms": str(WEEK_MS), SIZE: str(cdc.RECORD_BYTES if _of_changes(topic) else 1 << 20)})
        for topic, count in partitions.items()
    ]
    for topic, future in admin.create_topics(wanted, request_timeout=20).items():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise Unavailable(f"topic {topic} could not be created: {error}", hint="is Kafka ready? ./weir logs kafka") from error
    found = admin.list_topics(timeout=20).topics
    for topic, count in ((t, n) for t, n in partitions.items() if _of_changes(t)):
        if topic in found and len(found[topic].partitions) != count:
            raise ContractViolation(
                f"topic {topic} has {len(found[topic].partitions)} partitions, and the version of a change rests on {count}",
                hint="make the topic anew and raise the topic epoch (docs/decisions/0003)", topic=topic,
            )
    _ensure_room(admin, [t for t in partitions if _of_changes(t)])


def _of_changes(topic: str) -> bool:
    return topic not in {names.TOPIC_USER_EVENTS, names.TOPIC_ITEM_CATALOGUE}


def _ensure_room(admin: Any, topics: Sequence[str]) -> None:
    """Let topics that were made before take records as large as Debezium may send: one that is refused would end its task, and with it every table's changes."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

    narrow = []
    for resource, future in (admin.describe_configs([ConfigResource(ResourceType.TOPIC, t) for t in topics], request_timeout=20) if topics else {}).items():
        try:
            if int(future.result()[SIZE].value) < cdc.RECORD_BYTES:
                narrow.append(resource.name)
        except KafkaException as error:
            log.warning("the brokers do not tell the settings of topic %s: a change of more than its %s would end Debezium's task: %s", resource.name, SIZE, error)
    wider = [ConfigEntry(SIZE, str(cdc.RECORD_BYTES), incremental_operation=AlterConfigOpType.SET)]
    for resource, future in (admin.incremental_alter_configs([ConfigResource(ResourceType.TOPIC, t, incremental_configs=wider) for t in narrow], request_timeout=20) if narrow else {}).items():
        try:
            future.result()
        except KafkaException as error:
            raise ContractViolation(
                f"topic {resource.name} takes no record of {cdc.RECORD_BYTES:,} bytes, and a change of that size would end Debezium's task: {error}",
                hint=f"as its owner set {SIZE} of it to {cdc.RECORD_BYTES}", topic=resource.name,
            ) from error


def ensure_database(endpoints: Endpoints, home: Path) -> None:
    """Create the database, the shop's tables, the publication and the replication role; harmless when they are there.

    Raises:
        Unavailable: PostgreSQL does not answer.
        ContractViolation: the server or the role does not allow what is needed; the hint says what to run.
    """
    import psycopg
    from psycopg import sql

    parts = urlsplit(endpoints.postgres_dsn)
    database = parts.path.lstrip("/")
    maintenance = parts._replace(path="/postgres").geturl()
    password = read_or_create_secret(home, "cdc")
    try:
        with psycopg.connect(maintenance, autocommit=True, connect_timeout=10) as admin:
            if not admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,)).fetchone():
                admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
            verb = "ALTER" if admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (ROLE,)).fetchone() else "CREATE"
            verifier = admin.pgconn.encrypt_password(password.encode(), ROLE.encode(), b"scram-sha-256").decode()  # with log_statement = ddl the log shows what is sent
            admin.execute(sql.SQL(verb + " ROLE {} WITH REPLICATION LOGIN PASSWORD {}").format(sql.Identifier(ROLE), sql.Literal(verifier)))
        with psycopg.connect(endpoints.postgres_dsn, connect_timeout=10) as shop:
            shop.execute((_ROOT / "sql" / "shop.sql").read_bytes())
            shop.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO weir_cdc")
            shop.execute("GRANT INSERT, UPDATE ON public.weir_signal, public.weir_heartbeat TO weir_cdc")
            publication.ensure(shop)
            level = (shop.execute("SHOW wal_level").fetchone() or ("unknown",))[0]
    except psycopg.OperationalError as error:
        raise Unavailable(f"PostgreSQL does not answer: {' '.join(str(error).split())}", hint="./weir logs postgres shows why") from error
    except psycopg.Error as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        hint = "the role of postgres_dsn must own the database and the shop's tables; as an administrator: ALTER ROLE … WITH CREATEROLE REPLICATION (docs/guides/own-services.md)"
        raise ContractViolation(f"PostgreSQL refused to set up the shop: {said}", hint=hint) from error
    if level != "logical":
        hint = "run as its administrator: ALTER SYSTEM SET wal_level = 'logical'; and restart the server"
        raise ContractViolation(f"PostgreSQL's wal_level is {level}, and changes can be read only when it is logical", hint=hint)


def configuration(endpoints: Endpoints, home: Path) -> dict[str, str]:
    """Return the connector's configuration, filled in. Pure but for reading `connect/connectors/shop.json`."""
    parts = urlsplit(endpoints.postgres_dsn)
    text = Template((_ROOT / "connectors" / "shop.json").read_text()).safe_substitute(
        HOST=parts.hostname or "127.0.0.1", PORT=str(parts.port or 5432), DATABASE=parts.path.lstrip("/"), SECRETS_FILE=str(secrets_file(home))
    )
    return {str(k): str(v) for k, v in json.loads(text).items()}


def tables(config: Mapping[str, Any]) -> list[str]:
    """Return the tables of a connector's list. Pure."""
    return [t for t in str(config.get(LIST, "")).split(",") if t]


def keeping(base: dict[str, str], live: Mapping[str, Any]) -> dict[str, str]:
    """Return `base` with the tables that ./weir table add has put into the live list, so that a start takes none out. Pure."""
    more = [t for t in tables(live) if t not in tables(base)]
    return base | {LIST: ",".join([*tables(base), *more])}


def state(status: dict[str, Any]) -> tuple[str, str]:
    """Return (RUNNING, STARTING or FAILED, first line of the trace) from Connect's status document. Pure.

    A connector counts as RUNNING only when its task does.
    """
    parts = [status.get("connector", {}), *status.get("tasks", [])]
    for part in parts:
        if part.get("state") == "FAILED":
            return "FAILED", str(part.get("trace", "")).split("\n", 1)[0]
    running = len(parts) > 1 and all(p.get("state") == "RUNNING" for p in parts)
    return ("RUNNING", "") if running else ("STARTING", "")


def ensure_connector(endpoints: Endpoints, home: Path) -> None:
    """Put the connector's configuration where it differs, after a preflight of its tables, and wait until its task runs.

    Raises:
        ContractViolation: a table is not safe to capture; says the SQL that makes it safe.
        ServiceFailed: the task failed or did not run in time; carries the first line of its trace.
    """
    import httpx

    base = configuration(endpoints, home)
    deadline = time.monotonic() + CONNECTOR_WAIT_S
    put, restarted, why = False, False, "no answer"
    with httpx.Client(base_url=endpoints.connect_url, timeout=20, verify=tls.context()) as client:
        while time.monotonic() < deadline:
            try:
                if not put:
                    now = client.get(f"/connectors/{CONNECTOR}/config")
                    wanted = keeping(base, now.json() if now.is_success else {})
                    same = now.status_code == httpx.codes.OK and {k: v for k, v in now.json().items() if k != "name"} == wanted
                    if not same:
                        preflight.refuse_unsafe(endpoints.postgres_dsn)
                    answer = now if same else client.put(f"/connectors/{CONNECTOR}/config", json=wanted)
                    put, why = answer.is_success, answer.text[:300]
                status = client.get(f"/connectors/{CONNECTOR}/status")  # 404 for a moment after a change
                found, trace = state(status.json()) if status.is_success else ("STARTING", "")
            except httpx.HTTPError as error:
                found, trace, why = "STARTING", "", str(error)
            if put and found == "RUNNING":
                return
            if found == "FAILED":
                why = trace
                if restarted and "retri" not in trace.lower():
                    break
                client.post(f"/connectors/{CONNECTOR}/restart?includeTasks=true&onlyFailed=true")
                restarted = True
                time.sleep(2)
            time.sleep(0.1)
    raise ServiceFailed(f"connector {CONNECTOR} does not run: {why}", hint="./weir logs connect shows more", service="connect")

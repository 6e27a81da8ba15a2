"""Settings of one stack: its home, its ports, and which services are somebody else's.

In: WEIR_HOME, WEIR_PORT_BASE, WEIR_SETTINGS or weir.toml, the client file that it names. Out: `StackSettings`. Keep: an unknown key is an error that names it.
"""

from __future__ import annotations

import errno
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from urllib.parse import urlsplit

from weir.contracts.endpoints import DEFAULT_PORT_BASE, PORT_OFFSETS, Endpoints
from weir.contracts.retention import Retention
from weir.errors import DiskFull, SettingsError, UnknownName
from weir.stack import accounts
from weir.topics import client

LOWEST_PORT = 1024  # below it only root may listen

# Which endpoint of the settings file replaces which local service.
EXTERNAL = {
    "postgres_dsn": "postgres",
    "kafka_bootstrap": "kafka",
    "connect_url": "connect",
    "clickhouse_url": "clickhouse",
    "redis_url": "redis",
}
CLIENT = "kafka_client"  # how the brokers of kafka_bootstrap are spoken to: a file's path, below that of the settings file unless absolute
# What the value of each looks like: the schemes that are read, and an example for the hint.
FORMS = {
    "postgres_dsn": (("postgresql", "postgres"), "postgresql://user:password@db.example:5432/shop"),
    "kafka_bootstrap": ((), "kafka1.example:9092,kafka2.example:9092"),
    CLIENT: ((), "kafka-client.properties"),
    "connect_url": (("http", "https"), "http://connect.example:8083"),
    "clickhouse_url": (("http", "https"), "http://user:password@clickhouse.example:8123"),
    "redis_url": (("redis", "rediss"), "redis://redis.example:6379/0"),
}


@dataclass(frozen=True, slots=True)
class StackSettings:
    """What one stack is: `home` (state), `root` (checkout), `endpoints`, and the services that are `external`.

    `endpoints` are an administrator's. `clickhouse_users`: passwords of the local ClickHouse's users; empty when it is somebody else's.
    """

    home: Path
    root: Path
    port_base: int
    endpoints: Endpoints
    external: frozenset[str]
    dataset_dir: Path
    retention: Retention = field(default_factory=Retention)
    clickhouse_users: Mapping[str, str] = field(default_factory=dict)


def _port_base(environment: Mapping[str, str]) -> int:
    text = environment.get("WEIR_PORT_BASE", str(DEFAULT_PORT_BASE))
    highest = 65535 - max(PORT_OFFSETS.values())
    if not text.isdigit() or not LOWEST_PORT <= int(text) <= highest:
        raise SettingsError(f"WEIR_PORT_BASE is {text!r}", hint=f"set it to a number from {LOWEST_PORT} to {highest}")
    return int(text)


def problem(key: str, value: str) -> str:
    """Return what is wrong with the value of an endpoint, or an empty string. Pure; no name is looked up."""
    if key == CLIENT:
        return ""
    schemes, _ = FORMS[key]
    for url in value.split(",") if key == "kafka_bootstrap" else [value]:
        try:
            parts = urlsplit(url if schemes else f"//{url}")
            host, port = parts.hostname, parts.port
        except ValueError as error:
            return str(error)
        if schemes and parts.scheme not in schemes:
            return f"begins with {parts.scheme + '://' if parts.scheme else 'no scheme'} instead of {schemes[0]}://"
        if not host:
            return "names no host"
        if key == "kafka_bootstrap" and port is None:
            return "names no port"
        if key == "postgres_dsn" and not parts.path.strip("/"):
            return "names no database"
    return ""


def _read_file(path: Path) -> dict[str, str]:
    try:
        document = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}", hint="correct that line, or remove the file") from error
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}", hint="make it readable, or remove it") from error
    unknown = set(document) - {"endpoints"}
    if unknown:
        raise SettingsError(f"{path} has an unknown section or key {min(unknown)!r}", hint="the one section is [endpoints]")
    values = document.get("endpoints", {})
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: endpoints is no section", hint="write [endpoints] on a line of its own, and one key a line below it")
    for key, value in values.items():
        if key not in FORMS:
            raise SettingsError(f"{path}: endpoints.{key} is unknown", hint=UnknownName.of("key", key, FORMS).hint, key=key)
        example = f'write it such as {key} = "{FORMS[key][1]}"'
        if not isinstance(value, str) or not value:
            raise SettingsError(f"{path}: endpoints.{key} must be a non-empty string", hint=example, key=key)
        if found := problem(key, value):
            raise SettingsError(f"{path}: endpoints.{key} {found}", hint=example, key=key)
    return values | _client(path, values)


def _client(path: Path, values: Mapping[str, str]) -> dict[str, str]:
    """Return the client file's absolute path, once it is one that can be used; nothing when none is named."""
    if CLIENT not in values:
        return {}
    if "kafka_bootstrap" not in values:
        raise SettingsError(f"{path}: endpoints.{CLIENT} is there without kafka_bootstrap", hint="it is for brokers of your own: name them, or remove it", key=CLIENT)
    file = (path.parent / values[CLIENT]).absolute()
    client.read(file)
    return {CLIENT: str(file)}


def _passwords(home: Path) -> tuple[str, dict[str, str]]:
    """Return PostgreSQL's password and those of ClickHouse's users."""
    from weir.connect.postgres import read_or_create_password

    try:
        return read_or_create_password(home), accounts.passwords(home)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFull(f"no room is left at {home}", hint="free some, or set WEIR_HOME to a larger disk") from error
        raise SettingsError(f"WEIR_HOME at {home} cannot be written: {error.strerror}", hint="set WEIR_HOME to a folder that you own", key="WEIR_HOME") from error


def load(environment: Mapping[str, str] | None = None, *, file: bool = True) -> StackSettings:
    """Return the settings of this process's stack; `file`: False leaves the settings file unread, so that every service is local.

    Whoever loads them by its own environment then speaks to the brokers as `kafka_client` says, as the services do, which are told by theirs (weir.topics.client).

    Raises:
        SettingsError: a variable or the settings file is wrong, or WEIR_HOME cannot be written; the message names which.
        DiskFull: WEIR_HOME's disk is full.
    """
    env = os.environ if environment is None else environment
    root = Path(env.get("WEIR_ROOT") or Path(__file__).resolve().parents[3])
    home = Path(env.get("WEIR_HOME") or root / ".weir").resolve()
    base = _port_base(env)
    named = env.get("WEIR_SETTINGS", "") if file else ""
    path = Path(named) if named else root / "weir.toml"
    if named and not path.exists():
        raise SettingsError(f"WEIR_SETTINGS names {path}, which does not exist", hint="create it, or unset the variable")
    external = _read_file(path) if file and path.exists() else {}
    password, users = _passwords(home)
    local = Endpoints.local(base, password)
    local = replace(local, clickhouse_url=accounts.as_user(local.clickhouse_url, accounts.ADMIN, users[accounts.ADMIN]))
    endpoints = replace(local, **external)
    assert {f.name for f in fields(Endpoints)} >= set(FORMS)  # noqa: S101 - the table above names real endpoints
    if environment is None and endpoints.kafka_client:
        os.environ.update({client.BOOTSTRAP: endpoints.kafka_bootstrap, client.FILE: endpoints.kafka_client})
    dataset = Path(env.get("WEIR_DATASET_DIR") or home / "dataset")
    ours = {} if "clickhouse_url" in external else users
    return StackSettings(home, root, base, endpoints, frozenset(EXTERNAL[k] for k in external if k in EXTERNAL), dataset, Retention.from_environment(env), ours)

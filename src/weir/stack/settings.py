"""Settings of one stack: its home, its ports, and which services are somebody else's.

In: WEIR_HOME, WEIR_PORT_BASE, WEIR_SETTINGS or weir.toml. Out: `StackSettings`. Keep: an unknown key is an error that names it.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

from weir.contracts.endpoints import DEFAULT_PORT_BASE, PORT_OFFSETS, Endpoints
from weir.errors import SettingsError

LOWEST_PORT = 1024  # below it only root may listen

# Which endpoint of the settings file replaces which local service.
EXTERNAL = {
    "postgres_dsn": "postgres",
    "kafka_bootstrap": "kafka",
    "connect_url": "connect",
    "clickhouse_url": "clickhouse",
    "redis_url": "redis",
}


@dataclass(frozen=True, slots=True)
class StackSettings:
    """What one stack is: `home` (state), `root` (checkout), `endpoints`, and the services that are `external`."""

    home: Path
    root: Path
    port_base: int
    endpoints: Endpoints
    external: frozenset[str]
    dataset_dir: Path


def _port_base(environment: Mapping[str, str]) -> int:
    text = environment.get("WEIR_PORT_BASE", str(DEFAULT_PORT_BASE))
    highest = 65535 - max(PORT_OFFSETS.values())
    if not text.isdigit() or not LOWEST_PORT <= int(text) <= highest:
        raise SettingsError(f"WEIR_PORT_BASE is {text!r}", hint=f"set it to a number from {LOWEST_PORT} to {highest}")
    return int(text)


def _read_file(path: Path) -> dict[str, str]:
    try:
        document = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not valid TOML: {error}", hint="correct that line, or remove the file") from error
    unknown = set(document) - {"endpoints"}
    if unknown:
        raise SettingsError(f"{path} has an unknown section [{min(unknown)}]", hint="the one section is [endpoints]")
    values = document.get("endpoints", {})
    for key, value in values.items():
        if key not in EXTERNAL:
            raise SettingsError(f"{path}: endpoints.{key} is unknown", hint=f"known are {', '.join(EXTERNAL)}")
        if not isinstance(value, str) or not value:
            raise SettingsError(f"{path}: endpoints.{key} must be a non-empty string", hint="give its URL or DSN")
    return dict(values)


def load(environment: Mapping[str, str] | None = None) -> StackSettings:
    """Return the settings of this process's stack.

    Raises:
        SettingsError: a variable or the settings file is wrong; the message names the key.
    """
    from weir.connect.postgres import read_or_create_password

    env = os.environ if environment is None else environment
    root = Path(env.get("WEIR_ROOT") or Path(__file__).resolve().parents[3])
    home = Path(env.get("WEIR_HOME") or root / ".weir").resolve()
    base = _port_base(env)
    named = env.get("WEIR_SETTINGS", "")
    path = Path(named) if named else root / "weir.toml"
    if named and not path.exists():
        raise SettingsError(f"WEIR_SETTINGS names {path}, which does not exist", hint="create it, or unset the variable")
    external = _read_file(path) if path.exists() else {}
    endpoints = replace(Endpoints.local(base, read_or_create_password(home)), **external)
    assert {f.name for f in fields(Endpoints)} >= set(EXTERNAL)  # noqa: S101 - the table above names real endpoints
    dataset = Path(env.get("WEIR_DATASET_DIR") or home / "dataset")
    return StackSettings(home, root, base, endpoints, frozenset(EXTERNAL[k] for k in external), dataset)

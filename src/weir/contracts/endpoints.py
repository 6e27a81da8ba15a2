"""Where every service is, and how a process learns it: environment variables named WEIR_*.

In: the environment. Out: one frozen `Endpoints`. Keep: every URL is usable as it stands by a local client.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Final
from urllib.parse import unquote, urlsplit

from weir.errors import SettingsError

DEFAULT_PORT_BASE: Final = 17000

# Offset from WEIR_PORT_BASE of each service's port, in start order.
PORT_OFFSETS: Final[Mapping[str, int]] = {
    "postgres": 1,
    "kafka": 2,
    "kafka_controller": 3,
    "connect": 4,
    "clickhouse": 5,
    "redis": 6,
    "otlp": 7,
    "ingest": 8,  # health and metrics of the ingest workers
    "features": 9,  # health and metrics of the materializer
    "catalogue": 10,
    "api": 11,
    "dashboard": 12,
}


@dataclass(frozen=True, slots=True)
class Endpoints:
    """URLs of the running parts. The environment variable of each is WEIR_ plus its upper-cased name."""

    postgres_dsn: str  # postgresql://weir:…@127.0.0.1:17001/shop
    kafka_bootstrap: str  # 127.0.0.1:17002
    connect_url: str
    clickhouse_url: str  # http://user:password@127.0.0.1:17005
    redis_url: str  # redis://127.0.0.1:17006/0
    otlp_url: str  # base URL; /v1/traces, /v1/metrics, /v1/logs below it (OTLP/HTTP protobuf)
    ingest_url: str
    features_url: str
    catalogue_url: str
    api_url: str
    dashboard_url: str
    kafka_client: str = ""  # path of the properties file by which the brokers are spoken to (weir.topics.client); empty: as they are

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Endpoints:
        """Read every endpoint from WEIR_<NAME>.

        Raises:
            SettingsError: a variable is missing; names it.
        """
        env = os.environ if environment is None else environment
        values: dict[str, str] = {}
        for field in fields(cls):
            variable = f"WEIR_{field.name.upper()}"
            if not env.get(variable) and field.default is MISSING:
                raise SettingsError(
                    f"{variable} is not set", hint="run this through ./weir run, which sets every endpoint", key=variable
                )
            values[field.name] = env.get(variable, "")
        return cls(**values)

    @classmethod
    def local(cls, port_base: int = DEFAULT_PORT_BASE, postgres_password: str = "weir") -> Endpoints:  # noqa: S107 - loopback default
        """Return the endpoints of the local stack on loopback at `port_base`."""
        port = {name: port_base + offset for name, offset in PORT_OFFSETS.items()}
        http = {name: f"http://127.0.0.1:{number}" for name, number in port.items()}
        return cls(
            postgres_dsn=f"postgresql://weir:{postgres_password}@127.0.0.1:{port['postgres']}/shop",
            kafka_bootstrap=f"127.0.0.1:{port['kafka']}",
            connect_url=http["connect"],
            clickhouse_url=http["clickhouse"],
            redis_url=f"redis://127.0.0.1:{port['redis']}/0",
            otlp_url=http["otlp"],
            ingest_url=http["ingest"],
            features_url=http["features"],
            catalogue_url=http["catalogue"],
            api_url=http["api"],
            dashboard_url=http["dashboard"],
        )

    def environment(self) -> dict[str, str]:
        """Return the WEIR_* variables, plus what dbt's profile and Feast's store file read (CLICKHOUSE_*, FEAST_*)."""
        from weir.contracts.clickhouse import DEFAULT_USER, parse

        env = {f"WEIR_{field.name.upper()}": str(getattr(self, field.name)) for field in fields(self)}
        clickhouse = parse(self.clickhouse_url)
        env |= {
            "CLICKHOUSE_INTERFACE": clickhouse.interface,
            "CLICKHOUSE_HOST": clickhouse.host,
            "CLICKHOUSE_PORT": str(clickhouse.port),
            "CLICKHOUSE_USER": clickhouse.user or DEFAULT_USER,
            "CLICKHOUSE_PASSWORD": clickhouse.password,
            "FEAST_CLICKHOUSE_PASSWORD": json.dumps(clickhouse.password, ensure_ascii=False),  # Feast puts variables into its YAML before it reads that
            "FEAST_REDIS": feast_redis(self.redis_url),
        }
        return env


def feast_redis(url: str) -> str:
    """Return Feast's connection string for a Redis URL: host, port, then db, username, password and ssl as they are given. Pure.

    Feast splits it at commas and reads each value as JSON (feast.infra.online_stores.redis, _parse_connection_string), and it stands between single
    quotes in its YAML: so texts are JSON strings in which comma and quote are escaped.
    """
    parts = urlsplit(url)
    found = [f"{parts.hostname or '127.0.0.1'}:{parts.port or 6379}", f"db={parts.path.strip('/') or 0}"]
    for name, value in (("username", parts.username), ("password", parts.password)):
        if value:
            text = json.dumps(unquote(value)).replace(",", "\\u002c").replace("'", "\\u0027")
            found.append(f"{name}={text}")
    if parts.scheme == "rediss":
        found.append("ssl=true")
    return ",".join(found)

"""Where every service is, and how a process learns it: environment variables named WEIR_*.

In: the environment. Out: one frozen `Endpoints`. Keep: every URL is usable as it stands by a local client.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final

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
            if not env.get(variable):
                raise SettingsError(
                    f"{variable} is not set", hint="run this through ./weir run, which sets every endpoint", key=variable
                )
            values[field.name] = env[variable]
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
        """Return the WEIR_* variables, plus what dbt's profile and Feast's store file read (CLICKHOUSE_*, REDIS_*)."""
        from urllib.parse import urlsplit

        env = {f"WEIR_{field.name.upper()}": str(getattr(self, field.name)) for field in fields(self)}
        clickhouse, redis = urlsplit(self.clickhouse_url), urlsplit(self.redis_url)
        env |= {
            "CLICKHOUSE_HOST": clickhouse.hostname or "127.0.0.1",
            "CLICKHOUSE_PORT": str(clickhouse.port or 8123),
            "CLICKHOUSE_USER": clickhouse.username or "default",
            "CLICKHOUSE_PASSWORD": clickhouse.password or "",
            "REDIS_HOST": redis.hostname or "127.0.0.1",
            "REDIS_PORT": str(redis.port or 6379),
        }
        return env

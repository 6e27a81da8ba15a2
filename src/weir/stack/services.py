"""The services of the stack: what each runs, what it waits for, how its readiness is seen.

In: `StackSettings`. Out: `ServiceSpec`s in start order. Keep: pure; nothing is started here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from weir.connect import kafka, postgres, redis, worker
from weir.connect.command import Command
from weir.contracts.endpoints import Endpoints
from weir.stack import accounts
from weir.stack.settings import StackSettings


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """One service: `command` to run, `needs` (names that must be ready first), `probe` URL (see weir.stack.probe).

    `stop_signal`: what asks it to end; `stop_wait_s`: how long it may take; `slow_s`: how long it may take to become ready;
    `prepare`: done before anything starts; `first`: done once what it needs is ready, while others start; `health`: a URL whose document names under `trouble` what no restart mends, for a service that can be alive and not do its work.
    """

    name: str
    command: Command
    needs: tuple[str, ...]
    probe: str
    endpoint: str
    stop_signal: str = "TERM"
    stop_wait_s: int = 15
    slow_s: int = 60
    prepare: Callable[[], None] | None = None
    first: Callable[[], None] | None = None
    health: str = ""


# The services, along the path; each starts when what it needs is ready (`ServiceSpec.needs`). What runs beside them: `companions`.
ORDER = ("postgres", "kafka", "connect", "clickhouse", "redis", "otlp", "ingest", "features", "catalogue", "api", "dashboard")

JVM_SLOW_S = 150  # Kafka and Connect: 10 s each alone on two cores; more than 60 on a busy machine, or while a second stack started beside

NO_PHONE_HOME = {
    "DO_NOT_TRACK": "1",
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "FEAST_USAGE": "False",
    "SCARF_NO_ANALYTICS": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


def environment(settings: StackSettings, service: str = "") -> dict[str, str]:
    """Return the variables that a service gets, or `weir run` and the commands when `service` is empty.

    A service is to ClickHouse the user of its name, or nobody; a person is an administrator, whose dbt and Feast are the user `dbt`.
    """
    return {
        **_endpoints(settings, service).environment(),
        **_clickhouse_of_tools(settings, service),
        **NO_PHONE_HOME,
        **settings.retention.environment(),
        "WEIR_HOME": str(settings.home),
        "WEIR_ROOT": str(settings.root),
        "WEIR_DATASET_DIR": str(settings.dataset_dir),
        "WEIR_PORT_BASE": str(settings.port_base),
        "PYTHONPATH": str(settings.root / "src"),
        "DBT_PROJECT_DIR": str(settings.root / "dbt"),
        "DBT_PROFILES_DIR": str(settings.root / "dbt"),
        # Not where weir.transform.build has its own: a person's run beside one of the stack's must not replace the results that it reads.
        "DBT_TARGET_PATH": str(settings.home / "dbt" / "by-hand" / "target"),
        "DBT_LOG_PATH": str(settings.home / "dbt" / "by-hand" / "logs"),
        "FEAST_FS_YAML_FILE_PATH": str(settings.root / "feature_repo" / "feature_store.yaml"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{settings.home}/mlflow/mlflow.db",
        "TZ": "UTC",
        "PYTHONUNBUFFERED": "1",
        "MALLOC_ARENA_MAX": "2",  # keeps the many-threaded services' resident memory down
    }


def _endpoints(settings: StackSettings, service: str) -> Endpoints:
    if not service or not settings.clickhouse_users:
        return settings.endpoints
    user = service if service in accounts.SERVICES else ""
    return replace(settings.endpoints, clickhouse_url=accounts.as_user(settings.endpoints.clickhouse_url, user, settings.clickhouse_users.get(user, "")))


def _clickhouse_of_tools(settings: StackSettings, service: str) -> dict[str, str]:
    if service or not settings.clickhouse_users:
        return {}
    password = settings.clickhouse_users[accounts.DBT]
    return {"CLICKHOUSE_USER": accounts.DBT, "CLICKHOUSE_PASSWORD": password, "FEAST_CLICKHOUSE_PASSWORD": json.dumps(password, ensure_ascii=False)}


def _port(url: str) -> str:
    return str(urlsplit(url if "//" in url else f"//{url}").port)


def _postgres(dsn: str) -> str:
    parts = urlsplit(dsn)
    return f"postgresql://{parts.username}@{parts.hostname}:{parts.port}{parts.path}"


@dataclass(frozen=True, slots=True)
class _Builder:
    settings: StackSettings
    specs: list[ServiceSpec] = field(default_factory=list)

    def python(self, service: str, *arguments: str) -> Command:
        return Command((sys.executable, *arguments), environment(self.settings, service), self.settings.root, None)

    def add(self, spec: ServiceSpec) -> None:
        if spec.name not in self.settings.external:
            present = {s.name for s in self.specs}
            needs = tuple(n for n in spec.needs if n in present)
            self.specs.append(ServiceSpec(**{k: getattr(spec, k) for k in spec.__slots__} | {"needs": needs}))


def build(settings: StackSettings) -> list[ServiceSpec]:
    """Return every local service in start order; services that the settings point elsewhere are left out."""
    e, home = settings.endpoints, settings.home
    b = _Builder(settings)

    def prepared(module: object) -> Callable[[], None]:
        return lambda: module.prepare(home, e)  # type: ignore[attr-defined]  # (mod) each connect module has prepare()

    b.add(ServiceSpec("postgres", postgres.command(home, e), (), _postgres(e.postgres_dsn), e.postgres_dsn, "INT", prepare=prepared(postgres)))
    b.add(ServiceSpec("kafka", kafka.command(home, e), (), f"kafka://{e.kafka_bootstrap}", e.kafka_bootstrap, stop_wait_s=20, slow_s=JVM_SLOW_S, prepare=prepared(kafka),
                      first=lambda: kafka.format_storage(home)))
    b.add(
        ServiceSpec(
            "clickhouse",
            b.python("clickhouse", "-m", "weir.gateway", "--path", str(home / "clickhouse"), "--port", _port(e.clickhouse_url), *_users(settings)),
            (),
            f"{_http(e.clickhouse_url)}/ping",
            accounts.as_user(e.clickhouse_url, "", ""),
            stop_wait_s=20,
            prepare=lambda: accounts.prepare(home, settings.clickhouse_users),
        )
    )
    b.add(ServiceSpec("redis", redis.command(home, e), (), e.redis_url, e.redis_url, prepare=prepared(redis)))
    b.add(ServiceSpec("otlp", b.python("otlp", "-m", "weir.telemetry.receiver"), ("clickhouse",), f"{e.otlp_url}/health", e.otlp_url))
    b.add(ServiceSpec("connect", worker.command(home, e), ("kafka", "postgres"), f"{e.connect_url}/connectors", e.connect_url, slow_s=JVM_SLOW_S, prepare=prepared(worker)))
    b.add(ServiceSpec("ingest", b.python("ingest", "-m", "weir.ingest"), ("kafka", "clickhouse"), f"{e.ingest_url}/live", e.ingest_url, health=f"{e.ingest_url}/health"))
    b.add(ServiceSpec("features", b.python("features", "-m", "weir.features"), ("clickhouse", "redis", "ingest"), f"{e.features_url}/live", e.features_url))
    b.add(ServiceSpec("catalogue", b.python("catalogue", "-m", "weir.catalogue"), (), f"{e.catalogue_url}/health", e.catalogue_url))
    b.add(ServiceSpec("api", b.python("api", "-m", "weir.serving"), ("redis",), f"{e.api_url}/health", e.api_url))
    b.add(
        ServiceSpec(
            "dashboard",
            b.python("dashboard", "-m", "streamlit", "run", "dashboards/home.py", "--server.port", _port(e.dashboard_url), "--server.address", "127.0.0.1",
                     "--server.headless", "true", "--browser.gatherUsageStats", "false", "--server.fileWatcherType", "none"),
            ("clickhouse",),
            f"{e.dashboard_url}/_stcore/health",
            e.dashboard_url,
            slow_s=90,
        )
    )
    return b.specs


def companions(settings: StackSettings) -> dict[str, Command]:
    """Return what runs beside the services under the same supervisor: health watcher, cost sampler, watcher of the captured tables, reconciliation, the marks' owner."""
    modules = {"watch": "weir.stack.watch", "cost": "weir.cost", "capture": "weir.capture", "reconcile": "weir.capture.rotate",
               "quality": "weir.quality.advance"}
    more = {"reconcile": _clickhouse_of_tools(settings, "")}  # it has dbt make a mart anew that differs
    return {name: Command((sys.executable, "-m", module), environment(settings, name) | more.get(name, {}), settings.root, None) for name, module in modules.items()}


def names(settings: StackSettings) -> list[str]:
    """Return what the supervisor runs here by name: every local service in start order, then the companions."""
    return [*(spec.name for spec in build(settings)), *companions(settings)]


def _users(settings: StackSettings) -> list[str]:
    files = [settings.root / "gateway" / "roles.toml", accounts.path(settings.home)] if settings.clickhouse_users else []
    return [argument for file in files for argument in ("--users", str(file))]


def _http(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port}"


def log_path(home: Path, name: str) -> Path:
    """Return where a service's log is."""
    return home / "logs" / f"{name}.log"

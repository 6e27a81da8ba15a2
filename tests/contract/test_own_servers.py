"""A ClickHouse and a Redis of one's own, whose passwords hold what a URL, YAML and JSON write otherwise: every client sends the password itself."""
import base64
import contextlib
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest
import redis
import yaml
from tests.contract.gateway_server import free_port

from weir.connect.redis import binary
from weir.contracts import clickhouse
from weir.contracts.endpoints import Endpoints
from weir.errors import WeirError
from weir.transform import build

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "p@s:s/w,o'r\"d #%$HOME\\é"


@pytest.fixture
def told():
    """A server that refuses everything; returns its URL and what it was told in Authorization headers."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            seen.append(self.headers.get("Authorization", ""))
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(401)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST  # noqa: N815 - the names that http.server calls

        def log_message(self, *_):
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://me%40home:{quote(PASSWORD, safe='')}@127.0.0.1:{server.server_address[1]}", seen
    server.shutdown()
    server.server_close()


def _ingest(url):
    from weir.ingest.clickhouse import ClickHouse

    ClickHouse(url).execute("SELECT 1")


def _quality(url):
    from weir.quality import ask

    ask.query(url, "SELECT 1")


def _telemetry(url):
    from weir.telemetry.store import ClickHouseSink

    ClickHouseSink(url).insert("x", [{}])


def _cost(url):
    from weir.cost import sampler

    sampler.write(url, [])


def _training(url):
    from weir.training import source

    source.connect(url)


def _features(url):
    from weir.features.marts import Marts

    Marts(url)


def _reconcile(url):
    from weir.reconcile.sink import Sink

    Sink(url)


@pytest.mark.parametrize("client", [_ingest, _quality, _telemetry, _cost, _training, _features, _reconcile])
def test_every_client_sends_user_and_password_as_they_are(told, client):
    url, seen = told
    with contextlib.suppress(WeirError):
        client(url)
    assert seen
    scheme, _, value = seen[0].partition(" ")
    assert scheme == "Basic"
    assert base64.b64decode(value).decode() == f"me@home:{PASSWORD}"


def test_a_url_says_interface_and_clickhouses_own_port_when_none_is_named():
    assert clickhouse.parse("https://h").base_url == "https://h:8443"
    assert clickhouse.parse("http://h").base_url == "http://h:8123"
    assert clickhouse.parse("https://h:9000").arguments["interface"] == "https"
    assert clickhouse.parse("http://[::1]:9000").base_url == "http://[::1]:9000"
    assert clickhouse.parse("http://h").auth is None


def _store(url, redis_url, monkeypatch):
    endpoints = replace(Endpoints.local(), clickhouse_url=url, redis_url=redis_url)
    for name, value in endpoints.environment().items():
        monkeypatch.setenv(name, value)
    return yaml.safe_load(os.path.expandvars((ROOT / "feature_repo" / "feature_store.yaml").read_text()))  # as feast.repo_config reads it


def test_feast_reads_the_passwords_the_database_and_tls_as_they_are(monkeypatch):
    from feast.infra.online_stores.redis import RedisOnlineStore

    secret = quote(PASSWORD, safe="")
    store = _store(f"https://me:{secret}@db.example", f"rediss://you:{secret}@redis.example:6380/3", monkeypatch)
    offline = store["offline_store"]
    assert (offline["host"], offline["port"], offline["user"], offline["password"]) == ("db.example", 8443, "me", PASSWORD)
    assert offline["additional_client_args"] == {"interface": "https"}
    nodes, given = RedisOnlineStore._parse_connection_string(store["online_store"]["connection_string"])
    assert nodes == [{"host": "redis.example", "port": "6380"}]
    assert given == {"db": 3, "username": "you", "password": PASSWORD, "ssl": True}


@pytest.mark.parametrize("password", [PASSWORD, "12345", ""])
def test_feast_opens_a_redis_with_that_password(password, monkeypatch, tmp_path):
    from feast.infra.online_stores.redis import RedisOnlineStore

    port = free_port()
    config = tmp_path / "redis.conf"
    escaped = password.replace("\\", "\\\\").replace('"', '\\"')
    config.write_text(f'port {port}\nbind 127.0.0.1\nsave ""\n' + (f'requirepass "{escaped}"\n' if password else ""))
    url = f"redis://{f':{quote(password, safe=str())}@' if password else ''}127.0.0.1:{port}/2"
    with subprocess.Popen([str(binary()), str(config)], stdout=subprocess.DEVNULL, cwd=tmp_path) as process:
        try:
            direct, deadline = redis.Redis.from_url(url), time.monotonic() + 20
            while True:
                try:
                    direct.set("here", "yes")
                    break
                except redis.ConnectionError:
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
            store = _store("http://h", url, monkeypatch)
            nodes, given = RedisOnlineStore._parse_connection_string(store["online_store"]["connection_string"])
            assert redis.Redis(host=nodes[0]["host"], port=int(nodes[0]["port"]), **given).get("here") == b"yes"
        finally:
            process.terminate()


def test_dbt_speaks_tls_to_an_https_url_at_clickhouses_own_port(tmp_path):
    given = replace(Endpoints.local(), clickhouse_url=f"https://me:{quote(PASSWORD, safe='')}@127.0.0.1").environment()
    environment = build.environment({**os.environ, **given, "WEIR_HOME": str(tmp_path)})
    done = subprocess.run([str(Path(sys.executable).parent / "dbt"), "debug"], env=environment, capture_output=True, text=True, check=False, timeout=120, cwd=ROOT)
    assert "secure: True" in done.stdout
    assert "port: 8443" in done.stdout
    assert "host: 127.0.0.1" in done.stdout

"""A PostgreSQL, a Redis and a Kafka that are somebody's own: not the stack's, with passwords that a URL writes otherwise, in PostgreSQL no more rights than docs/guides/own-services.md asks for,
and a Kafka with TLS and users (tests/contract/kafka_server.py)."""
import contextlib
import signal
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import psycopg
import redis
from psycopg import sql
from tests.contract import kafka_server

from weir.connect import postgres
from weir.connect.redis import binary
from weir.contracts.endpoints import Endpoints
from weir.demo import follow

PASSWORD = "p@s:s/w%rd"
QUOTED = quote(PASSWORD, safe="")


@dataclass(frozen=True)
class Own:
    """Their addresses, each usable as it stands, and the text of a settings file that names them."""

    postgres_dsn: str
    redis_url: str
    kafka: kafka_server.Secured
    kafka_client: Path

    @property
    def settings(self):
        values = {"postgres_dsn": self.postgres_dsn, "redis_url": self.redis_url, "kafka_bootstrap": self.kafka.bootstrap, "kafka_client": self.kafka_client}
        return "[endpoints]\n" + "".join(f'{key} = "{value}"\n' for key, value in values.items())


def _answers(ask, error):
    try:
        ask()
    except error:
        return False
    return True


@contextlib.contextmanager
def _postgres(folder, port):
    administrator = f"postgresql://postgres:{QUOTED}@127.0.0.1:{port}/postgres"
    endpoints = replace(Endpoints.local(), postgres_dsn=administrator)
    (folder / "secrets").mkdir(mode=0o700)
    (folder / "secrets" / "postgres").write_text(PASSWORD)
    postgres.prepare(folder, endpoints)
    command = postgres.command(folder, endpoints)
    process = subprocess.Popen(command.argv, env=dict(command.env), cwd=command.cwd, user=command.uid, group=command.uid,
                               extra_groups=[] if command.uid is not None else None, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        follow.until(lambda: _answers(lambda: psycopg.connect(administrator).close(), psycopg.OperationalError), "a PostgreSQL of one's own")
        with psycopg.connect(administrator, autocommit=True) as server:
            server.execute(sql.SQL("CREATE ROLE owner WITH LOGIN CREATEROLE REPLICATION PASSWORD {}").format(PASSWORD))
            server.execute("CREATE DATABASE bookshop OWNER owner")
        yield f"postgresql://owner:{QUOTED}@127.0.0.1:{port}/bookshop"
        assert process.poll() is None, "it is the stack's no more than its data is"
    finally:
        process.send_signal(signal.SIGINT)  # PostgreSQL's fast stop: waits for no client
        process.wait(20)


@contextlib.contextmanager
def _redis(folder, port):
    config = folder / "redis.conf"
    config.write_text(f'port {port}\nbind 127.0.0.1\nsave ""\ndir {folder}\nrequirepass "{PASSWORD}"\n')
    url = f"redis://:{QUOTED}@127.0.0.1:{port}/2"
    process = subprocess.Popen([str(binary()), str(config)], stdout=subprocess.DEVNULL, cwd=folder)
    try:
        follow.until(lambda: _answers(redis.Redis.from_url(url).ping, redis.ConnectionError), "a Redis of one's own")
        yield url
        assert process.poll() is None, "it is the stack's no more than its data is"
    finally:
        process.terminate()
        process.wait(20)


@contextlib.contextmanager
def running(folder, port):
    """Run them on `port` and the four after it, with their data in `folder`, which PostgreSQL's uid can pass; they have to be there still at the end."""
    (folder / "brokers").mkdir()
    with _postgres(folder, port) as dsn, _redis(folder, port + 1) as url, kafka_server.running(folder / "brokers", *range(port + 2, port + 5)) as kafka:
        yield Own(dsn, url, kafka, kafka.client_file("kafka-client.properties"))

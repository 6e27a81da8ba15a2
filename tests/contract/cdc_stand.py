"""PostgreSQL, Kafka and Connect with Debezium in a home of their own, for the tests that break what is between them."""
import json
import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import psycopg

from weir.connect import kafka, postgres, register, worker
from weir.contracts import cdc, names
from weir.contracts.endpoints import Endpoints
from weir.demo import follow
from weir.quality import pipeline
from weir.stack import probe
from weir.topics.reader import Reader

PORT_BASE = int(os.environ.get("WEIR_TEST_PORT_BASE", "31000")) + 80


class Stand:
    """The three servers in a home of their own, with the jars of WEIR_HOME."""

    def __init__(self, home):
        self.home, self.endpoints, self.running = home, Endpoints.local(PORT_BASE, postgres.read_or_create_password(home)), {}
        self.rest = f"{self.endpoints.connect_url}/connectors/{cdc.CONNECTOR}"

    def start(self, name, command, url):
        with (self.home / f"{name}.log").open("a") as log:
            self.running[name] = subprocess.Popen(
                command.argv, env={"PATH": "/usr/bin:/bin", **command.env}, cwd=command.cwd, user=command.uid, group=command.uid, stdout=log, stderr=log,
                extra_groups=[] if command.uid is not None else None)
        follow.until(lambda: probe.ready(url), name, 180)

    def connect(self):
        self.start("connect", worker.command(self.home, self.endpoints), f"{self.endpoints.connect_url}/connectors")
        register.ensure_connector(self.endpoints, self.home)

    def kill(self, name):
        self.running[name].kill()
        self.running.pop(name).wait(30)

    def postgres_with(self, *more):
        """PostgreSQL again, with these settings."""
        if "postgres" in self.running:
            self.running["postgres"].send_signal(signal.SIGINT)
            self.running.pop("postgres").wait(60)
        command = postgres.command(self.home, self.endpoints)
        self.start("postgres", replace(command, argv=(*command.argv, *(word for setting in more for word in ("-c", setting)))), self.endpoints.postgres_dsn.rsplit("/", 1)[0] + "/postgres")

    def sql(self, *statements):
        with psycopg.connect(self.endpoints.postgres_dsn, autocommit=True) as c:
            for statement in statements:
                c.execute(statement)

    def insert(self, *users):
        self.sql(*(f"INSERT INTO users (user_id, age, gender, occupation, zip_code, country) VALUES ({u}, 30, 'F', 'slot', '0', 'DE')" for u in users))

    def task(self):
        found = pipeline.ask_connector(self.endpoints.connect_url)
        return found.task if found else ""

    def ask(self, method, what):
        """Ask Connect for something that it may refuse for a moment."""
        follow.until(lambda: httpx.request(method, f"{self.rest}/{what}", timeout=20).is_success, f"{method} {what}", 60)

    def records(self, topic):
        """Every committed record of a topic."""
        reader = Reader(self.endpoints.kafka_bootstrap, "looks", patience_s=10.0)
        try:
            ranges = {(topic, p): reader.bounds(topic, p) for p in reader.partitions(topic)}
            return [r for records in reader.read(ranges) for r in records]
        finally:
            reader.close()

    def users(self):
        """The (operation, user) of every committed record of the topic."""
        documents = [json.loads(r.value()) for r in self.records(names.TOPIC_CDC_USERS) if r.value() is not None]
        return [(d["op"], (d["after"] or {}).get("user_id")) for d in documents]


@contextmanager
def standing():
    """Start one; end it and remove its home."""
    home = Path(tempfile.mkdtemp(dir="/var/tmp"))  # passable for the server's uid
    home.chmod(0o755)
    (home / "jars").symlink_to(Path(os.environ["WEIR_HOME"]) / "jars")
    made = Stand(home)
    try:
        postgres.prepare(home, made.endpoints)
        made.postgres_with()
        kafka.prepare(home, made.endpoints)
        kafka.format_storage(home)
        made.start("kafka", kafka.command(home, made.endpoints), f"kafka://{made.endpoints.kafka_bootstrap}")
        register.ensure_topics(made.endpoints)
        register.ensure_database(made.endpoints, home)
        worker.prepare(home, made.endpoints)
        made.connect()
        yield made
    finally:
        for name in list(made.running):
            made.kill(name)
        shutil.rmtree(home)

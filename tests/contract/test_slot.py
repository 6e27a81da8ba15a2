"""Debezium on a real PostgreSQL and Kafka: a worker that is killed loses nothing, and a slot that was dropped, made anew or not, or invalidated is a failed task, no gap without a word, and known to the way back."""
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import httpx
import psycopg
import pytest

from weir.connect import kafka, postgres, register, worker
from weir.connect.slot import Loss, Slot, lost
from weir.contracts import cdc, names, wayback
from weir.contracts.endpoints import Endpoints
from weir.demo import follow
from weir.quality import pipeline
from weir.quality.judge import Verdict
from weir.stack import probe
from weir.topics.reader import Reader

PORT_BASE = int(os.environ.get("WEIR_TEST_PORT_BASE", "31000")) + 80
ANEW = "SELECT pg_create_logical_replication_slot('weir', 'pgoutput')"


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

    def users(self):
        """The (operation, user) of every committed record of the topic."""
        reader, topic = Reader(self.endpoints.kafka_bootstrap, "looks", patience_s=10.0), names.TOPIC_CDC_USERS
        try:
            ranges = {(topic, p): reader.bounds(topic, p) for p in reader.partitions(topic)}
            documents = [json.loads(r.value()) for records in reader.read(ranges) for r in records if r.value() is not None]
        finally:
            reader.close()
        return [(d["op"], (d["after"] or {}).get("user_id")) for d in documents]


@pytest.fixture(scope="module")
def stand():
    home = Path(tempfile.mkdtemp(dir="/var/tmp"))  # passable for the server's uid
    home.chmod(0o755)
    (home / "jars").symlink_to(Path(os.environ["WEIR_HOME"]) / "jars")
    made = Stand(home)
    try:
        postgres.prepare(home, made.endpoints)
        made.start("postgres", postgres.command(home, made.endpoints), made.endpoints.postgres_dsn.rsplit("/", 1)[0] + "/postgres")
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


def test_a_worker_that_is_killed_again_and_again_loses_and_doubles_nothing(stand):
    for first in (1000, 2000, 3000):
        stand.insert(*range(first, first + 50))
        stand.kill("connect")
        stand.insert(*range(first + 50, first + 60))
        stand.connect()
    def came():
        return sorted(u for _, u in stand.users())  # the first may be the snapshot's

    wanted = sorted(u for first in (1000, 2000, 3000) for u in range(first, first + 60))
    follow.until(lambda: len(came()) >= len(wanted), "every insert", 90)
    assert came() == wanted


@pytest.mark.parametrize(("anew", "loss"), [((), Loss.GONE), ((ANEW,), Loss.ANEW)])
def test_a_slot_that_was_dropped_is_a_failed_task_and_the_way_back_brings_what_it_lost(stand, anew, loss):
    user, slot = 9000 + len(anew), Slot(stand.endpoints)
    stand.insert(user + 200)
    follow.until(lambda: ("c", user + 200) in stand.users(), "a change by the stream", 60)  # before the first commit, within a heartbeat of a snapshot, Debezium has nothing to miss
    assert lost(slot.look()) is None
    stand.ask("PUT", "stop")
    follow.until(lambda: not pipeline.ask_slot(stand.endpoints.postgres_dsn).active, "a slot that nobody reads", 60)
    assert lost(slot.look()) is None, "stopped, and nothing is lost"
    stand.sql("SELECT pg_drop_replication_slot('weir')")
    stand.insert(user)
    stand.sql(*anew)
    assert lost(slot.look()) is loss, "told before the task has failed"
    stand.insert(user + 100)
    stand.ask("PUT", "resume")
    follow.until(lambda: stand.task() == "FAILED" or ("c", user + 100) in stand.users(), "a failed task, or a change past the gap", 90)
    assert ("c", user + 100) not in stand.users(), "a gap without a word"
    told = pipeline.judge_connector(pipeline.ask_connector(stand.endpoints.connect_url))
    assert told.verdict is Verdict.NO
    assert wayback.COMMAND in told.reason
    assert lost(slot.look()) is loss
    _back(stand, slot)
    follow.until(lambda: ("r", user) in stand.users(), "what the slot had lost, read again", 90)
    assert stand.task() == "RUNNING"


def _back(stand, slot):
    """The steps of the way back, each taken twice: one that was stopped after it is gone on with."""
    slot.let_go()
    slot.let_go()
    assert (slot.look().state, slot.look().wal_status, slot.look().committed_lsn) == ("STOPPED", "", None)
    slot.resume()
    slot.resume()
    follow.until(lambda: slot.look().reader is not None, "a stream", 90)


def test_a_slot_that_postgresql_invalidated_is_known_and_let_go(stand):
    slot = Slot(stand.endpoints)
    stand.insert(9600)
    follow.until(lambda: ("c", 9600) in stand.users(), "a change by the stream", 60)
    stand.ask("PUT", "stop")
    follow.until(lambda: slot.look().reader is None, "a slot that nobody reads", 60)
    stand.sql("ALTER SYSTEM SET max_slot_wal_keep_size = '16MB'", "SELECT pg_reload_conf()")
    stand.insert(9601)
    for _ in range(6):
        stand.sql("SELECT pg_switch_wal()", "UPDATE weir_heartbeat SET ts = now()")
    stand.sql("CHECKPOINT")
    follow.until(lambda: slot.look().wal_status == "lost", "an invalidated slot", 60)
    assert lost(slot.look()) is Loss.INVALID
    assert slot.look().reason
    stand.sql("ALTER SYSTEM RESET max_slot_wal_keep_size", "SELECT pg_reload_conf()")
    _back(stand, slot)
    follow.until(lambda: ("r", 9601) in stand.users(), "what the slot had lost, read again", 90)
    assert lost(slot.look()) is None

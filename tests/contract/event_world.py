"""Events that really landed, for tests that hold tables to their topic: librdkafka's mock broker, the real lane, the embedded ClickHouse."""
import contextlib
import re
import time
from dataclasses import replace

import numpy as np
from confluent_kafka import Consumer, Producer
from tests.contract.gateway_server import ROOT, Server, wait_until

from weir.contracts import names
from weir.contracts.retention import Retention
from weir.ingest import schema
from weir.ingest.clickhouse import ClickHouse
from weir.ingest.decode import DECODERS
from weir.ingest.lane import Limits
from weir.ingest.verify.run import verify
from weir.ingest.worker import LaneThread, real, routes
from weir.simulation import load
from weir.telemetry import setup
from weir.topics.reader import Reader

EVENTS, PARTITIONS = 4000, 2
USER, ITEM, ACTIVE = "staging.int_user_events", "staging.int_item_events", "staging.int_active_users"


def make_view(client, model):
    """Make a table and its materialized view from the dbt model's own text."""
    text = (ROOT / "dbt" / "models" / "intermediate" / f"{model}.sql").read_text()
    config, query = text.replace("{{ source('landing', 'user_events') }}", names.LANDING_EVENTS).split("\n) }}", 1)
    given = dict(re.findall(r"(\w+)=['\"](.+?)['\"],\n", config))
    history = re.search(r"ttl=history_ttl\('(.+)'\),", config)
    ttl = f"{history[1]} + INTERVAL {Retention().history} DAY" if history else given["ttl"]
    keyed = re.search(rf'"{model}": "(.+?)"', (ROOT / "dbt" / "macros" / "keyed.sql").read_text())
    client.execute(f"CREATE TABLE staging.{model} ENGINE = {given['engine']} ORDER BY ({keyed[1] if keyed else given['order_by']}) PARTITION BY {given['partition_by']} TTL {ttl} "
                   f"SETTINGS non_replicated_deduplication_window = 10000, ttl_only_drop_parts = 1 EMPTY AS {query}")
    client.execute(f"CREATE MATERIALIZED VIEW staging.{model}_mv TO staging.{model} AS {query}")


class World:
    """A topic in librdkafka's mock broker, a gateway with the landing tables and the models behind them, and events that the real lane has landed."""

    def __init__(self, folder, events=EVENTS):
        self.host = Consumer({"test.mock.num.brokers": 1, "group.id": "host"})
        self.bootstrap = ",".join(f"{b.host}:{b.port}" for b in self.host.list_topics(timeout=10).brokers.values())
        self.server = Server(folder / "engine").start()
        self.scratch = folder / "scratch"
        schema.apply(self.server.url)
        self.client = ClickHouse(self.server.url)
        for model in ("int_user_events", "int_item_events", "int_active_users"):
            make_view(self.client, model)
        self.drawn = load.chunk(np.random.default_rng(5), load.Shape(users=50, items=40, bad=0.01, dup=0.02), events, 0, int(time.time() * 1000))
        self.produced = self.produce(self.drawn.records)
        self.ingest()

    def produce(self, records):
        producer = Producer({"bootstrap.servers": self.bootstrap})
        for record in records:
            producer.produce(names.TOPIC_USER_EVENTS, **record, partition=sum(record["key"]) % PARTITIONS)
        assert producer.flush(20) == 0
        return len(records)

    def ingest(self):
        """Run the real lane until all is committed."""
        with self.running():
            pass

    @contextlib.contextmanager
    def running(self):
        """Run the real lane; at the end until all is committed."""
        decoder, topics = routes()[names.LANDING_EVENTS]
        edges = replace(real(self.bootstrap, self.server.url), limits=Limits(rows=300))
        lane = LaneThread(names.LANDING_EVENTS, DECODERS[decoder], topics, edges, setup("test", otlp_url=""))
        lane.start()
        reader = Reader(self.bootstrap, names.ingest_group(names.LANDING_EVENTS))
        try:
            yield lane
            ends = {p: reader.bounds(names.TOPIC_USER_EVENTS, p)[1] for p in range(PARTITIONS)}
            assert wait_until(lambda: {p: at for p, (at, _) in reader.committed(names.TOPIC_USER_EVENTS, list(ends)).items()} == ends, 40), lane.document()
        finally:
            lane.ended.set()
            lane.join(20)
            reader.close()

    def verify(self):
        return verify(self.bootstrap, self.server.url, self.scratch)

    def row(self, partition=0, nth=100, where="reject_reason = ''"):
        return self.client.execute(f"SELECT offset, event_id FROM {names.LANDING_EVENTS} WHERE partition = {partition} AND {where} ORDER BY offset LIMIT 1 OFFSET {nth}").strip("\n").split("\t")

    def change(self, sql):
        self.client.execute(f"{sql} SETTINGS mutations_sync = 2" if sql.startswith("ALTER") else sql)

    def close(self):
        self.client.close()
        self.server.stop()
        self.host.close()


def faults(outcome):
    """Every fault as (table, partition, kind, first, last); of rows without a place, (table, kind, count)."""
    found = set()
    for table in (outcome.landing, *outcome.views):
        for partition in table.tally.faulty():
            told = table.tally.document(partition)
            found |= {(table.name, partition, kind, a, b) for kind in ("missing", "doubled", "different", "unknown") for a, b in told["ranges"].get(kind, [])}
            if not told["ranges"]:
                found |= {(table.name, kind, told[kind]) for kind in ("missing", "doubled", "different", "unknown") if told[kind]}
    return found

"""`KafkaLog` through the real client library against the broker that librdkafka itself brings (`test.mock.num.brokers`): no JVM, no stack."""
import time

import pytest
from confluent_kafka import Consumer, Producer

from weir.errors import Fenced
from weir.ingest import kafka_log
from weir.ingest.kafka_log import KafkaLog

PATIENCE_S = 40


@pytest.fixture(scope="module")
def brokers():
    host = Consumer({"test.mock.num.brokers": 1, "group.id": "host"})
    yield ",".join(f"{b.host}:{b.port}" for b in host.list_topics(timeout=10).brokers.values())
    host.close()


@pytest.fixture
def topic(brokers, request):
    name = "".join(c for c in request.node.name if c.isalnum())[:60]
    producer = Producer({"bootstrap.servers": brokers})
    for n in range(40):
        producer.produce(name, value=str(n // 2), partition=n % 2)
    assert producer.flush(20) == 0
    return name


def member(brokers, topic):
    log = KafkaLog(brokers, topic, [topic])
    revoked = []
    log.join(lambda partitions: {p: offset for p, (offset, _) in log.committed(partitions).items()}, lambda: revoked.append(1))
    return log, revoked


def until(condition, work):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        work()


def offsets(records):
    return sorted((r.partition, r.offset) for r in records if r.partition < 2)


def test_staying_reads_nothing_and_skips_nothing(brokers, topic):
    log, _ = member(brokers, topic)
    found = []
    try:
        until(lambda: found, lambda: found.extend(log.fetch(3, 0.1)))
        for _ in range(30):
            log.stay()
            time.sleep(0.02)
        until(lambda: len(found) >= 40, lambda: found.extend(log.fetch(5, 0.1)))
    finally:
        log.close()
    assert offsets(found) == [(p, o) for p in range(2) for o in range(20)]


def test_staying_holds_the_membership_and_silence_ends_it(brokers, topic, monkeypatch):
    monkeypatch.setattr(kafka_log, "SESSION_MS", 4000)
    monkeypatch.setattr(kafka_log, "POLL_INTERVAL_MS", 4000)
    log, revoked = member(brokers, topic)
    found = []
    try:
        until(lambda: found, lambda: found.extend(log.fetch(3, 0.1)))
        ends = time.monotonic() + 10
        while time.monotonic() < ends:
            log.stay()
            time.sleep(0.2)
        log.commit({(topic, 0): (1, "kept")})
        assert log.committed([(topic, 0)])[topic, 0] == (1, "kept")
        assert not revoked
        time.sleep(7)  # longer than max.poll.interval.ms: what a worker does that neither fetches nor stays
        with pytest.raises(Fenced):
            until(lambda: False, log.stay)
    finally:
        log.close()


def test_partitions_that_change_hands_while_staying_end_the_membership(brokers, topic):
    log, _ = member(brokers, topic)
    found = []
    until(lambda: found, lambda: found.extend(log.fetch(3, 0.1)))
    other, _ = member(brokers, topic)
    try:
        def both():
            other.fetch(1, 0.1)
            log.stay()

        with pytest.raises(Fenced):
            until(lambda: False, both)
    finally:
        other.close()
        log.close()


def test_a_member_that_left_cannot_commit(brokers, topic):
    log, _ = member(brokers, topic)
    found = []
    until(lambda: found, lambda: found.extend(log.fetch(3, 0.1)))
    log._consumer.unsubscribe()
    log._consumer.poll(1.0)
    with pytest.raises(Fenced):
        log.commit({(topic, 0): (9, "")})
    log.close()

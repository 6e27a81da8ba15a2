"""The one reader of topics, through the real client library against librdkafka's own mock broker."""
import pytest
from confluent_kafka import Consumer, Producer

from weir.errors import ContractViolation, Unavailable
from weir.topics.reader import Reader

RECORDS = 12_000


@pytest.fixture(scope="module")
def bootstrap():
    host = Consumer({"test.mock.num.brokers": 1, "group.id": "host"})
    found = ",".join(f"{b.host}:{b.port}" for b in host.list_topics(timeout=10).brokers.values())
    producer = Producer({"bootstrap.servers": found})
    for n in range(RECORDS):
        producer.produce("t", value=str(n // 2), partition=n % 2)
    assert producer.flush(20) == 0
    yield found
    host.close()


@pytest.fixture
def reader(bootstrap):
    made = Reader(bootstrap, "looking", patience_s=10)
    yield made
    made.close()


def values(found):
    found = list(found)
    return {p: [int(m.value()) for messages in found for m in messages if m.partition() == p] for p in (0, 1)}


def test_ranges_are_read_to_the_record_and_in_order(reader):
    for ranges in ({("t", 0): (5, 9), ("t", 1): (0, 5500)}, {("t", 1): (5990, 6000), ("t", 0): (1, 1)}):
        assert values(reader.read(ranges)) == {p: list(range(*ranges.get(("t", p), (0, 0)))) for p in (0, 1)}


def test_a_range_past_the_end_is_refused_since_what_is_lost_is_no_end(reader):
    with pytest.raises(ContractViolation, match="t/0 ends at offset 6000, and was to be read to 7000"):
        list(reader.read({("t", 0): (5998, 7000)}))
    assert values(reader.read({("t", 0): (5998, 6000)})) == {0: [5998, 5999], 1: []}


def test_a_reading_given_up_midway_leaves_the_next_whole(reader):
    next(reader.read({("t", 0): (0, 6000)}))
    assert values(reader.read({("t", 0): (3, 4), ("t", 1): (0, 3)})) == {0: [3], 1: [0, 1, 2]}


def test_bounds_partitions_and_commits_are_told(reader, bootstrap):
    assert reader.bounds("t", 1) == (0, RECORDS // 2)
    assert set(reader.partitions("t")) >= {0, 1}
    assert reader.committed("t", [0, 1]) == {}
    member = Consumer({"bootstrap.servers": bootstrap, "group.id": "looking"})
    from confluent_kafka import TopicPartition

    member.commit(offsets=[TopicPartition("t", 1, 7, "told")], asynchronous=False)
    member.close()
    assert reader.committed("t", [0, 1]) == {1: (7, "told")}


def test_what_retention_took_is_no_end(reader):
    with pytest.raises(ContractViolation):
        list(reader.read({("t", 0): (9000, 9500)}))  # out of the log's range, which a log that lost its beginning answers alike


def test_a_broker_that_is_away_is_unavailable(monkeypatch):
    monkeypatch.setattr("weir.topics.reader.ASK_S", 0.5)
    away = Reader("127.0.0.1:9", "looking", patience_s=0.5)
    try:
        for question in (lambda: away.bounds("t", 0), lambda: away.partitions("t"), lambda: away.committed("t", [0]), lambda: list(away.read({("t", 0): (0, 5)}))):
            with pytest.raises(Unavailable):
                question()
    finally:
        away.close()

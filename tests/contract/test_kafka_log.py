"""`KafkaLog` through the real client library against the broker that librdkafka itself brings (`test.mock.num.brokers`): no JVM, no stack."""
import socket
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from weir.contracts.retention import KAFKA_MAX_DAYS
from weir.errors import ContractViolation, Fenced, Unavailable
from weir.ingest import kafka_limits, kafka_log
from weir.ingest.kafka_log import KafkaLog, check_position
from weir.topics import retention

PATIENCE_S = 90  # a bound, not an aim: machines are shared


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


def commit_elsewhere(brokers, topic, offset):
    """Commit as the group, as an operator or an older worker did."""
    other = Consumer({"bootstrap.servers": brokers, "group.id": topic, "enable.auto.commit": False})
    other.commit(offsets=[TopicPartition(topic, 0, offset)], asynchronous=False)
    other.close()


def test_a_committed_offset_past_the_end_is_refused_and_the_lost_range_named(brokers, topic):
    commit_elsewhere(brokers, topic, 1000)
    log, _ = member(brokers, topic)
    try:
        with pytest.raises(ContractViolation, match=rf"{topic}/0 ends before offset 20, and 1000 was committed: offsets 20 to 999 are lost"):
            until(lambda: False, lambda: log.fetch(5, 0.1))
    finally:
        log.close()


def test_a_committed_offset_before_the_first_record_is_refused_and_the_lost_range_named(brokers, topic, monkeypatch):
    commit_elsewhere(brokers, topic, 3)
    log, _ = member(brokers, topic)
    real = log._consumer

    class Deleted:
        """The consumer, when retention has taken the first twelve records of each partition."""

        def get_watermark_offsets(self, partition, timeout):
            return 12, real.get_watermark_offsets(partition, timeout)[1]

        def __getattr__(self, name):
            return getattr(real, name)

    monkeypatch.setattr(log, "_consumer", Deleted())
    try:
        with pytest.raises(ContractViolation, match=rf"no longer has {topic}/0, offsets 3 to 11, which were not landed"):
            log.committed([(topic, 0)])
        assert log.committed([(topic, 1)]) == {(topic, 1): (12, "")}, "without a commit there is nothing that was lost after it"
    finally:
        log.close()


@pytest.mark.parametrize("committed", [12, 15, 20])
def test_a_committed_offset_within_the_partition_or_at_either_end_is_one_to_read_on_from(committed):
    assert check_position("t", 0, committed, 12, 20) is None
    assert check_position("t", 0, 0, 0, 0) is None


@pytest.mark.parametrize("committed", [11, 21])
def test_one_offset_outside_is_too_many(committed):
    with pytest.raises(ContractViolation):
        check_position("t", 0, committed, 12, 20)


def test_a_position_that_goes_out_of_range_while_reading_is_a_refusal_and_not_a_jump(brokers, topic):
    log = KafkaLog(brokers, topic, [topic])
    log.join(lambda partitions: dict.fromkeys(partitions, 1000), lambda: None)
    try:
        with pytest.raises(ContractViolation, match=rf"no longer has {topic}/\d from offset 1000 on"):
            until(lambda: False, lambda: log.fetch(5, 0.1))
    finally:
        log.close()


def test_trouble_is_told_while_no_broker_is_left_and_ends_when_one_answers(brokers, topic, caplog):
    host = Consumer({"test.mock.num.brokers": 1, "group.id": "host"})
    own = ",".join(f"{b.host}:{b.port}" for b in host.list_topics(timeout=10).brokers.values())
    log = KafkaLog(own, topic, [topic])
    log.join(lambda partitions: dict.fromkeys(partitions, 0), lambda: None)
    assert log.trouble == ""
    host.close()
    with socket.socket() as taken:  # so that no other test's broker gets the port, and answers
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", int(own.rsplit(":", 1)[1])))
        until(lambda: "brokers are down" in log.trouble, lambda: log.fetch(5, 0.1))
    for n in range(9):
        log._heard(KafkaError(KafkaError._TRANSPORT, f"refused after {n} ms"))
    assert caplog.text.count("refused") <= 1, "each kind of trouble is told once"
    log.close()
    alive, _ = member(brokers, topic)
    try:
        alive.trouble = "All brokers are down"
        until(lambda: alive.trouble == "", lambda: alive.fetch(5, 0.1))
    finally:
        alive.close()


def test_a_topic_that_is_not_there_is_told(brokers, topic):
    log = KafkaLog(brokers, topic, ["no-such-topic"])
    log.join(lambda partitions: dict.fromkeys(partitions, 0), lambda: None)
    try:
        until(lambda: "no-such-topic" in log.trouble, lambda: log.fetch(5, 0.1))
    finally:
        log.close()


def test_a_worker_does_not_start_where_an_intent_could_be_longer_than_a_commit_may_be(brokers, topic, monkeypatch):
    monkeypatch.setattr(kafka_limits, "_limit", lambda _admin, _brokers: 100)
    log = KafkaLog(brokers, topic, [topic])
    with pytest.raises(ContractViolation, match=r"offset\.metadata\.max\.bytes = 100 is too low"):
        log.join(lambda partitions: dict.fromkeys(partitions, 0), lambda: None)
    log.close()
    assert kafka_limits.refuse({"user-events": 100}, kafka_limits.DEFAULT) is None
    with pytest.raises(ContractViolation, match=r"set offset\.metadata\.max\.bytes of every broker to 11264 or more"):
        kafka_limits.refuse({"user-events": 300}, kafka_limits.DEFAULT)


WEEK_MS = 7 * 86_400_000
USUAL = {"retention.ms": str(WEEK_MS), "segment.ms": str(WEEK_MS)}


@pytest.mark.parametrize(("settings", "minutes"), [
    (USUAL, 15 * 1440), ({**USUAL, "cleanup.policy": "compact,delete"}, 15 * 1440), ({"retention.ms": str(2 * 86_400_000), "segment.ms": str(86_400_000)}, 4 * 1440),
    ({**USUAL, "retention.ms": "-1"}, 525_600), ({**USUAL, "cleanup.policy": "compact"}, 525_600),
])
def test_brokers_that_forget_a_commit_before_what_it_landed_is_gone_are_refused_by_name(settings, minutes):
    keeps = {"user-events": retention.kept(settings)}
    assert kafka_limits.refuse_forgetful(keeps, minutes) is None
    with pytest.raises(ContractViolation, match=rf"offsets\.retention\.minutes = {minutes - 1} is too low.*to {minutes} or more, or let user-events keep less"):
        kafka_limits.refuse_forgetful(keeps, minutes - 1)


def test_a_worker_does_not_start_where_its_commits_are_forgotten_too_soon(brokers, topic, monkeypatch):
    monkeypatch.setattr(kafka_limits, "_limit", lambda _admin, _brokers, setting="": 10_080 if setting else 4096)
    monkeypatch.setattr(kafka_limits, "topics_keep", lambda _admin, topics: {t: retention.kept(USUAL) for t in topics})
    log = KafkaLog(brokers, topic, [topic])
    with pytest.raises(ContractViolation, match=r"offsets\.retention\.minutes = 10080 is too low"):
        log.join(lambda partitions: dict.fromkeys(partitions, 0), lambda: None)
    log.close()


def test_the_local_brokers_keep_a_commit_for_as_long_as_a_topic_may_hold_what_it_landed():
    text = (Path(__file__).resolve().parents[2] / "connect" / "server.properties").read_text()
    local = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    assert kafka_limits.refuse_forgetful({"user-events": retention.kept({}), "item-catalogue": retention.kept(USUAL)}, int(local["offsets.retention.minutes"])) is None
    assert kafka_limits.needed_minutes({"t": retention.kept(USUAL)}) == KAFKA_MAX_DAYS * 1440


def test_without_a_broker_a_worker_does_not_enter_the_group(monkeypatch):
    monkeypatch.setattr(kafka_limits, "TIMEOUT_S", 0.5)
    log = KafkaLog("127.0.0.1:9", "g", ["t"])
    with pytest.raises(Unavailable, match="Kafka does not answer"):
        log.join(lambda partitions: dict.fromkeys(partitions, 0), lambda: None)
    log.close()

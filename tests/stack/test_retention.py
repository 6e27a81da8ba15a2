"""What Kafka keeps, asked of the real broker: an alarm rises before it deletes what a group has not landed."""
import time
import uuid

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from weir.topics import retention
from weir.topics.retention import HOUR_MS


def alarms_of(bootstrap):
    """Make topics, produce records of some age, commit a part of them, and ask."""
    admin, run = AdminClient({"bootstrap.servers": bootstrap}), uuid.uuid4().hex[:8]
    settings = {"old": {"retention.ms": str(2 * HOUR_MS)}, "new": {"retention.ms": str(2 * HOUR_MS)}, "even": {"retention.ms": str(2 * HOUR_MS)},
                "large": {"retention.bytes": "100000"}, "small": {"retention.bytes": "100000000"}}
    for made in admin.create_topics([NewTopic(f"{name}-{run}", 2, 1, config=config) for name, config in settings.items()]).values():
        made.result(30)
    producer, now_ms = Producer({"bootstrap.servers": bootstrap}), int(time.time() * 1000)
    for name in settings:
        for n in range(200):
            producer.produce(f"{name}-{run}", value=b"x" * 1000, partition=0, timestamp=now_ms - (90 * 60_000 if name in {"old", "even"} else 0) + n)
    assert producer.flush(30) == 0
    member = Consumer({"bootstrap.servers": bootstrap, "group.id": run})
    member.commit(offsets=[TopicPartition(f"{name}-{run}", 0, 200 if name == "even" else 50) for name in settings], asynchronous=False)
    member.close()
    topics = [f"{name}-{run}" for name in settings]
    found = retention.alarms(bootstrap, retention.positions(bootstrap, run, topics))
    keeps = retention.topics_keep(admin, topics)
    for gone in admin.delete_topics(topics).values():
        gone.result(30)
    return {a.topic.removesuffix(f"-{run}"): a for a in found}, {t.removesuffix(f"-{run}"): k for t, k in keeps.items()}


def test_an_alarm_rises_before_the_broker_deletes_what_is_not_landed(running):
    found, keeps = alarms_of(running.endpoints["kafka_bootstrap"])
    assert set(found) == {"old", "large"}
    assert 0.4 < found["old"].left_h <= 0.5
    assert "about 0.2 MB of large" in found["large"].text
    assert (keeps["old"].ms, keeps["old"].size_bytes) == (2 * HOUR_MS, None)
    assert keeps["large"].size_bytes == 100_000

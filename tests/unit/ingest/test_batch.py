"""A batch of the consumer's messages says what the same records say, whole, cut, joined and put in order."""

import random

import pytest
from confluent_kafka import Message

from weir.ingest import decode, intent
from weir.ingest.batch import Batch
from weir.ingest.kafka_log import MESSAGES, to_record
from weir.ingest.record import Record

NOW = 1_795_562_000_000
NUMBERS = ("partition", "offset", "timestamp_ms", "length")


def _message(rng, topic, place):
    value = rng.choice([None, b"", b"{}", b"{", b'{"a":"' + b"x" * rng.randrange(40) + b'"}'])
    headers = rng.choice([None, [("other", b"1")], [("other", b"1"), ("traceparent", b"00-%032d-%016d-01" % (place, place))]])
    return Message(topic=topic, partition=rng.randrange(3), offset=rng.randrange(1000) * 1000 + place, key=b"k%d" % place, value=value, headers=headers,
                   error=None, timestamp=(1, NOW + rng.randrange(-3, 3) * 40_000_000))


def _both(seed, topics=("user-events",), count=60):
    rng = random.Random(seed)  # noqa: S311 - drawn test data
    messages = [_message(rng, rng.choice(topics), n) for n in range(count)]
    return Batch(messages, MESSAGES), [to_record(m) for m in messages]


def _same(batch, records):
    other = Batch(records)
    assert list(batch) == records
    assert [batch[i] for i in range(len(batch))] == records
    for name in NUMBERS:
        assert getattr(batch, name).tolist() == getattr(other, name).tolist(), name
    assert (batch.topics, batch.one_topic, batch.values, batch.traces, batch.bodies, batch.lines, batch.size) == (
        [r.topic for r in records], other.one_topic, [r.value for r in records], {i: r.traceparent for i, r in enumerate(records) if r.traceparent},
        [r.value or b"" for r in records], b"\n".join(r.value or b"" for r in records), sum(len(r.value or b"") for r in records))


@pytest.mark.parametrize("topics", [("user-events",), ("b", "a")])
@pytest.mark.parametrize("read_first", [(), NUMBERS])
@pytest.mark.parametrize("seed", range(5))
def test_messages_say_what_their_records_say(seed, read_first, topics):
    batch, records = _both(seed, topics)
    for name in read_first:  # what was read before goes with a cut, a join and an order
        getattr(batch, name)
    _same(batch[10:31], records[10:31])
    _same(batch[40:] + batch[:5], records[40:] + records[:5])
    _same(batch.first(7), records[:7])
    ordered = sorted(records, key=lambda r: (r.topic, r.partition, r.offset))
    _same(batch.ordered(), ordered)
    assert intent.of(batch.ordered()) == intent.of(ordered)
    _same(batch, records)


def test_messages_and_records_can_be_joined():
    batch, records = _both(3)
    more = [Record("user-events", 2, 10**7, NOW, None, b"{}", "")]
    _same(batch + more, records + more)
    _same(Batch(more) + batch, more + records)
    _same(Batch([]) + batch, records)
    nothing: list[Record] = []
    _same(batch + nothing, records)


def test_messages_are_decoded_as_their_records_are():
    batch, records = _both(4)
    assert decode.user_events(batch, "b").equals(decode.user_events(records, "b"))
    assert decode.debezium(batch, "b").equals(decode.debezium(records, "b"))

"""Kafka as a lane's log: one consumer in a group, commits with metadata, exact ranges by a second consumer without a group.

Keep: read committed; a commit that was refused, or whose answer did not come, ends the membership before anything else is inserted; no record is
passed over: a position outside of what a partition holds is a refusal, never a jump.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from weir.errors import ContractViolation, Fenced, Terminal, Unavailable
from weir.ingest import kafka_limits
from weir.ingest.batch import Batch, Reader
from weir.ingest.intent import Range
from weir.ingest.lane import Entry, Partition
from weir.ingest.record import Record
from weir.topics.client import client_settings

SESSION_MS = 10_000  # a killed worker's partitions are free after this long
SESSION_VARIABLE = "WEIR_INGEST_SESSION_MS"  # another session for a worker, such as a shorter one where many are killed
POLL_INTERVAL_MS = 300_000
COMMIT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 30.0
LOOK_S = 2.0  # between two questions whether a broker answers again
_GONE = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._LOG_TRUNCATION})  # noqa: SLF001 - librdkafka's own names
_NOT_ALLOWED = frozenset({
    KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError.TOPIC_AUTHORIZATION_FAILED,  # noqa: SLF001 - as above
    KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED,
})
_HINT = "docs/decisions/0001, 'records that are gone', says how to go on"

log = logging.getLogger("weir.ingest.kafka")


def _traceparent(headers: Sequence[tuple[str, bytes | None]]) -> str:
    for name, value in headers:
        if name == "traceparent":
            return bytes(value or b"").decode("ascii", "replace")
    return ""


def to_record(message: Any) -> Record:
    """Return the message as a record."""
    headers = message.headers()
    return Record(message.topic(), message.partition(), message.offset(), message.timestamp()[1], message.key(), message.value(),
                  _traceparent(headers) if headers else "")


def _headers(messages: Sequence[Message]) -> list[tuple[int, str]]:
    return [(place, trace) for place, headers in enumerate(map(Message.headers, messages)) if headers and (trace := _traceparent(headers))]


MESSAGES: Final = Reader(
    lambda ms: map(Message.topic, ms), lambda ms: map(Message.partition, ms), lambda ms: map(Message.offset, ms),
    lambda ms: map(itemgetter(1), map(Message.timestamp, ms)), lambda ms: map(Message.value, ms), _headers, to_record,
)


def check_position(topic: str, partition: int, committed: int, low: int, high: int) -> None:
    """Refuse a committed offset outside of the partition: `low` is its first offset, `high` the one after its last. Pure.

    Raises:
        ContractViolation: it is; names what is lost.
    """
    if committed < low:
        raise ContractViolation(f"Kafka no longer has {topic}/{partition}, offsets {committed} to {low - 1}, which were not landed", hint=_HINT)
    if committed > high:
        raise ContractViolation(
            f"{topic}/{partition} ends before offset {high}, and {committed} was committed: offsets {high} to {committed - 1} are lost, or the topic was made anew",
            hint=_HINT,
        )


class KafkaLog:
    """One member of the group. `on_assign` returns where to read on; `on_revoke` is called while the generation still holds.

    `trouble` says why nothing comes; it is empty while all is well.
    """

    def __init__(self, bootstrap: str, group: str, topics: Sequence[str], session_ms: int | None = None) -> None:
        self._bootstrap, self._group, self._topics = bootstrap, group, list(topics)
        self._lost = False
        self.failure: Exception | None = None
        self.trouble = ""
        self._told: set[int] = set()  # codes: a text has milliseconds in it
        self._looked_s = 0.0
        self._consumer = Consumer({
            **client_settings(bootstrap), "group.id": group, "enable.auto.commit": False, "auto.offset.reset": "error", "error_cb": self._heard,
            "isolation.level": "read_committed", "session.timeout.ms": session_ms or SESSION_MS, "heartbeat.interval.ms": 1000, "max.poll.interval.ms": POLL_INTERVAL_MS,
            "partition.assignment.strategy": "range", "fetch.wait.max.ms": 250, "fetch.min.bytes": 1, "queued.max.messages.kbytes": 65536,
            "topic.metadata.refresh.interval.ms": 10_000,
        })

    def join(self, on_assign: Callable[[Iterable[Partition]], dict[Partition, int]], on_revoke: Callable[[], None]) -> None:
        """Subscribe. Callbacks run inside `fetch`, in the caller's thread.

        Raises:
            ContractViolation: the brokers keep no metadata as long as an intent may be. Unavailable: they do not answer.
        """
        kafka_limits.check(self._bootstrap, self._topics)

        def assigned(consumer: Any, partitions: list[TopicPartition]) -> None:
            try:
                start = on_assign([(p.topic, p.partition) for p in partitions])
                consumer.assign([TopicPartition(t, p, offset) for (t, p), offset in start.items()])
            except Exception as error:  # noqa: BLE001 - an exception in a callback is lost; fetch() raises it again
                self.failure = error

        def revoked(_consumer: Any, _partitions: list[TopicPartition]) -> None:
            try:
                on_revoke()
            except Exception as error:  # noqa: BLE001 - as above
                self.failure = error

        def lost(_consumer: Any, _partitions: list[TopicPartition]) -> None:
            self._lost = True

        self._consumer.subscribe(self._topics, on_assign=assigned, on_revoke=revoked, on_lost=lost)

    def fetch(self, limit: int, timeout_s: float) -> Batch:
        """Return what has arrived, waiting at most `timeout_s` for the first record.

        Raises:
            Fenced: the membership is over. Whatever a rebalance callback raised.
        """
        messages = self._consumer.consume(limit, timeout_s)
        self._raise_pending()
        if any(map(Message.error, messages)):
            for message in messages:
                if message.error() is not None:
                    self._judge(message)
            messages = [m for m in messages if m.error() is None]
        if self.trouble:
            self._look(got=bool(messages))
        return Batch(messages, MESSAGES)

    def _heard(self, error: KafkaError) -> None:
        """Take what librdkafka tells of brokers. It mends itself; only that no broker is left keeps records from coming."""
        if error.code() in _NOT_ALLOWED:
            self.failure = Terminal(f"Kafka refuses this worker: {error.str()}", hint="its credentials and rights are to be set")
        elif error.fatal():
            self.failure = Fenced(f"the client cannot go on: {error.str()}")
        self._tell(error, blocks=error.code() == KafkaError._ALL_BROKERS_DOWN)  # noqa: SLF001 - librdkafka's own name

    def _judge(self, message: Any) -> None:
        error = message.error()
        if error.code() == KafkaError._MAX_POLL_EXCEEDED:  # noqa: SLF001 - librdkafka's own name
            raise Fenced("the worker was silent for longer than max.poll.interval.ms")
        if error.code() in _GONE:
            raise ContractViolation(f"Kafka no longer has {message.topic()}/{message.partition()} from offset {message.offset()} on: {error.str()}", hint=_HINT)
        if error.code() in _NOT_ALLOWED:
            raise Terminal(f"Kafka refuses this worker: {error.str()}", hint="its credentials and rights are to be set")
        self._tell(error, blocks=True)

    def _tell(self, error: KafkaError, *, blocks: bool) -> None:
        if error.code() not in self._told:
            self._told.add(error.code())
            log.warning("%s: %s", self._group, error.str())
        if blocks:
            self.trouble = error.str()

    def _look(self, *, got: bool) -> None:
        """See whether the trouble is over: records came, or a broker tells of every topic."""
        if not got:
            if time.monotonic() - self._looked_s < LOOK_S:
                return
            self._looked_s = time.monotonic()
            try:
                found = self._consumer.list_topics(timeout=1.0).topics
            except KafkaException:
                return
            if any(t not in found or found[t].error is not None for t in self._topics):
                return
        log.info("%s: Kafka answers again", self._group)
        self.trouble = ""
        self._told.clear()

    def _raise_pending(self) -> None:
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        if self._lost:
            raise Fenced("the group gave this worker's partitions away")

    def hold(self, partition: Partition) -> None:
        """Fetch nothing more of a partition; what was fetched already may still come."""
        self._consumer.pause([TopicPartition(*partition)])

    def release(self, partition: Partition, offset: int) -> None:
        """Fetch it again, from `offset` on; what was fetched before may come first."""
        try:
            self._consumer.seek(TopicPartition(*partition, offset))
            self._consumer.resume([TopicPartition(*partition)])
        except KafkaException as error:
            raise Fenced(f"{partition[0]}/{partition[1]} could not be read again from {offset}: {error}") from error

    def stay(self) -> None:
        """Keep the membership alive while an insert is being repeated: nothing is read.

        Raises:
            Fenced: it is over.
        """
        assignment = self._consumer.assignment()
        if assignment:
            self._consumer.pause(assignment)
        message = self._consumer.poll(0)
        self._raise_pending()
        if message is not None and message.error() is None:  # it was read before the pause took hold: must not be skipped
            self._consumer.seek(TopicPartition(message.topic(), message.partition(), message.offset()))
        elif message is not None:
            self._judge(message)
        if {(p.topic, p.partition) for p in self._consumer.assignment()} != {(p.topic, p.partition) for p in assignment}:
            raise Fenced("partitions changed hands while an insert was being repeated")
        if assignment:
            self._consumer.resume(assignment)

    def commit(self, entries: Mapping[Partition, Entry]) -> None:
        """Commit; see `Log.commit`."""
        offsets = [TopicPartition(t, p, offset, metadata) for (t, p), (offset, metadata) in entries.items()]
        if not offsets:
            return
        try:
            results = self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            raise Fenced(f"the group refused the commit: {error}") from error
        for result in results or []:
            if result.error is not None and result.error.code() == KafkaError.OFFSET_METADATA_TOO_LARGE:
                raise kafka_limits.too_long(max(len(metadata) for _, metadata in entries.values()))
            if result.error is not None:
                raise Fenced(f"the group refused the commit of {result.topic}/{result.partition}: {result.error}")

    def committed(self, partitions: Iterable[Partition]) -> dict[Partition, Entry]:
        """Return what stands committed; see `Log.committed`.

        Raises:
            ContractViolation: the records from there on are not in Kafka.
        """
        found: dict[Partition, Entry] = {}
        try:
            for p in self._consumer.committed([TopicPartition(t, n) for t, n in partitions], timeout=COMMIT_TIMEOUT_S):
                low, high = self._consumer.get_watermark_offsets(TopicPartition(p.topic, p.partition), timeout=COMMIT_TIMEOUT_S)
                if p.offset >= 0:
                    check_position(p.topic, p.partition, p.offset, low, high)
                found[p.topic, p.partition] = (p.offset if p.offset >= 0 else low, p.metadata or "")
        except KafkaException as error:
            raise Fenced(f"the group's offsets could not be read: {error}") from error
        return found

    def bounds(self, partitions: Iterable[Partition]) -> dict[Partition, tuple[int, int]]:
        """Return the first offset that Kafka holds of each, and the one after its last.

        Raises:
            Fenced: Kafka does not say.
        """
        try:
            return {(t, p): self._consumer.get_watermark_offsets(TopicPartition(t, p), timeout=COMMIT_TIMEOUT_S) for t, p in partitions}
        except KafkaException as error:
            raise Fenced(f"the ends of the topics could not be read: {error}") from error

    def read(self, ranges: Sequence[Range]) -> list[Record]:
        """Read exactly these ranges; see `Log.read`."""
        consumer = Consumer({**client_settings(self._bootstrap), "group.id": f"{self._group}-replay", "enable.auto.commit": False,
                             "isolation.level": "read_committed", "auto.offset.reset": "error"})
        left = {(r.topic, r.partition): r for r in ranges}
        owed = {key: r.count for key, r in left.items()}
        records: list[Record] = []
        try:
            consumer.assign([TopicPartition(r.topic, r.partition, r.first) for r in ranges])
            deadline = time.monotonic() + READ_TIMEOUT_S
            while any(owed.values()):
                if time.monotonic() > deadline:
                    raise Unavailable(f"{sum(owed.values())} records of an open batch could not be read again", hint="is Kafka up? was its retention too short?")
                for message in consumer.consume(5000, 0.2):
                    if message.error() is not None:
                        if message.error().code() in _GONE:
                            raise ContractViolation("the records of an open batch are no longer in Kafka", hint=f"keep retention above the longest outage; {_HINT}")
                        continue
                    key = message.topic(), message.partition()
                    if message.offset() <= left[key].last and owed[key]:
                        records.append(to_record(message))
                        owed[key] -= 1
        finally:
            consumer.close()
        return records

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()

"""The one reader of committed records outside the ingest worker: whoever counts, searches, compares or verifies a topic reads it here.

In: a broker, ranges of offsets. Out: messages in order. Keep: what retention has taken, or a topic made anew, is told apart (`ContractViolation`) from a broker that does not
answer (`Unavailable`), and neither ever looks like the end of a range.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final, NoReturn

from weir.errors import ContractViolation, Unavailable
from weir.topics.client import client_settings, quiet

ASK_S: Final = 10.0
MOST: Final = 5000  # messages at once: 1 MB of events

Partition = tuple[str, int]
Range = tuple[int, int]  # first offset, and the one after the last


def quiet_admin(bootstrap: str) -> Any:
    """Return an AdminClient that writes no lines of its own and gives a broker 3 s."""
    from confluent_kafka.admin import AdminClient

    return AdminClient({**client_settings(bootstrap), "socket.timeout.ms": 3000, "log_level": 0}, logger=quiet())


class Reader:
    """Reads by one connection; not shared between threads. `group`: whose commits `committed` tells; it is never joined."""

    def __init__(self, bootstrap: str, group: str, *, patience_s: float = 20.0) -> None:
        from confluent_kafka import Consumer

        self._patience_s = patience_s
        self._consumer: Any = Consumer({
            **client_settings(bootstrap), "group.id": group, "enable.auto.commit": False, "isolation.level": "read_committed",
            "auto.offset.reset": "error", "enable.partition.eof": True, "fetch.wait.max.ms": 20, "log_level": 0,
        }, logger=quiet())

    def partitions(self, topic: str) -> list[int]:
        """Return the partitions of a topic; none when there is no such topic.

        Raises:
            Unavailable: Kafka does not answer.
        """
        from confluent_kafka import KafkaException

        try:
            found = self._consumer.list_topics(topic, timeout=ASK_S).topics[topic]
        except KafkaException as error:
            _away(f"the partitions of {topic}", error)
        return sorted(found.partitions) if found.error is None else []

    def bounds(self, topic: str, partition: int) -> Range:
        """Return the lowest offset that is still there, and the end of what is committed.

        Raises:
            Unavailable: Kafka does not answer.
        """
        from confluent_kafka import KafkaException, TopicPartition

        try:
            low, end = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=ASK_S)
        except KafkaException as error:
            _away(f"the bounds of {topic}/{partition}", error)
        return int(low), int(end)

    def since(self, topic: str, partitions: list[int], at_ms: int) -> dict[int, int]:
        """Return by partition the first offset whose record's timestamp is `at_ms` (ms since the epoch) or later; partitions that have none are left out.

        Raises:
            Unavailable: Kafka does not answer.
        """
        from confluent_kafka import KafkaException, TopicPartition

        try:
            found = self._consumer.offsets_for_times([TopicPartition(topic, p, at_ms) for p in partitions], timeout=ASK_S)
        except KafkaException as error:
            _away(f"offsets of a time in {topic}", error)
        return {p.partition: int(p.offset) for p in found if p.offset >= 0}

    def committed(self, topic: str, partitions: list[int]) -> dict[int, tuple[int, str]]:
        """Return the group's committed offset and metadata by partition; those without a commit are left out.

        Raises:
            Unavailable: Kafka does not answer.
        """
        from confluent_kafka import KafkaException, TopicPartition

        try:
            found = self._consumer.committed([TopicPartition(topic, p) for p in partitions], timeout=ASK_S)
        except KafkaException as error:
            _away(f"the group's commits on {topic}", error)
        return {p.partition: (int(p.offset), p.metadata or "") for p in found if p.offset >= 0}

    def read(self, ranges: Mapping[Partition, Range]) -> Iterator[list[Any]]:
        """Yield the messages of the ranges, some thousand at a time, in order within a partition; markers and aborted records are not among them.

        Raises:
            ContractViolation: a range begins below what Kafka still holds, or goes past its end. Unavailable: Kafka does not answer, or nothing came for `patience_s`.
        """
        from confluent_kafka import KafkaException, TopicPartition

        left = {key: after for key, (first, after) in ranges.items() if first < after}
        if not left:
            return
        try:
            self._consumer.assign([TopicPartition(*key, ranges[key][0]) for key in left])
            deadline = time.monotonic() + self._patience_s
            while left:
                found = self._take(self._consumer.consume(MOST, 0.1), left)
                if found:
                    yield found
                    deadline = time.monotonic() + self._patience_s  # it moves: a long range is not a stuck one
                elif left and time.monotonic() > deadline:
                    raise Unavailable(f"{sorted(left)} could not be read to the end of their ranges in {self._patience_s:.0f} s", hint="./weir logs kafka shows why")
        except KafkaException as error:
            _away(f"records of {sorted(ranges)}", error)
        finally:
            self._consumer.unassign()  # what stays assigned is fetched on, fifty times a second, though nobody reads

    @staticmethod
    def _take(messages: list[Any], left: dict[Partition, int]) -> list[Any]:
        """Return the messages inside the ranges; a partition whose range has ended leaves `left`."""
        from confluent_kafka import KafkaError

        found = []
        for message in messages:
            key, error = (message.topic(), message.partition()), message.error()
            if error is None and message.offset() < left.get(key, 0):
                found.append(message)
            elif error is None:
                left.pop(key, None)
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own name
                if message.offset() < (after := left.pop(key, 0)):
                    raise ContractViolation(f"{key[0]}/{key[1]} ends at offset {message.offset()}, and was to be read to {after}", hint="was the topic made anew, or has it lost its end? ./weir logs kafka")
            elif error.code() in {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}:  # noqa: SLF001 - librdkafka's own name
                raise ContractViolation(f"records of {key[0]}/{key[1]} are no longer in Kafka", hint="keep retention above the longest outage")
            else:
                _away(f"records of {key[0]}/{key[1]}", error)
        return found

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()


def _away(what: str, error: object) -> NoReturn:
    raise Unavailable(f"Kafka does not tell {what}: {error}", hint="./weir logs kafka shows why") from (error if isinstance(error, Exception) else None)

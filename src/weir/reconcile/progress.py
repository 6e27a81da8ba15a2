"""How far the sink is: the ends of a table's topic, and whether all below them has landed.

In: Kafka. Out: offsets. Keep: joins no group and commits nothing; what ingest has committed is in the landing table and in every view on it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from weir.contracts import names
from weir.errors import Unavailable, Undecided

ASK_S: Final = 10.0


class Progress:
    """Reads offsets of the ingest group."""

    def __init__(self, bootstrap: str) -> None:
        import logging

        from confluent_kafka import Consumer

        quiet = logging.getLogger("weir.reconcile.kafka")
        quiet.setLevel(logging.CRITICAL)
        common = {"bootstrap.servers": bootstrap, "enable.auto.commit": False, "isolation.level": "read_committed", "log_level": 0}
        self._group: Any = Consumer({**common, "group.id": names.ingest_group(names.LANDING_CDC)}, logger=quiet)  # never subscribes, so it is no member
        self._reader: Any = Consumer({**common, "group.id": "weir-reconcile", "auto.offset.reset": "error", "enable.partition.eof": True, "fetch.wait.max.ms": 20}, logger=quiet)

    def ends(self, topic: str) -> dict[int, int]:
        """Return the end offset of each partition, of what is committed there.

        Raises:
            Unavailable: Kafka does not answer.
        """
        from confluent_kafka import KafkaException, TopicPartition

        try:
            partitions = self._group.list_topics(topic, timeout=ASK_S).topics[topic].partitions
            return {p: int(self._group.get_watermark_offsets(TopicPartition(topic, p), timeout=ASK_S)[1]) for p in partitions}
        except KafkaException as error:
            raise Unavailable(f"Kafka does not tell the ends of {topic}: {error}", hint="./weir logs kafka shows why") from error

    def wait_landed(self, topic: str, ends: Mapping[int, int], deadline: float) -> None:
        """Wait until ingest has committed everything below `ends`; markers of transactions, which are never consumed, are looked at.

        Raises:
            Undecided: it took too long. Unavailable: Kafka does not answer.
        """
        from confluent_kafka import KafkaException, TopicPartition

        left = dict(ends)
        try:
            while left:
                found = self._group.committed([TopicPartition(topic, p) for p in left], timeout=ASK_S)
                for p in found:
                    at = p.offset if p.offset >= 0 else self._group.get_watermark_offsets(TopicPartition(topic, p.partition), timeout=ASK_S)[0]
                    if at >= left[p.partition] or not self._holds_record(topic, p.partition, at, left[p.partition]):
                        del left[p.partition]
                if left and time.monotonic() > deadline:
                    raise Undecided(f"{topic} has not landed in time in partitions {sorted(left)}", hint="is ingest running? ./weir status")
                time.sleep(0.1 if left else 0)
        except KafkaException as error:
            raise Unavailable(f"Kafka does not tell what ingest has committed: {error}", hint="./weir logs kafka shows why") from error

    def _holds_record(self, topic: str, partition: int, first: int, after: int) -> bool:
        from confluent_kafka import KafkaError, KafkaException, TopicPartition

        self._reader.assign([TopicPartition(topic, partition, first)])
        deadline = time.monotonic() + ASK_S
        while time.monotonic() < deadline:
            message = self._reader.poll(0.2)
            if message is None:
                continue
            error = message.error()
            if error is not None and error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own name
                return False
            if error is not None:
                raise KafkaException(error)
            return bool(message.offset() < after)
        return True  # not told: as if there were one

    def close(self) -> None:
        """Close the connections."""
        self._group.close()
        self._reader.close()

"""Replay of a quarantined record: it is produced once more to its own partition, and never twice.

In: an entry of the quarantine. Out: its record, as fixed or as it was, at a new offset, with the header `weir-quarantine-of`. Keep: whoever replays first
fences every other replay of the partition (one transactional id), and only then looks whether the record is there already; so a replay that was
killed at any point, or is done by two operators at once, is finished by the next one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from weir.errors import ContractViolation, Terminal, Unavailable
from weir.ingest.envelope import RAW_KEPT_BYTES
from weir.ingest.intent import Range
from weir.ingest.kafka_log import KafkaLog
from weir.ingest.quarantine import Action, Entry, Place, Quarantine, State, allow
from weir.ingest.record import Record
from weir.topics.client import client_settings
from weir.topics.reader import Reader

HEADER: Final = "weir-quarantine-of"
TIMEOUT_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Replayed:
    """Where the record stands now; `again`: it stood there before this call."""

    place: Place
    again: bool


def original(bootstrap: str, entry: Entry) -> tuple[bytes | None, bytes]:
    """Return key and value of the record as it was: from Kafka, or, when it is gone there, from the quarantine if that has all of it.

    Raises:
        Terminal: it is gone from Kafka and the quarantine has only its beginning.
    """
    log = KafkaLog(bootstrap, "weir-quarantine", [entry.place.topic])
    try:
        records = log.read([Range(entry.place.topic, entry.place.partition, entry.place.offset, entry.place.offset, 1)])
        return _key_and_value(records[0])
    except ContractViolation as error:
        if len(entry.raw) < RAW_KEPT_BYTES:
            return None, entry.raw
        raise Terminal(f"{entry.place} is no longer in Kafka, and the quarantine keeps the first {RAW_KEPT_BYTES} bytes", hint="give it whole: --value FILE") from error
    finally:
        log.close()


def refusal(place: Place, key: bytes | None, value: bytes, now_ms: int) -> str:
    """Return why ingest would refuse a record that is produced to this topic now (a `RejectReason`); empty: it would take it."""
    from weir.ingest.decode import DECODERS  # half a second, of which no replay needs anything
    from weir.ingest.worker import routes

    decoder = next((name for name, topics in routes().values() if place.topic in topics), "debezium")  # the topics of tables that were added are in no file
    return str(DECODERS[decoder]([Record(place.topic, place.partition, place.offset, now_ms, key, value, "")], "")["reject_reason"][0].as_py())


def _key_and_value(record: Record) -> tuple[bytes | None, bytes]:
    return record.key, record.value or b""


class Replay:
    """Replays records of one topic partition; holds its transactional id until closed."""

    def __init__(self, bootstrap: str, quarantine: Quarantine, topic: str, partition: int) -> None:
        self._bootstrap, self._quarantine, self._topic, self._partition = bootstrap, quarantine, topic, partition
        self._producer: Any = Producer({
            **client_settings(bootstrap), "transactional.id": f"weir-quarantine-{topic}-{partition}", "transaction.timeout.ms": 30_000,
            "client.id": "weir-quarantine",
        })
        try:
            self._producer.init_transactions(TIMEOUT_S)
        except KafkaException as error:
            raise Unavailable(f"Kafka gave no transaction for {topic}/{partition}: {error}", hint="./weir logs kafka shows why") from error

    def run(self, place: Place, who: str, why: str) -> Replayed:
        """Replay one record; write the audit rows before and after.

        Raises:
            Terminal: its state does not allow it, or another replay took over. Unavailable: Kafka or ClickHouse did not answer; run it again.
        """
        entry = self._quarantine.entry(place)  # asked after the fence: an earlier replay's request is in it
        allow(entry, "replay")
        if entry.state is State.REPLAYING and entry.low is not None:
            found = self._find(place, entry.low)
            if found is not None:
                self._quarantine.record(place, Action("replayed", who, why, to_offset=found))
                return Replayed(Place(place.topic, place.partition, found), again=True)
        key, value = original(self._bootstrap, entry)
        if entry.low is None:
            self._quarantine.record(place, Action("replay_requested", who, why, low=self._end()))
        offset = self._produce(entry, key, value if entry.fixed is None else entry.fixed)
        self._quarantine.record(place, Action("replayed", who, why, to_offset=offset))
        return Replayed(Place(place.topic, place.partition, offset), again=False)

    def _produce(self, entry: Entry, key: bytes | None, value: bytes) -> int:
        headers = [(HEADER, str(entry.place).encode())]
        if entry.traceparent:
            headers.append(("traceparent", entry.traceparent.encode()))
        delivered: list[Any] = []
        try:
            self._producer.begin_transaction()
            self._producer.produce(self._topic, value=value, key=key, partition=self._partition, headers=headers, on_delivery=lambda e, m: delivered.append((e, m)))
            self._producer.commit_transaction(TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].code() in {KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED}:  # noqa: SLF001 - librdkafka's own name
                raise Terminal(f"another replay of {self._topic}/{self._partition} took over", hint="wait for it, then run this again") from error
            raise Unavailable(f"{entry.place} may or may not have been replayed: {error}", hint="run the same command again: it looks before it produces") from error
        failure, message = delivered[0]
        if failure is not None:
            raise Unavailable(f"{entry.place} was not replayed: {failure}", hint="run the same command again")
        return int(message.offset())

    def _reader(self) -> Reader:
        return Reader(self._bootstrap, "weir-quarantine", patience_s=TIMEOUT_S)

    def _end(self) -> int:
        reader = self._reader()
        try:
            return reader.bounds(self._topic, self._partition)[1]
        finally:
            reader.close()

    def _find(self, place: Place, low: int) -> int | None:
        """Return the offset of a committed record with our header at or after `low`, or None when there is none up to the end.

        Raises:
            Unavailable: the partition could not be searched to its end. ContractViolation: retention has taken where it begins.
        """
        reader, mark = self._reader(), str(place).encode()
        try:
            end = reader.bounds(self._topic, self._partition)[1]
            for messages in reader.read({(self._topic, self._partition): (low, end)}):
                for message in messages:
                    if any(name == HEADER and value == mark for name, value in message.headers() or ()):
                        return int(message.offset())
        finally:
            reader.close()
        return None

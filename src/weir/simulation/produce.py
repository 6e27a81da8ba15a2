"""Produce events onto topic user-events with an idempotent producer.

In: events, a journal. Out: records, keyed by user, stamped by the producer's clock; a journal that is complete once the broker has acknowledged all. Keep:
one record in SAMPLE_EVERY carries the traceparent of a real producer span.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import msgspec
from confluent_kafka import Producer
from opentelemetry.trace import SpanKind

from weir.contracts import names
from weir.errors import Unavailable
from weir.simulation.derive import Event
from weir.simulation.journal import Journal
from weir.telemetry import Telemetry, setup
from weir.topics.client import client_settings

SAMPLE_EVERY: Final = 1000
FLUSH_S: Final = 60.0
QUEUED: Final = 200_000  # records that may wait for the broker: 40 MB
CHUNK: Final = 1000  # events handed over at once


@dataclass(frozen=True, slots=True)
class Progress:
    """`rate` in records a second; `eta_s` is 0 when the total is unknown."""

    done: int
    total: int
    rate: float
    eta_s: float


def progress(done: int, total: int, elapsed_s: float) -> Progress:
    """Return the progress. Pure."""
    rate = done / max(elapsed_s, 1e-6)
    return Progress(done, total, rate, max(0, total - done) / rate if rate and total else 0.0)


def producer(bootstrap: str) -> Any:
    """Return an idempotent producer."""
    return Producer({
        **client_settings(bootstrap), "enable.idempotence": True, "acks": "all", "linger.ms": 20, "batch.size": 262_144,
        "compression.type": "lz4", "delivery.timeout.ms": 60_000, "queue.buffering.max.messages": 200_000, "client.id": "weir-simulation", "log_level": 0,
    })


def bulk(bootstrap: str, failed: Callable[[Any, Any], None]) -> Any:
    """Return an idempotent producer that says only what failed: once nothing waits, the rest is acknowledged."""
    return Producer({
        **client_settings(bootstrap), "enable.idempotence": True, "acks": "all", "linger.ms": 50, "batch.size": 1_000_000, "message.max.bytes": 1_000_000,
        "compression.type": "lz4", "delivery.timeout.ms": 60_000, "queue.buffering.max.messages": 1_000_000, "queue.buffering.max.kbytes": 1_048_576,
        "delivery.report.only.error": True, "on_delivery": failed, "client.id": "weir-load", "log_level": 0,
    })


def send_all(client: Any, records: Sequence[dict[str, Any]], telemetry: Telemetry) -> None:
    """Hand records (`key`, `value`) over; one in SAMPLE_EVERY carries the traceparent of a real producer span (a batch call takes no headers).

    Raises:
        Unavailable: Kafka takes no more.
    """
    while len(client) > QUEUED:
        client.poll(0.005)
    for record in records[::SAMPLE_EVERY]:
        with telemetry.span("weir.simulation.produce", kind=SpanKind.PRODUCER, attributes={"messaging.destination.name": names.TOPIC_USER_EVENTS}):
            header = telemetry.traceparent()
            client.produce(names.TOPIC_USER_EVENTS, **record, headers=[("traceparent", header)] if header else None)
    rest = [r for n, r in enumerate(records) if n % SAMPLE_EVERY]
    taken = client.produce_batch(names.TOPIC_USER_EVENTS, rest)
    if taken != len(rest):
        raise Unavailable(f"Kafka takes no more: {len(client):,} events wait to be acknowledged", hint="./weir logs kafka shows why")


def one(client: Any, event: Event, telemetry: Telemetry) -> int:
    """Produce one event inside a producer span and wait for its acknowledgement; return the record's timestamp in ms.

    Raises:
        Unavailable: it was not acknowledged in time.
    """
    told: list[Any] = []
    with telemetry.span("weir.simulation.produce", kind=SpanKind.PRODUCER, attributes={"messaging.destination.name": names.TOPIC_USER_EVENTS}):
        header = telemetry.traceparent()
        client.produce(
            names.TOPIC_USER_EVENTS, key=str(event.user_id), value=msgspec.json.encode(event.body()), headers=[("traceparent", header)] if header else None,
            on_delivery=lambda error, message: told.append((error, message.timestamp()[1])),
        )
        client.flush(10)
    if not told or told[0][0]:
        raise Unavailable("Kafka did not acknowledge an event", hint="./weir logs kafka shows why")
    return int(told[0][1])


def events(
    bootstrap: str, stream: Iterable[Event], journal: Journal, *, bad: Iterable[bytes] = (), total: int = 0,
    report: Callable[[Progress], None] = lambda _: None, telemetry: Telemetry | None = None,
) -> Journal:
    """Produce the stream, then the bad records; return the journal, complete when everything was acknowledged (until then it counts what was handed over).

    Raises:
        Unavailable: the broker refused records or did not acknowledge them in time.
    """
    telemetry = telemetry or setup("weir-simulation")
    refused: list[Any] = []
    client, began, encode = bulk(bootstrap, lambda error, _message: refused.append(error)), time.monotonic(), msgspec.json.Encoder().encode
    coming, sent = iter(stream), 0
    while some := list(islice(coming, CHUNK)):
        send_all(client, [{"key": str(event.user_id), "value": encode(event.body())} for event in some], telemetry)
        for event in some:
            journal.note(event.event_id)
        sent += len(some)
        client.poll(0)
        report(progress(sent, total, time.monotonic() - began))
    for value in bad:
        client.produce(names.TOPIC_USER_EVENTS, key="bad", value=value)
        journal.bad += 1
    journal.failed = client.flush(FLUSH_S) + len(refused)
    telemetry.count("weir.simulation.events_produced", journal.produced)
    report(progress(journal.produced, journal.produced, time.monotonic() - began))
    if journal.failed:
        raise Unavailable(f"Kafka left {journal.failed} events unacknowledged", hint="./weir logs kafka shows why; ./weir demo again goes on")
    journal.complete = True
    return journal

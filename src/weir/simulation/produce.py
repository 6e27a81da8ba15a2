"""Produce events onto topic user-events with an idempotent producer.

In: events, a journal. Out: records, keyed by user, stamped by the producer's clock; the journal counts what the broker acknowledged. Keep:
one record in SAMPLE_EVERY carries the traceparent of a real producer span.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from confluent_kafka import Producer
from opentelemetry.trace import SpanKind

from weir.contracts import names
from weir.errors import Unavailable
from weir.simulation.derive import Event
from weir.simulation.journal import Journal
from weir.telemetry import Telemetry, setup

SAMPLE_EVERY: Final = 1000
FLUSH_S: Final = 60.0
_REPORT_EVERY: Final = 5000


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
        "bootstrap.servers": bootstrap, "enable.idempotence": True, "acks": "all", "linger.ms": 20, "batch.size": 262_144,
        "compression.type": "lz4", "delivery.timeout.ms": 60_000, "queue.buffering.max.messages": 200_000, "client.id": "weir-simulation", "log_level": 0,
    })


def _send(client: Any, **record: Any) -> None:
    while True:
        try:
            client.produce(names.TOPIC_USER_EVENTS, **record)
        except BufferError:  # the queue is full: wait for acknowledgements
            client.poll(0.1)
        else:
            return


def one(client: Any, event: Event, telemetry: Telemetry) -> int:
    """Produce one event inside a producer span and wait for its acknowledgement; return the record's timestamp in ms.

    Raises:
        Unavailable: it was not acknowledged in time.
    """
    told: list[Any] = []
    with telemetry.span("weir.simulation.produce", kind=SpanKind.PRODUCER, attributes={"messaging.destination.name": names.TOPIC_USER_EVENTS}):
        header = telemetry.traceparent()
        _send(
            client, key=str(event.user_id), value=msgspec.json.encode(event.body()), headers=[("traceparent", header)] if header else None,
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
    """Produce the stream, then the bad records; return the journal, complete when everything was acknowledged.

    Raises:
        Unavailable: the broker refused records or did not acknowledge them in time.
    """
    telemetry = telemetry or setup("weir-simulation")
    client, began = producer(bootstrap), time.monotonic()
    encoder = msgspec.json.Encoder()

    def told(event_id: str, error: object) -> None:
        if error:
            journal.failed += 1
        elif event_id:
            journal.note(event_id)
        else:
            journal.bad += 1

    for number, event in enumerate(stream):
        record: dict[str, Any] = {"key": str(event.user_id), "value": encoder.encode(event.body())}
        record["on_delivery"] = lambda error, _message, event_id=event.event_id: told(event_id, error)
        if number % SAMPLE_EVERY == 0:
            with telemetry.span("weir.simulation.produce", kind=SpanKind.PRODUCER, attributes={"messaging.destination.name": names.TOPIC_USER_EVENTS}):
                header = telemetry.traceparent()
                _send(client, **record, headers=[("traceparent", header)] if header else None)
        else:
            _send(client, **record)
        if number % _REPORT_EVERY == 0:
            client.poll(0)
            report(progress(number, total, time.monotonic() - began))
    for value in bad:
        _send(client, key="bad", value=value, on_delivery=lambda error, _message: told("", error))
    left = client.flush(FLUSH_S)
    telemetry.count("weir.simulation.events_produced", journal.produced)
    report(progress(journal.produced, journal.produced, time.monotonic() - began))
    if left or journal.failed:
        raise Unavailable(f"Kafka left {left + journal.failed} events unacknowledged", hint="./weir logs kafka shows why; ./weir demo again goes on")
    journal.complete = True
    return journal

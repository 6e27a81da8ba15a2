"""A bounded stream of events with a journal, produced while something is being broken.

In: the broker. Out: events on the topic; a journal of what the broker acknowledged. Keep: only acknowledged events are owed; event ids
carry the run's id, so that an oracle finds exactly this run's rows; users, item and country are made up (weir.contracts.names), never a shop's.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from dataclasses import dataclass, field

from weir.contracts import names
from weir.contracts.events import EVENT_SCHEMA_VERSION
from weir.errors import Undecided
from weir.topics.client import client_settings

USERS = 900  # spread over all partitions
FINISH_S = 240  # the producer gives an event up after 180 s, and its flush after 190 s
IDLE_S = 3.0  # a load of hundreds of events a second is acknowledged each 10 ms


@dataclass
class Journal:
    """What one run produced: `acknowledged` event ids, and `unknown`: sent, but the broker's answer never came."""

    run_id: str
    acknowledged: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)


def user(number: int) -> int:
    """Return the made-up user of event `number`. Pure."""
    return names.SYNTHETIC_ID_FROM + number % USERS


def event(run_id: str, number: int, now_ms: int) -> tuple[str, bytes]:
    """Return (event id, JSON bytes) of the run's event `number`. Pure."""
    event_id = f"{run_id}-{number:08d}"
    body = {
        "schema_version": EVENT_SCHEMA_VERSION,
        "event_id": event_id,
        "user_id": user(number),
        "item_id": names.SYNTHETIC_ID_FROM,  # one, so that it takes one place of the list of all countries' trending items
        "event_type": "view",
        "session_id": f"{run_id}-{number % USERS}",
        "country": names.SYNTHETIC_COUNTRY,
        "occurred_at": now_ms,
    }
    return event_id, json.dumps(body).encode()


class Load:
    """Produces `rate` events a second in the background until stopped, at most `limit`."""

    def __init__(self, bootstrap: str, *, rate: int = 500, limit: int = 100_000) -> None:
        self.journal = Journal(f"chaos-{uuid.uuid4().hex[:12]}")
        self.failure: Exception | None = None
        self.acknowledged_at_s = 0.0  # monotonic: of the newest acknowledgement
        self._bootstrap, self._rate, self._limit, self._sent = bootstrap, rate, limit, 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._guarded, daemon=True)

    def start(self) -> None:
        """Begin producing."""
        self._thread.start()

    @property
    def idle(self) -> str:
        """Return why a fault would find no load now: it has ended, or nothing was acknowledged lately. Empty: there is load."""
        if self._sent >= self._limit or not self._thread.is_alive():
            return f"the load had ended after {self._sent} events{f': {self.failure}' if self.failure else ''}"
        silence_s = time.monotonic() - self.acknowledged_at_s
        return f"no event was acknowledged for {silence_s:.0f} s" if silence_s > IDLE_S else ""

    @property
    def over(self) -> bool:
        """Whether all was sent, or it was stopped, and the broker has answered of each event, or will not."""
        return not self._thread.is_alive()

    def end(self) -> None:
        """Send no more; what is sent is still waited for by `finish`."""
        self._ended.set()

    def finish(self, wait_s: float = FINISH_S) -> Journal:
        """Wait until the load has come to its limit or was stopped, and for the last acknowledgements; return the journal.

        Raises:
            Undecided: the journal is not whole.
        """
        self._thread.join(timeout=wait_s)
        if self.failure is not None or self._thread.is_alive():
            raise Undecided(f"the load's journal is not whole: {self.failure or 'the producer did not end'}")
        return self.journal

    def _guarded(self) -> None:
        try:
            self._run()
        except Exception as error:  # noqa: BLE001 - raised again by who stops the load
            self.failure = error

    def _run(self) -> None:
        from confluent_kafka import Producer

        producer = Producer({
            **client_settings(self._bootstrap), "enable.idempotence": True, "acks": "all", "linger.ms": 5, "delivery.timeout.ms": 180_000,
            "log_level": 0,  # a line for each refused connection while the broker is away would drown the progress
        })
        journal = self.journal

        def told(event_id: str, error: object) -> None:
            journal.unknown.discard(event_id)
            (journal.unknown if error else journal.acknowledged).add(event_id)
            if not error:
                self.acknowledged_at_s = time.monotonic()

        began = time.monotonic()
        while not self._ended.is_set() and self._sent < self._limit:
            due = min(self._limit, int((time.monotonic() - began) * self._rate))
            for number in range(self._sent, due):
                event_id, body = event(journal.run_id, number, int(time.time() * 1000))
                journal.unknown.add(event_id)
                producer.produce(
                    names.TOPIC_USER_EVENTS, body, key=str(user(number)),
                    on_delivery=lambda error, _message, event_id=event_id: told(event_id, error),
                )
            self._sent = due
            producer.poll(0.02)
        producer.flush(190)

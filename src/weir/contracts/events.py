"""The user event and the landing rows, as values two rooms agree on.

The wire contract is `ingest/contracts/user_event.schema.json` (JSON Schema 2020-12); `ingest/contracts/item.proto` for the catalogue.

A user event on topic `user-events` is a UTF-8 JSON object, keyed by str(user_id):
    {"schema_version": 1, "event_id": "<uuid>", "user_id": 1, "item_id": 2, "event_type": "view"|"click"|"rate", "rating": 0.5..5 or absent,
     "session_id": "…", "country": "DE", "occurred_at": 1780000000123}      occurred_at: milliseconds since the epoch, UTC
The header `traceparent` (W3C) is present on sampled events. A record past MAX_EVENT_BYTES goes to the quarantine.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

EVENT_SCHEMA_VERSION: Final = 1
MAX_EVENT_BYTES: Final = 65_536  # far below the broker's message.max.bytes (1 MiB), far above a 200-byte event


class EventType(StrEnum):
    """Kinds of interaction, weakest first; weights are the ALS model's confidence."""

    VIEW = "view"
    CLICK = "click"
    RATE = "rate"


EVENT_WEIGHT: Final = {EventType.VIEW: 1.0, EventType.CLICK: 2.0, EventType.RATE: 4.0}


class RejectReason(StrEnum):
    """Why a record is in the quarantine."""

    MALFORMED = "malformed"  # not decodable at all
    OVERSIZED = "oversized"
    UNKNOWN_TYPE = "unknown_type"
    OUT_OF_RANGE = "out_of_range"
    MISSING_FIELD = "missing_field"
    CLOCK = "clock"  # occurred_at beyond the bounds against the record's Kafka timestamp
    UNKNOWN_VERSION = "unknown_version"

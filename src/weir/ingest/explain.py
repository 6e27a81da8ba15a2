"""What is wrong with a refused user event, in words that say which field and what it may be: for people who correct it.

In: a record's bytes, the reason it was refused for. Out: a sentence, or an empty text for other topics. Keep: ingest judges (`weir.ingest.decode`); this only words it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from weir.contracts import names
from weir.contracts.events import EVENT_SCHEMA_VERSION, MAX_EVENT_BYTES, EventType, RejectReason
from weir.ingest.decode import _EVENT, AHEAD_MS, BEHIND_MS, ID_CHARACTERS, RATING_MAX, RATING_MIN

_DAY_MS: Final = 86_400_000
RULES: Final = {
    RejectReason.OVERSIZED: f"an event has at most {MAX_EVENT_BYTES:,} bytes",
    RejectReason.UNKNOWN_VERSION: f"schema_version is {EVENT_SCHEMA_VERSION}",
    RejectReason.UNKNOWN_TYPE: f"event_type is one of {', '.join(EventType)}",
    RejectReason.OUT_OF_RANGE: (f"user_id and item_id are positive; event_id and session_id have 1 to {ID_CHARACTERS} characters; country is two capital letters; "
                                f"rating is left out, or {RATING_MIN} to {RATING_MAX:g}"),
    RejectReason.CLOCK: f"occurred_at is in milliseconds since the epoch, at most {BEHIND_MS // _DAY_MS} days before and {AHEAD_MS // 60_000} minutes after the record's own time",
}


def explain(topic: str, value: bytes, reason: str) -> str:
    """Return what a user event that was refused for `reason` (a `RejectReason`) lacks, or the rule that it breaks; empty for another topic, and where nothing can be said."""
    if topic != names.TOPIC_USER_EVENTS or reason not in set(RejectReason):
        return ""
    if rule := RULES.get(RejectReason(reason)):
        return rule
    try:
        _EVENT.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return f"{error}".replace("`", "").replace("$.", "")
    return ""

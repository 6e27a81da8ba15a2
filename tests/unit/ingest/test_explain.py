"""What is said of a refused event names the field, for every reason that ingest has for one."""
import json

import pytest

from weir.contracts import names
from weir.contracts.events import EVENT_SCHEMA_VERSION, MAX_EVENT_BYTES
from weir.ingest.decode import DECODERS
from weir.ingest.explain import explain
from weir.ingest.record import Record

NOW = 1_790_000_000_000
GOOD = {"schema_version": EVENT_SCHEMA_VERSION, "event_id": "e", "user_id": 1, "item_id": 2, "event_type": "view", "session_id": "s", "country": "DE", "occurred_at": NOW}


@pytest.mark.parametrize(("value", "reason", "said"), [
    ({k: v for k, v in GOOD.items() if k != "user_id"}, "missing_field", "required field user_id"),
    ({**GOOD, "user_id": "x"}, "malformed", "user_id"),
    (b'{"cut', "malformed", "truncated"),
    ({**GOOD, "country": "de"}, "out_of_range", "two capital letters"),
    ({**GOOD, "event_type": "teleport"}, "unknown_type", "view"),
    ({**GOOD, "schema_version": 99}, "unknown_version", f"is {EVENT_SCHEMA_VERSION}"),
    ({**GOOD, "occurred_at": NOW // 1000}, "clock", "milliseconds"),
    ({**GOOD, "padding": "x" * MAX_EVENT_BYTES}, "oversized", f"{MAX_EVENT_BYTES:,} bytes"),
])  # fmt: skip
def test_each_reason_is_put_into_words_that_help(value, reason, said):
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    judged = str(DECODERS["user_event"]([Record(names.TOPIC_USER_EVENTS, 0, 0, NOW, None, raw, "")], "")["reject_reason"][0].as_py())
    assert judged == reason
    assert said in explain(names.TOPIC_USER_EVENTS, raw, judged)


def test_another_topic_and_an_accepted_event_are_told_nothing():
    assert explain("item-catalogue", b"x", "malformed") == explain(names.TOPIC_USER_EVENTS, json.dumps(GOOD).encode(), "") == ""

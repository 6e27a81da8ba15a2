"""The JSON Schema of the user event and the decoder accept the same records, but for what is listed here."""
import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from weir.contracts.events import EVENT_SCHEMA_VERSION, MAX_EVENT_BYTES, EventType
from weir.ingest.decode import AHEAD_MS, BEHIND_MS, user_events
from weir.ingest.record import Record

NOW = 1780000000000
SCHEMA = json.loads((Path(__file__).resolve().parents[3] / "ingest" / "contracts" / "user_event.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
GOOD = {"schema_version": 1, "event_id": "3f0d7c9e", "user_id": 5, "item_id": 6, "event_type": "rate", "rating": 3.5, "session_id": "s-1", "country": "DE", "occurred_at": NOW}
NUMBER = st.one_of(st.integers(-(2**66), 2**66), st.sampled_from([0, 1, -1, 2**63 - 1, 2**63, NOW, 1.5, 0.5, 0.49, 5, 5.01]), st.floats(allow_nan=False, allow_infinity=False))
TEXT = st.text(st.characters(exclude_categories=()), max_size=4)  # halves of surrogate pairs too
ODD = st.one_of(st.none(), st.booleans(), NUMBER, TEXT, st.text("aé", min_size=60, max_size=70), st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=2), st.none(), max_size=2),
                st.sampled_from(["DE", "de", "DE\n", "DEU", "ÄÖ", "view", "click", "rate", "bought", "1", ""]))
CHANGES = st.dictionaries(st.one_of(st.sampled_from([*GOOD]), TEXT), st.one_of(ODD, st.just(...)), max_size=4)


def accepted(value):
    return user_events([Record("user-events", 0, 0, NOW, None, value, "")], "b").column("reject_reason")[0].as_py() == ""


def changed(changes):
    return json.dumps({k: v for k, v in {**GOOD, **changes}.items() if v is not ...}).encode()


def _surrogate(value):
    return any("\ud800" <= letter <= "\udfff" for letter in json.dumps(value, ensure_ascii=False))


WHOLE = [name for name, rule in SCHEMA["properties"].items() if rule.get("type") == "integer" or "const" in rule]
# What the schema accepts and the decoder does not, and nothing the other way: the schema sees neither the record's Kafka timestamp nor its bytes.
EXCEPTIONS = {
    "the event's time is out of the bounds against the record's Kafka timestamp":
        lambda document, _: not NOW - BEHIND_MS <= document["occurred_at"] <= NOW + AHEAD_MS,
    "the record is larger than a record may be": lambda _, value: len(value) > MAX_EVENT_BYTES,
    "a whole number is written as a fraction, 1.0, which is an integer to JSON Schema": lambda document, _: any(isinstance(document[name], float) for name in WHOLE),
    "an escape stands for half a character, which is no text in UTF-8": lambda document, _: _surrogate(document),
}


@settings(max_examples=400, deadline=None)
@given(CHANGES)
def test_a_record_is_valid_by_the_schema_exactly_when_the_decoder_accepts_it(changes):
    value = changed(changes)
    document = json.loads(value)
    valid = VALIDATOR.is_valid(document)
    event(f"valid: {valid}")
    if accepted(value):
        assert valid
    elif valid:
        assert any(holds(document, value) for holds in EXCEPTIONS.values()), document


@pytest.mark.parametrize(("changes", "why"), [
    ({"occurred_at": NOW + AHEAD_MS + 1}, "Kafka timestamp"), ({"added": "x" * MAX_EVENT_BYTES}, "larger"), ({"user_id": 1.0}, "fraction"), ({"schema_version": 1.0}, "fraction"),
    ({"session_id": "\ud800"}, "half a character"),
])
def test_each_exception_is_one(changes, why):
    value = changed(changes)
    assert (VALIDATOR.is_valid(json.loads(value)), accepted(value)) == (True, False)
    assert [why in name for name, holds in EXCEPTIONS.items() if holds(json.loads(value), value)] == [True]


def test_the_schema_says_what_the_code_does():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["properties"]["schema_version"] == {"const": EVENT_SCHEMA_VERSION}
    assert SCHEMA["properties"]["event_type"] == {"enum": [t.value for t in EventType]}
    assert f"at most {MAX_EVENT_BYTES} bytes" in SCHEMA["description"]


@pytest.mark.parametrize(("changes", "wanted"), [
    ({}, True), ({"added_later": {"any": 1}}, True), ({"rating": ...}, True), ({"rating": None}, True), ({"country": "DE\n"}, False), ({"schema_version": EVENT_SCHEMA_VERSION + 1}, False),
    ({"schema_version": True}, False), ({"session_id": "é" * 64}, True), ({"session_id": "é" * 65}, False), ({"rating": 0.4999}, False),
])
def test_both_say_the_same_of_what_is_near_a_bound(changes, wanted):
    value = changed(changes)
    assert (VALIDATOR.is_valid(json.loads(value)), accepted(value)) == (wanted, wanted)

import json

import pytest

from weir.contracts.events import MAX_EVENT_BYTES, RejectReason
from weir.ingest.decode import AHEAD_MS, BEHIND_MS, catalogue_items, debezium, user_events
from weir.ingest.record import RAW_KEPT_BYTES, Record

NOW_MS = 1_780_000_000_000
GOOD = {"schema_version": 1, "event_id": "e", "user_id": 1, "item_id": 2, "event_type": "click", "session_id": "s", "country": "DE", "occurred_at": NOW_MS}


def record(value, offset=0):
    return Record("t", 0, offset, NOW_MS, b"1", value, "")


def like(**other):
    return json.dumps({k: v for k, v in {**GOOD, **other}.items() if v is not ...}).encode()


def reason(decoder, value):
    table = decoder([record(value)], "b")
    assert table.num_rows == 1
    return table.column("reject_reason")[0].as_py()


BAD = [
    (b"", "malformed"), (None, "malformed"), (b"{", "malformed"), (b"\xff\xfe", "malformed"), (b"[]", "malformed"), (b"null", "malformed"), (b'"text"', "malformed"),
    (like(user_id="1"), "malformed"), (like(user_id=1.5), "malformed"), (like(user_id=None), "malformed"), (like(event_id=7), "malformed"), (like(rating="5"), "malformed"),
    (like(user_id=2**80), "out_of_range"), (b'{"event_id":"\xff"}', "malformed"), (like()[:-1] + b',"rating":NaN}', "malformed"),
    *[(like(**{name: ...}), "missing_field") for name in GOOD],
    (like(schema_version=2), "unknown_version"), (like(event_type="bought"), "unknown_type"), (like(event_type=""), "unknown_type"),
    (like(user_id=0), "out_of_range"), (like(item_id=-1), "out_of_range"), (like(user_id=2**63), "out_of_range"), (like(rating=5.5), "out_of_range"), (like(rating=0.4), "out_of_range"),
    (like(country="de"), "out_of_range"), (like(country="DEU"), "out_of_range"), (like(country="DE\n"), "out_of_range"), (like(event_id=""), "out_of_range"),
    (like(session_id="s" * 65), "out_of_range"),
    (like(occurred_at=NOW_MS + AHEAD_MS + 1), "clock"), (like(occurred_at=NOW_MS - BEHIND_MS - 1), "clock"), (like(occurred_at=NOW_MS // 1000), "clock"), (like(occurred_at=2**63 - 1), "clock"),
    (like(session_id="s" * MAX_EVENT_BYTES), "oversized"),
]


@pytest.mark.parametrize(("value", "wanted"), BAD)
def test_a_bad_event_has_its_reason(value, wanted):
    assert reason(user_events, value) == wanted


def test_every_reason_is_met():
    assert {wanted for _, wanted in BAD} == set(RejectReason)


@pytest.mark.parametrize("value", [
    like(), like(rating=0.5), like(rating=5), like(rating=None), like(occurred_at=NOW_MS + AHEAD_MS), like(occurred_at=NOW_MS - BEHIND_MS), like(user_id=2**63 - 1),
    like(a_field_of_tomorrow=1),
])
def test_what_is_within_the_bounds_is_accepted(value):
    assert reason(user_events, value) == ""


def test_bad_records_stand_among_the_good_ones_in_their_order_with_their_bytes():
    table = user_events([record(like(), 1), record(b"x" * 70_000, 2), record(like(), 3)], "b")
    assert table.column("offset").to_pylist() == [1, 2, 3]
    assert table.column("reject_reason").to_pylist() == ["", "oversized", ""]
    assert [len(raw) for raw in table.column("raw").to_pylist()] == [0, RAW_KEPT_BYTES, 0]
    assert table.column("user_id").to_pylist() == [1, 0, 1]


@pytest.mark.parametrize(("value", "wanted"), [(b"{", "malformed"), (b"{}", "malformed"), (b'{"op":"x"}', "unknown_type"), (b'{"op":7}', "malformed"), (None, ""), (b'{"op":"d"}', "")])
def test_a_change_that_is_none_of_debeziums_has_its_reason(value, wanted):
    assert reason(debezium, value) == wanted


@pytest.mark.parametrize(("value", "wanted"), [(b"\xff", "malformed"), (b"", "missing_field"), (b"x" * (MAX_EVENT_BYTES + 1), "oversized"), (None, "malformed")])
def test_a_catalogue_entry_that_is_none_has_its_reason(value, wanted):
    assert reason(catalogue_items, value) == wanted

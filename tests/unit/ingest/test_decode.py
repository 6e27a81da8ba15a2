import json

import pytest

from weir.contracts import cdc, names
from weir.contracts.catalogue import ItemCatalogueEntry
from weir.contracts.events import MAX_EVENT_BYTES, RejectReason
from weir.ingest.decode import AHEAD_MS, BEHIND_MS, catalogue_items, debezium, user_events
from weir.ingest.envelope import RAW_KEPT_BYTES
from weir.ingest.record import Record

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
    (like(session_id="s" * MAX_EVENT_BYTES), "oversized"), (like()[:-1] + b',"deep":' + b"[" * 30_000 + b"]" * 30_000 + b"}", "malformed"),
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


KEY = b'{"user_id":1}'
ROW = b'{"op":"c","after":{"age":30}'


def change(value, key=KEY, topic=names.TOPIC_CDC_USERS):
    table = debezium([Record(topic, 0, 0, NOW_MS, key, value, "")], "b")
    assert table.num_rows == 1
    return table.column("reject_reason")[0].as_py()


@pytest.mark.parametrize(("value", "wanted"), [
    (b"{", "malformed"), (b"{}", "malformed"), (b'{"op":"x"}', "unknown_type"), (b'{"op":7}', "malformed"), (None, ""), (b'{"op":"d"}', ""), (b'{"op":"t"}', ""),
    (b'{"op":"d","before":{"user_id":1},"after":null}', ""), (ROW + b"}", ""), (ROW + b',"before":null,"source":{"lsn":0,"ts_ms":0,"txId":null}}', ""),
    (b'{"op":"c","after":{"a":"\xff"}}', "malformed"), (b'{"op":"d","before":{"a":"\xff"}}', "malformed"), (b'{"op":"c","after":' + b'{"a":' * 9000, "malformed"),
    *[(b'{"op":"%s"}' % op, "missing_field") for op in (b"c", b"u", b"r")], (b'{"op":"u","after":null}', "missing_field"),
    (b'{"op":"u","after":7}', "malformed"), (b'{"op":"r","after":[]}', "malformed"), (b'{"op":"c","after":"{}"}', "malformed"), (b'{"op":"d","before":7}', "malformed"),
    *[(ROW + b',"source":{"%s":%d}}' % (name, number), "out_of_range") for name in (b"lsn", b"txId", b"ts_ms") for number in (-1, 2**63, 2**70)],
    (ROW + b',"source":{"ts_ms":10413792000000}}', "out_of_range"), (ROW + b',"source":{"lsn":1.5}}', "malformed"),
])
def test_a_change_that_is_none_of_debeziums_has_its_reason(value, wanted):
    assert change(value) == wanted


LONG, SHORT = b"x" * cdc.CHANGE_BYTES, b"x" * (cdc.SURE_BYTES - 20)


@pytest.mark.parametrize(("op", "before", "after", "wanted"), [
    (b"c", b"", LONG, "oversized"), (b"r", b"", LONG, "oversized"), (b"u", LONG, SHORT, ""), (b"u", LONG, SHORT + b"x" * 40, "oversized"), (b"u", LONG[:-200], SHORT + b"x" * 40, "oversized"),
    (b"c", b"", LONG[:-60], ""), (b"d", LONG, None, ""),
])
def test_a_change_that_debezium_may_have_shortened_is_none_unless_its_row_afterwards_is_too_small_for_that(op, before, after, wanted):
    row = b"null" if after is None else b'{"user_id":1,"a":"%s"}' % after
    assert change(b'{"op":"%s","before":{"a":"%s"},"after":%s}' % (op, before, row)) == wanted


@pytest.mark.parametrize(("key", "wanted"), [
    (None, "missing_field"), (b"", "malformed"), (b"null", "malformed"), (b"7", "malformed"), (b"\xff", "malformed"), (b"{}", "missing_field"), (b"[" * 9000, "malformed"),
    (b'{"item_id":1}', "missing_field"), (b'{"user_id":null}', "malformed"), (b'{"user_id":"1"}', "malformed"), (b'{"user_id":true}', "malformed"),
    (b'{"user_id":%d}' % 2**63, "out_of_range"), (b'{"user_id":%d}' % (2**63 - 1), ""),
])
def test_a_change_of_a_row_needs_a_key_that_names_the_row(key, wanted):
    assert [change(value, key) for value in (b'{"op":"d"}', ROW + b"}")] == [wanted] * 2
    assert change(b'{"op":"t"}', key) == "", "a truncate is of the table"


def test_of_a_table_that_the_contract_does_not_know_any_object_is_a_key_and_no_key_is_one():
    assert [change(ROW + b"}", key, "shop.public.orders") for key in (b'{"a":"x","b":2}', b"{}", None)] == ["", "missing_field", ""]


def item(**fields):
    return ItemCatalogueEntry(**{"item_id": 5, "title": "Alien", **fields}).SerializeToString()


@pytest.mark.parametrize(("value", "wanted"), [
    (item(), ""), (item(release_year=1979, updated_at_ms=NOW_MS, item_id=2**63 - 1, catalogue_version=2**64 - 1), ""), (item(release_year=9999), ""),
    (item(item_id=0), "missing_field"), (item(title=""), "missing_field"), (item(item_id=-1), "out_of_range"), (b"\x08" + b"\x80" * 9 + b"\x01" + item()[2:], "out_of_range"),
    *[(item(release_year=year), "out_of_range") for year in (-1, 10_000, 2**31 - 1)], *[(item(updated_at_ms=at), "out_of_range") for at in (-1, 10_413_792_000_000, 2**63 - 1)],
])
def test_a_catalogue_entry_is_within_bounds(value, wanted):
    assert reason(catalogue_items, value) == wanted


@pytest.mark.parametrize(("value", "wanted"), [(b"\xff", "malformed"), (b"", "missing_field"), (b"x" * (MAX_EVENT_BYTES + 1), "oversized"), (None, "malformed")])
def test_a_catalogue_entry_that_is_none_has_its_reason(value, wanted):
    assert reason(catalogue_items, value) == wanted

"""Reading a block by column gives what reading record by record gives: every accepted value, every reason."""
import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.contracts.events import MAX_EVENT_BYTES
from weir.ingest import decode, intent, lane
from weir.ingest.batch import DAY_MS, Batch
from weir.ingest.record import Record

NOW = 1780000000000
EVENT = {"schema_version": 1, "event_id": "3f0d7c9e-3c1b-5d0e-9a8e-2f1b7a5c4d31", "user_id": 5, "item_id": 6, "event_type": "view", "session_id": "s-1",
         "country": "DE", "occurred_at": NOW}
GOOD = json.dumps(EVENT).encode()
COMPACT = json.dumps({**EVENT, "event_type": "rate", "rating": 3.3}, separators=(",", ":")).encode()


def changed(**fields):
    return json.dumps({**EVENT, **fields}).encode()


ODD = {
    "a fraction for an id": changed(user_id=1.5), "a whole float for an id": changed(user_id=1.0), "a text for an id": changed(user_id="7"),
    "a boolean for an id": changed(user_id=True), "a number for a text": changed(session_id=5), "a number for a text and a field more": changed(session_id=5, extra=1),
    "a boolean for a text": changed(session_id=True, extra=1), "a list for a text": changed(event_id=["x"]), "an object for a text": changed(event_id={"a": 1}),
    "null for a text": changed(session_id=None), "past Int64": changed(user_id=2**63), "far past Int64": changed(user_id=2**70), "the lowest Int64": changed(user_id=-(2**63)),
    "an exponent": GOOD.replace(b'"user_id": 5', b'"user_id": 1e3'), "a leading zero": GOOD.replace(b'"user_id": 5', b'"user_id": 05'),
    "a rating as text": changed(rating="4"), "a rating as boolean": changed(rating=True), "a rating as integer": changed(rating=4), "a null rating": changed(rating=None),
    "not a number": GOOD.replace(b"}", b',"rating":NaN}'), "too large a number": GOOD.replace(b"}", b',"rating":1e999}'),
    "many digits": GOOD.replace(b"}", b',"rating":3.3000000000000000000001}'),
    "a field twice": GOOD.replace(b'"user_id": 5', b'"user_id": 5,"user_id":9'), "a text twice": GOOD.replace(b"}", b',"session_id":"t"}'),
    "cut": GOOD[:-9], "cut and closed": GOOD[:-9] + b"}", "something after": GOOD + b"x}", "two in one": GOOD + GOOD, "opened only": b'{"a":', "empty": b"", "blank": b" ",
    "not UTF-8": GOOD.replace(b'"s-1"', b'"\xff"'), "not UTF-8 in a field that is not ours": GOOD.replace(b"}", b',"z":"\xff"}'),
    "half a surrogate": GOOD.replace(b'"s-1"', b'"\\ud800"'), "escapes": GOOD.replace(b'"s-1"', b'"\\u0041\\n\\""'), "a control character": GOOD.replace(b'"s-1"', b'"\x01"'),
    "an escaped name": GOOD.replace(b'"user_id"', b'"\\u0075ser_id"'), "not an object": b"[1]", "a number alone": b"7", "no fields": b"{}", "null alone": b"null",
    "a field that is not ours": changed(z={"a": [1, {"b": 2}]}), "a comma too many": GOOD.replace(b"}", b",}"), "a line end inside": GOOD.replace(b", ", b",\n"),
    "a byte order mark": b"\xef\xbb\xbf" + GOOD, "blanks around": b" " + GOOD + b" ", "a numeric session": changed(session_id="123"), "a session named true": changed(session_id="true"),
    "64 characters": changed(session_id="é" * 64), "65 characters": changed(session_id="s" * 65), "no characters": changed(event_id=""), "small letters": changed(country="de"),
    "a line end after the country": changed(country="DE\n"), "three letters": changed(country="DEU"), "another type": changed(event_type="teleport"),
    "another version": changed(schema_version=2), "a version as text": changed(schema_version="1"), "zero": changed(item_id=0), "too late": changed(occurred_at=NOW + 300_001),
    "just in time": changed(occurred_at=NOW + 300_000), "too old": changed(occurred_at=NOW - decode.BEHIND_MS - 1), "rated too high": changed(rating=5.1),
    "rated lowest": changed(rating=0.5), "too large": changed(padding="x" * MAX_EVENT_BYTES), "no value": None,
    "nested deep": GOOD[:-1] + b', "z":' + b"[" * 9000 + b"]" * 9000 + b"}", "compact and rated": COMPACT,
}


def both(values):
    """The columns and reasons of `values`, read at once and one by one."""
    records = [Record("user-events", 0, n, NOW, None, v, "") for n, v in enumerate(values)]
    one_by_one, reasons = decode._events_one_by_one(records)
    return decode.user_events(records, "b"), one_by_one, reasons


def check(values):
    table, columns, reasons = both(values)
    assert table.column("reject_reason").to_pylist() == reasons
    for name, column in columns.items():
        assert table.column(name).to_pylist() == column.to_pylist(), name
    assert [bool(raw) for raw in table.column("raw").to_pylist()] == [bool(reason and v) for reason, v in zip(reasons, values, strict=True)]


@pytest.mark.parametrize("name", ODD)
def test_an_odd_record_among_good_ones_is_read_as_alone(name):
    check([GOOD, ODD[name], COMPACT])


def test_all_odd_records_in_one_block_are_read_as_alone():
    check(list(ODD.values()))


def test_good_records_are_read_by_column():
    records = [Record("user-events", 0, n, NOW, None, COMPACT, "") for n in range(9)]
    found = decode.fast.read(Batch(records), lambda: decode._acceptable(decode.pl.Series([NOW] * 9)), decode._decodes)
    assert found is not None
    assert found[1].all()


FIELD = st.one_of(st.none(), st.booleans(), st.integers(-(2**65), 2**65), st.floats(allow_nan=False), st.text(max_size=5), st.sampled_from(["DE", "rate", "1", "true", "[1]"]))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(
    st.sampled_from(list(ODD.values())),
    st.dictionaries(st.sampled_from([*EVENT, "rating", "more"]), FIELD, max_size=3).map(lambda d: changed(**d)),
    st.tuples(st.integers(0, len(COMPACT)), st.binary(max_size=3)).map(lambda t: COMPACT[: t[0]] + t[1] + COMPACT[t[0] + len(t[1]):]),
), min_size=1, max_size=8))
def test_any_block_is_read_as_its_records_are(values):
    check(values)


def test_a_batch_is_ordered_by_topic_partition_and_offset_however_it_came():
    places = [("b", 0, 1), ("a", 1, 5), ("a", 0, 9), ("a", 0, 3), ("b", 0, 0), ("a", 1, 4)]
    for came in (places, places[::-1], sorted(places), [("a", 1, 1), ("a", 0, 2), ("a", 0, 3)], [("a", 0, 3), ("a", 0, 2)], []):
        found = Batch([Record(t, p, o, NOW, None, b"", "") for t, p, o in came]).ordered()
        assert (found.partition.tolist(), found.offset.tolist()) == ([r.partition for r in found], [r.offset for r in found])
        assert [(r.topic, r.partition, r.offset) for r in found] == sorted(came)


@pytest.mark.parametrize("change", [{"offset": 8}, {"timestamp_ms": NOW + 1}, {"value": b"xz"}, {"value": None}, {"partition": 2}, {"topic": "b"}])
def test_the_token_is_of_everything_that_makes_a_row(change):
    records = [Record("a", 1, 6, NOW, None, b"x", ""), Record("a", 1, 7, NOW, None, b"y", "")]
    other = [records[0], msgspec.structs.replace(records[1], **change)]
    assert intent.of(records).token == intent.of(list(records)).token
    assert intent.of(records).token != intent.of(other).token


def test_values_that_only_join_alike_have_another_token():
    def token(*values):
        return intent.of([Record("a", 0, n, NOW, None, v, "") for n, v in enumerate(values)]).token

    assert len({token(b"ab", b"c"), token(b"a", b"bc"), token(b"", b"abc"), token(None, b"abc")}) == 4


def test_a_batch_ends_where_kafkas_day_does():
    records = [Record("a", 0, n, ms, None, b"", "") for n, ms in enumerate([DAY_MS, 2 * DAY_MS - 1, 2 * DAY_MS, DAY_MS])]
    assert [len(lane.cut(r, rows)) for r, rows in ((records, 10), (records[:2], 10), (records[:2], 1), (records[2:], 10))] == [2, 2, 1, 1]

"""Whatever stands in a topic: no decoder raises, every record is a row or a reason, and the rows can be written as Arrow."""
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from weir.contracts import names
from weir.contracts.catalogue import ItemCatalogueEntry
from weir.contracts.events import RejectReason
from weir.ingest.decode import arrow_stream, catalogue_items, debezium, user_events
from weir.ingest.record import Record

NOW = 1780000000000
NUMBER = st.one_of(st.integers(-(2**70), 2**70), st.sampled_from([-1, 0, 2**31, 2**63 - 1, 2**63, 2**64, 10**13, 10**18]))
ANY = st.recursive(st.one_of(st.none(), st.booleans(), NUMBER, st.floats(), st.text(max_size=5)), lambda inner: st.one_of(
    st.lists(inner, max_size=2), st.dictionaries(st.sampled_from(["user_id", "item_id", "age", "op"]), inner, max_size=2)), max_leaves=4)
ROW = st.one_of(st.fixed_dictionaries({"user_id": NUMBER}), ANY)
SOURCE = st.fixed_dictionaries({}, optional={"lsn": st.one_of(NUMBER, ANY), "ts_ms": st.one_of(NUMBER, ANY), "txId": st.one_of(NUMBER, ANY), "snapshot": ANY})
CHANGE = st.fixed_dictionaries({}, optional={"op": st.one_of(st.sampled_from("crudtx"), ANY), "before": ROW, "after": ROW, "source": st.one_of(SOURCE, ANY)})
ITEM = st.builds(
    lambda **fields: ItemCatalogueEntry(**fields).SerializeToString(), item_id=st.integers(-(2**63), 2**63 - 1), title=st.text(max_size=3), genres=st.lists(st.text(max_size=3), max_size=2),
    release_year=st.integers(-(2**31), 2**31 - 1), is_active=st.booleans(), catalogue_version=st.integers(0, 2**64 - 1), updated_at_ms=st.integers(-(2**63), 2**63 - 1))


def spoilt(values):
    """Some of `values` with bytes written over them, or cut."""
    return st.one_of(values, st.tuples(values, st.integers(0, 80), st.binary(max_size=3)).map(lambda t: t[0][: t[1]] + t[2] + t[0][t[1] + len(t[2]):]), st.binary(max_size=12), st.none())


def as_json(values):
    return spoilt(values.map(lambda v: json.dumps(v, ensure_ascii=False).encode(errors="surrogatepass")))


def records(keys, values):
    one = st.builds(lambda topic, key, value, at: Record(topic, 0, 0, at, key, value, ""),
                    st.sampled_from([names.TOPIC_CDC_USERS, names.TOPIC_CDC_ITEMS, "t"]), keys, values, st.sampled_from([NOW, 0, -1]))
    return st.lists(one, min_size=1, max_size=4)


def decoded(decoder, given_records):
    """The rows, each of which is accepted or has a reason of the contract."""
    table = decoder(given_records, "b")
    assert arrow_stream(table)
    reasons = table.column("reject_reason").to_pylist()
    assert len(reasons) == len(given_records)
    assert set(reasons) <= {"", *RejectReason}
    return table.to_pylist()


@settings(max_examples=400, deadline=None)
@given(records(as_json(st.one_of(st.fixed_dictionaries({"user_id": NUMBER}), ANY)), as_json(st.one_of(CHANGE, ANY))))
def test_any_change_is_a_row_or_a_reason(given_records):
    for row, record in zip(decoded(debezium, given_records), given_records, strict=True):
        if row["reject_reason"] == "" and row["op"] in {"c", "r", "u", "d"}:
            key = {names.TOPIC_CDC_USERS: "user_id", names.TOPIC_CDC_ITEMS: "item_id"}.get(record.topic)
            assert isinstance(json.loads(row["key"])[key] if key else 0, int)
            assert all(isinstance(json.loads(row[name]), dict) for name in ("before", "after") if row[name])
            assert row["after"] or row["op"] == "d"


@settings(max_examples=300, deadline=None)
@given(records(st.none(), spoilt(ITEM)))
def test_any_catalogue_entry_is_a_row_or_a_reason(given_records):
    for row in decoded(catalogue_items, given_records):
        assert row["reject_reason"] or (row["item_id"] > 0 and row["title"])


@settings(max_examples=300, deadline=None)
@given(records(st.none(), as_json(ANY)))
def test_any_event_is_a_row_or_a_reason(given_records):
    decoded(user_events, given_records)

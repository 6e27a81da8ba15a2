"""What is compared, what a snapshot sees, what a difference is, and what a repair asks for: without a database."""
import json

import pytest

from weir.contracts import cdc
from weir.errors import ContractViolation
from weir.reconcile.outcome import Answer, Outcome, overall
from weir.reconcile.plan import KEYS, Difference, differences, make, unequal, visible
from weir.reconcile.repair import SIGNAL_BYTES, delete_record, key_json, signals
from weir.reconcile.sink import listed
from weir.reconcile.source import text_of

USERS = cdc.CDC_TABLES["users"]
SOURCE = [("user_id", "bigint", False), ("zip_code", "text", False), ("score", "numeric", True), ("updated_at", "timestamp with time zone", False)]
SINK = {"user_id": "Int64", "zip_code": "String", "score": "Float64", "version": "UInt64"}


@pytest.fixture
def plan():
    return make(USERS, SOURCE, ["user_id"], SINK)


def test_columns_that_cannot_be_compared_are_named_and_not_left_out_in_silence(plan):
    assert [c.name for c in plan.columns] == ["user_id", "zip_code"]
    assert [u.split(":")[0] for u in plan.unchecked] == ["score", "updated_at"]


@pytest.mark.parametrize(("key", "sink"), [([], SINK), (["score"], SINK), (["user_id"], {"zip_code": "String"})])
def test_a_table_without_a_comparable_key_is_refused(key, sink):
    with pytest.raises(ContractViolation, match="no primary key"):
        make(USERS, SOURCE, key, sink)


def test_both_sides_take_the_same_keys_and_the_sink_leaves_bulk_rows_out(plan):
    for at_source, in_sink in (plan.buckets(6), plan.buckets(10, [3]), plan.rows(), plan.rows(bits=6, inside=[1])):
        assert at_source.count(KEYS) == in_sink.count(KEYS) == 1
        assert f"version >= {1 << 48}" in in_sink
        assert "FROM staging.int_users WHERE" in in_sink  # a view: FINAL, and nothing of before a TRUNCATE


def test_the_bulk_rows_of_an_added_table_are_its_own_and_are_compared():
    added = make(cdc.CdcTable("orders", "public.orders", "shop.public.orders", "captured.orders__1", "captured.orders"), SOURCE, ["user_id"], SINK)
    assert "version >= 0 AND" in added.buckets(6)[1]


def test_a_snapshot_sees_what_committed_before_it_also_where_ids_have_wrapped():
    assert [visible(x, "100:105:100,103") for x in (99, 100, 101, 103, 104, 105)] == [True, False, True, False, True, False]
    epoch = 1 << 32
    assert [visible(x, f"{epoch + 5}:{epoch + 5}:") for x in (4294967290, 4, 5)] == [True, True, False]
    assert not visible(3, f"{epoch - 2}:{epoch - 2}:")


def test_each_kind_of_difference_is_told_apart():
    source, sink = {("1",): [1], ("2",): [2], ("3",): [3], ("5",): [5]}, {("2",): [9], ("3",): [3, 3], ("4",): [4], ("5",): [5]}
    assert differences(source, sink) == [
        Difference(("1",), "missing", 1, None), Difference(("2",), "different", 2, 9), Difference(("3",), "doubled", 3, 3), Difference(("4",), "extra", None, 4)]


def test_buckets_differ_by_rows_by_hash_or_by_being_there():
    assert unequal({1: (2, 7), 2: (1, 5), 3: (1, 1)}, {1: (2, 7), 2: (1, 6), 4: (3, 3)}) == {2: 1, 3: 1, 4: 3}


def test_every_key_is_in_one_signal_and_no_signal_is_too_long(plan):
    keys = [(str(10**15 + n),) for n in range(1000)]
    documents = signals(plan, keys)
    assert max(len(d.encode()) for d in documents) <= SIGNAL_BYTES
    conditions = [json.loads(d)["additional-conditions"][0] for d in documents]
    assert {c["data-collection"] for c in conditions} == {"public.users"}
    asked = [k for c in conditions for k in c["filter"].removeprefix('"user_id" IN (').removesuffix(")").split(", ")]
    assert asked == [k for (k,) in keys]
    assert signals(plan, []) == []


def test_a_text_in_a_key_stays_a_literal_on_both_sides():
    plan = make(USERS, [("a", "text", False), ("b", "integer", False)], ["a", "b"], {"a": "String", "b": "Int32"})
    assert plan.condition([("o'x", "1"), ("y", "2")]) == "(\"a\", \"b\") IN (('o''x', 1), ('y', 2))"
    assert (plan.framed(("é", "1")), listed([plan.framed(("o'\\", "1"))])) == ("2:é1:1", "'-', '3:o\\'\\\\1:1'".replace("3:", "3:"))
    assert key_json(plan, ("é", "1")) == '{"a":"é","b":1}'.encode()


def test_a_delete_of_ours_has_no_lsn_and_no_transaction(plan):
    record = json.loads(delete_record(plan, 5))
    assert (record["op"], record["source"]["table"], record["source"].get("lsn"), record["source"].get("txId")) == ("d", "users", None, None)


def test_unknown_never_passes_and_a_difference_outweighs_it():
    made = {a: Outcome("table", "users", a) for a in Answer}
    assert overall([]) is Answer.UNKNOWN
    assert overall([made[Answer.YES], made[Answer.UNKNOWN]]) is Answer.UNKNOWN
    assert overall([made[Answer.NO], made[Answer.UNKNOWN]]) is Answer.NO
    assert overall([made[Answer.YES]]) is Answer.YES
    assert made[Answer.UNKNOWN].document()["verified_through"] is None
    assert Outcome("table", "users", Answer.YES, verified_lsn=(2 << 32) | 0xAB, verified_at_ms=0).document()["verified_through"] == {"lsn": "2/AB", "at": "1970-01-01T00:00:00.000+00:00"}
    assert text_of(1 << 32) == "1/0"

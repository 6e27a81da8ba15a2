"""What a change of a source table means: safe only when no row lands as another value than the source has."""
from dataclasses import replace

import pytest

from weir.contracts import captured
from weir.contracts.captured import Captured, State
from weir.contracts.schema import Kind, SourceColumn, changes

ID, AGE = SourceColumn("id", "bigint", nullable=False, position=1), SourceColumn("age", "integer", nullable=False, position=2)
NOTE = SourceColumn("note", "character varying(20)", position=3)
WAS = (ID, AGE, NOTE)
USED = {"id", "age", "note"}


def only(now, used=frozenset(USED)):
    (found,) = changes(WAS, now, used)
    return found.kind, found.column, found.safe


def test_nothing_changed_is_no_change():
    assert changes(WAS, WAS, USED) == []


@pytest.mark.parametrize(("now", "expected"), [
    ((*WAS, SourceColumn("nick", "text", position=4)), (Kind.ADDED, "nick", True)),
    ((*WAS, SourceColumn("n", "integer", nullable=False, position=4, default="7")), (Kind.ADDED, "n", True)),
    ((*WAS, SourceColumn("n", "integer", position=4, generated="v")), (Kind.ADDED, "n", True)),
    ((*WAS, SourceColumn("m", "int4multirange", position=4)), (Kind.ADDED, "m", False)),
    ((ID, NOTE), (Kind.DROPPED, "age", False)),
    ((ID, NOTE, replace(AGE, position=4)), (Kind.DROPPED, "age", False)),
    ((ID, replace(AGE, name="years"), NOTE), (Kind.RENAMED, "age", False)),
    ((ID, replace(AGE, type="text"), NOTE), (Kind.TYPE, "age", False)),
    ((ID, replace(AGE, type="bigint"), NOTE), (Kind.TYPE, "age", False)),
    ((ID, AGE, replace(NOTE, type="text")), (Kind.TYPE, "note", True)),
    ((ID, replace(AGE, nullable=True), NOTE), (Kind.NULLABLE, "age", False)),
    ((ID, AGE, replace(NOTE, nullable=False)), (Kind.NOT_NULL, "note", True)),
    ((ID, AGE, replace(NOTE, default="'x'::text")), (Kind.DEFAULT, "note", True)),
])
def test_each_change_is_told_apart_and_judged(now, expected):
    assert only(now) == expected


@pytest.mark.parametrize("now", [(ID, AGE), (ID, AGE, replace(NOTE, name="remark")), (ID, AGE, replace(NOTE, type="integer")), (ID, AGE, replace(NOTE, type="bytea"))])
def test_a_column_that_nothing_reads_may_change_freely(now):
    assert all(c.safe for c in changes(WAS, now, {"id", "age"}))


def test_a_rename_that_also_changes_the_type_says_both_and_a_new_default_is_told():
    found = changes(WAS, (ID, replace(AGE, name="years", type="text"), NOTE), USED)
    assert [c.kind for c in found] == [Kind.RENAMED, Kind.TYPE]
    (added,) = changes(WAS, (*WAS, SourceColumn("n", "integer", position=4, default="7")), USED)
    assert "default 7" in added.why


def test_a_table_that_is_gone_has_dropped_all():
    assert {c.kind for c in changes(WAS, (), USED)} == {Kind.DROPPED}


def test_the_register_reads_back_what_was_written_and_leaves_out_the_removed():
    entry = Captured("orders", "public.orders", State.PAUSED, WAS, frozenset(USED), owned=True, why="x", generation=3, at_us=5)
    gone = replace(entry, name="gone", state=State.REMOVED)
    assert captured.standing([captured.document(entry), captured.document(gone), ""]) == {"orders": entry}
    assert (entry.keyed, entry.topic) == ("captured.orders__3", "shop.public.orders")


@pytest.mark.parametrize(("row", "why"), [
    ({"id": 1, "age": 5, "note": None}, ""), ({"id": 1, "age": 5, "note": "x", "more": 1}, ""),
    ({"id": 1, "note": "x"}, "age is in its records no more"), ({"id": 1, "age": None, "note": "x"}, "age is null"), ({"id": 1, "age": "5", "note": "x"}, "age has a value"),
    ({"id": 1, "age": 2**31, "note": "x"}, "age has a value"),
])
def test_a_row_without_what_its_columns_promise_is_told_by_column_and_without_its_value(row, why):
    found = captured.misfit(WAS, row)
    assert found.startswith(why)
    assert bool(found) is bool(why)

"""A paused table and a row that its columns do not promise stay in Kafka, alone; nothing is skipped or taken twice when it is let go."""
import json
from dataclasses import replace

import pytest
from msgspec import structs

from weir.contracts.captured import Captured, State
from weir.contracts.schema import SourceColumn
from weir.errors import Unavailable
from weir.ingest.gate import Gate, judge
from weir.ingest.record import Record

USERS = Captured("users", "public.users", State.CAPTURING, (SourceColumn("id", "bigint", nullable=False), SourceColumn("age", "integer", nullable=False)), frozenset({"id", "age"}), at_us=1)
TOPIC, OTHER = USERS.topic, "shop.public.items"


def change(offset, topic=TOPIC, partition=0, *, op="u", lsn=None, **row):
    after = {"id": offset, "age": 5} | row
    return Record(topic, partition, offset, 0, b"{}", json.dumps({"op": op, "after": {k: v for k, v in after.items() if v != "gone"}, "source": {"lsn": lsn}}).encode(), "")


class Consumer:
    """A consumer whose queue still gives what was fetched before a pause or a seek."""

    def __init__(self, *records):
        self.log = list(records)
        self.next = {(r.topic, r.partition): 0 for r in records}
        self.paused = set()
        self.stale = []

    def hold(self, partition):
        self.paused.add(partition)

    def release(self, partition, offset):
        self.stale += [r for r in self.log if (r.topic, r.partition) == partition and r.offset >= self.next[partition]][:2]
        self.paused.discard(partition)
        self.next[partition] = offset

    def fetch(self, n=3):
        found, self.stale = self.stale, []
        for p in self.next:
            ready = [r for r in self.log if (r.topic, r.partition) == p and r.offset >= self.next[p]][:n] if p not in self.paused else []
            found += ready
            self.next[p] = ready[-1].offset + 1 if ready else self.next[p]
        return found


def drained(gate, consumer, rounds=8):
    return [(r.topic, r.partition, r.offset) for _ in range(rounds) for r in gate.admit(consumer.fetch())]


def made(consumer, entries, told=None):
    ticks = iter(range(10**6))
    return Gate(consumer, lambda: {e.topic: e for e in entries}, lambda r, why: told.append((r.offset, why)) if told is not None else None, clock=lambda: next(ticks) * 10.0)


def test_a_misfit_holds_its_partition_and_no_other_and_is_told_once():
    consumer, told = Consumer(*[change(n, age="gone" if n == 4 else 5) for n in range(9)], *[change(n, partition=1) for n in range(5)], *[change(n, OTHER) for n in range(5)]), []
    found = drained(made(consumer, [USERS], told), consumer)
    assert [f for f in found if f[:2] == (TOPIC, 0)] == [(TOPIC, 0, n) for n in range(4)]
    assert sorted(f for f in found if f[:2] != (TOPIC, 0)) == sorted([(OTHER, 0, n) for n in range(5)] + [(TOPIC, 1, n) for n in range(5)])
    assert told == [(4, "age is in its records no more")]


def test_what_is_let_go_comes_once_and_in_order_whatever_was_fetched_before():
    consumer, entries = Consumer(*[change(2 * n) for n in range(9)]), [USERS.to(State.PAUSED, why="because")]
    gate = made(consumer, entries)
    assert drained(gate, consumer) == []
    entries[0] = replace(USERS, at_us=2)
    assert drained(gate, consumer) == [(TOPIC, 0, 2 * n) for n in range(9)]
    assert gate.held == {}


def test_a_misfit_is_tried_again_only_when_the_register_changed_and_then_by_the_new_columns():
    consumer, entries = Consumer(*[change(n, age="gone" if n > 1 else 5, years=3) for n in range(6)]), [USERS]
    gate = made(consumer, entries)
    assert [o for _, _, o in drained(gate, consumer)] == [0, 1]
    entries[0] = replace(USERS, at_us=2)
    assert drained(gate, consumer) == []
    entries[0] = replace(USERS, at_us=3, used=frozenset({"id"}))
    assert [o for _, _, o in drained(gate, consumer)] == [2, 3, 4, 5]


def test_a_register_that_is_away_at_first_stops_and_later_leaves_the_last_answer():
    def away():
        raise Unavailable("away")

    consumer = Consumer(change(0))
    gate = made(consumer, [USERS.to(State.PAUSED)])
    gate.register = away
    with pytest.raises(Unavailable):
        gate.admit(consumer.fetch())
    gate.register = lambda: {TOPIC: USERS.to(State.PAUSED)}
    assert gate.admit([change(0)]) == []
    gate.register = away
    assert gate.admit([change(1)]) == []


def test_a_truncate_stops_a_table_that_has_no_barrier_for_it():
    record = Record(TOPIC, 0, 1, 0, None, b'{"op": "t", "source": {"lsn": 11}}', "")
    assert judge(USERS, record) == ""
    assert judge(replace(USERS, owned=True), record).startswith("it was truncated")
    assert judge(replace(USERS, owned=True, barrier=True), record) == ""


@pytest.mark.parametrize(("record", "why"), [
    (change(1), ""), (change(1, op="d", age="gone"), ""), (change(1, age=None), "age is null"), (change(1, age="x"), "age has a value"), (change(1, op="r", age="gone"), "age is in"),
    (change(1, age="gone", lsn=9), ""), (change(1, age="gone", lsn=10), "age is in"), (Record(TOPIC, 0, 1, 0, b"", None, ""), ""), (Record(TOPIC, 0, 1, 0, b"", b"{", ""), ""),
])
def test_only_rows_are_judged_and_those_of_earlier_columns_are_excused(record, why):
    found = judge(replace(USERS, since_lsn=10), record)
    assert found.startswith(why)
    assert bool(found) is bool(why)


TEXTS = replace(USERS, columns=(*USERS.columns, SourceColumn("story", "text"), SourceColumn("photo", "bytea"), SourceColumn("tags", "text[]")), used=frozenset({"id", "age", "story", "photo", "tags"}))
HOLLOW = "__debezium_unavailable_value"


@pytest.mark.parametrize(("row", "without"), [
    ({"story": HOLLOW}, "story"), ({"photo": "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="}, "photo"), ({"tags": [HOLLOW]}, "tags"), ({"tags": [HOLLOW, "x"]}, ""), ({"story": f"{HOLLOW}s"}, ""),
])
def test_an_update_that_came_without_a_long_value_is_held_and_the_sql_said(row, without):
    record = change(1, **{"story": "s", "photo": "AA==", "tags": []} | row)
    told = judge(TEXTS, record)
    assert told.startswith(f"{without} came without its value: ALTER TABLE public.users REPLICA IDENTITY FULL;") if without else told == ""
    whole = structs.replace(record, value=record.value.replace(b'"op"', b'"before": {"id": 1}, "op"'))
    inserted = structs.replace(record, value=record.value.replace(b'"u"', b'"c"'))
    assert [judge(TEXTS, r) for r in (whole, inserted)] == ["", ""], "somebody who types the placeholder stops no table"


ADDED = replace(USERS, name="log", source="public.log", owned=True, generation=1, barrier=True)
HISTORY = replace(ADDED, history=True)
ROW_1 = {"id": 1, "age": 5}


def without_key(op, before=None, after=None, key=None):
    return Record(ADDED.topic, 0, 0, 0, key, json.dumps({"op": op, "before": before, "after": after}).encode(), "")


@pytest.mark.parametrize("record", [without_key("c", after=ROW_1), without_key("u", ROW_1, ROW_1), without_key("d", ROW_1), without_key("r", after=ROW_1)])
def test_a_change_without_a_key_is_held_before_a_keyed_copy_and_taken_into_a_history(record):
    assert "no key any more" in judge(ADDED, record)
    assert judge(HISTORY, record) == ""
    assert judge(ADDED, structs.replace(record, key=b'{"id":1}')) == ""


def test_a_truncate_and_a_tombstone_need_no_key():
    for record in (without_key("t"), structs.replace(without_key("d"), value=None)):
        assert [judge(e, record) for e in (ADDED, HISTORY)] == ["", ""]


@pytest.mark.parametrize(("before", "why"), [(None, "ALTER TABLE public.log REPLICA IDENTITY FULL"), ({"id": 1}, "age is in its records no more"), ({"id": 1, "age": None}, "age is null")])
def test_a_history_holds_a_change_that_came_without_the_row_as_it_was(before, why):
    for record in (without_key("u", before, ROW_1), without_key("d", before)):
        assert why in judge(HISTORY, record)
    assert judge(ADDED, without_key("d", before, key=b'{"id":1}')) == ""

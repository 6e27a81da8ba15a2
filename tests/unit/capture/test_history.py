"""A history in ClickHouse's engine: each change is a row once, and what its changes make is what the table has, whatever came before, between and after its snapshots."""
import json
import random
import re
from collections import Counter
from dataclasses import replace

import chdb
import pytest
from tests.unit.capture.test_operate import Books, Clickhouse

from weir.capture import history, operate, resync, watch
from weir.capture.parts import Parts
from weir.contracts import names
from weir.contracts.captured import Captured, State, document, parse
from weir.contracts.clickhouse import literal
from weir.contracts.endpoints import Endpoints
from weir.contracts.history import Cut
from weir.contracts.schema import SourceColumn
from weir.errors import ContractViolation, Undecided
from weir.reconcile.plan import visible

# Names that the table and its views use themselves.
COLUMNS = (SourceColumn("lsn", "bigint", nullable=False, position=1), SourceColumn("op", "text", position=2), SourceColumn("after", "numeric(12,2)", nullable=False, position=3),
           SourceColumn("a `b`", "text[]", position=4), SourceColumn("computed", "bigint", generated="v", position=5))
EPOCH = names.CDC_TOPIC_EPOCH << names.CDC_VERSION_EPOCH_SHIFT
CUT = Cut(100, "50:60:52,55", ((0, 10), (1, 10)))  # transactions 52 and 55 were under way, 60 and later had not begun
ENTRY = Captured("odd", "public.odd", State.CAPTURING, COLUMNS, frozenset(c.name for c in COLUMNS if c.lands), owned=True, generation=1, barrier=True, history=True, cut=CUT)


@pytest.fixture
def sink():
    connection = chdb.connect(":memory:")
    for database in ("landing", "captured"):
        connection.query(f"CREATE DATABASE {database} ENGINE = Atomic")
    connection.query("CREATE TABLE landing.cdc_changes (topic String, partition UInt16, offset UInt64, op String, key String, before String, after String, version UInt64, is_deleted UInt8,"
                     " reject_reason String, source_lsn Nullable(UInt64), source_at Nullable(DateTime64(3, 'UTC')), tx_id Nullable(UInt64), produced_at DateTime64(3, 'UTC')) ENGINE = MergeTree"
                     " ORDER BY version SETTINGS non_replicated_deduplication_window = 100")
    yield Clickhouse(connection)
    connection.close()


def row(lsn, op="x", after="1.50", **more):
    return {"lsn": lsn, "op": op, "after": after, "a `b`": ["q", None]} | more


def change(offset, op, lsn, tx, before=None, after=None, *, partition=0, topic=ENTRY.topic, reason=""):
    before, after = (literal("" if d is None else json.dumps(d)) for d in (before, after))
    return f"({literal(topic)}, {partition}, {offset}, {literal(op)}, '', {before}, {after}, {EPOCH + offset}, 0, {literal(reason)}, {lsn}, 1, {tx}, 2)"


def land(sink, *changes):
    sink.command("INSERT INTO landing.cdc_changes VALUES " + ", ".join(changes))


def snapshot(sink, entry, *documents):
    listed = ", ".join(f"({n}, {literal(json.dumps(d))})" for n, d in enumerate(documents, 1))
    sink.command(re.sub(r"input\((.*)\) FORMAT TabSeparated", lambda m: f"values({m[1]}, {listed})", history.insert(entry, lsn=entry.cut.lsn, at_ms=5)))  # the engine in a process has no input()


def made(sink, entry=ENTRY):
    for statement in (*history.create(entry), *history.show(entry)):
        sink.command(statement)


def rows(sink, entry=ENTRY):
    return Counter(int(r[0]) for r in sink.query(f"SELECT lsn FROM {entry.rows_view}"))


def test_each_change_is_a_row_with_its_place_and_both_sides_and_a_replay_adds_none(sink):
    made(sink)
    changes = [change(10, "c", 110, 60, after=row(1)), change(11, "u", 120, 61, row(1), row(1, op=None, after="-2.25")), change(3, "d", 130, 62, row(2), partition=1), change(12, "t", 140, 63),
               change(13, "c", 150, 64, after=row(9), topic="shop.public.other"), change(14, "c", 150, 64, after=row(9), reason="malformed"), change(15, "r", "NULL", "NULL", after=row(9)),
               change(17, "d", "NULL", "NULL", row(9))]
    land(sink, *changes)
    land(sink, *changes, change(16, "c", 160, 65, after=row(1)))  # another batch that has them again
    read = "lsn, partition, tx_id, op, toUnixTimestamp64Milli(committed_at), after_lsn, after_op, after_after, before_after, `before_a ``b```"
    assert sink.query(f"SELECT {read} FROM captured.odd ORDER BY lsn, position") == [
        ("110", "0", "60", "c", "1000", "1", "x", "1.5", "\\N", "[]"), ("120", "0", "61", "u", "1000", "1", "\\N", "-2.25", "1.5", "['q',NULL]"),
        ("130", "1", "62", "d", "1000", "\\N", "\\N", "\\N", "1.5", "['q',NULL]"), ("140", "0", "63", "t", "1000", "\\N", "\\N", "\\N", "\\N", "[]"),
        ("160", "0", "65", "c", "1000", "1", "x", "1.5", "\\N", "[]")]


def test_rows_that_are_alike_count_as_often_as_they_are_there(sink):
    made(sink)
    snapshot(sink, ENTRY, row(1), row(1), row(2), row(3))
    land(sink, change(10, "c", 110, 60, after=row(2)), change(11, "d", 111, 60, row(1)), change(12, "u", 112, 61, row(3), row(1)))
    assert rows(sink) == Counter({1: 2, 2: 2})
    assert sink.query("SELECT toTypeName(lsn), toTypeName(op), op, toString(after) FROM captured.odd__rows WHERE lsn = 2 LIMIT 1") == [("Int64", "Nullable(String)", "x", "1.5")]


def test_what_the_snapshot_sees_counts_once_and_what_was_under_way_counts_too(sink):
    made(sink)
    snapshot(sink, ENTRY, row(1), row(2))
    land(sink, change(9, "c", 80, 51, after=row(1)), change(11, "c", 90, 54, after=row(2)),  # ended before it
         change(12, "c", 95, 52, after=row(3)), change(13, "c", 96, 55, after=row(4), partition=1),  # under way
         change(14, "c", 99, 60, after=row(5)),  # begun after it, written before its LSN was read
         change(15, "c", 100, 40, after=row(6)),  # an id that was seen long ago, by now of a later transaction
         change(8, "c", 70, 52, after=row(7)))  # an id of now, from a time before the topic's ends
    assert rows(sink) == Counter((1, 2, 3, 4, 5, 6))


@pytest.mark.parametrize("turn", [0, 1 << 32, 7 << 32])
def test_a_cut_says_of_each_transaction_what_the_source_says(sink, turn):
    high = turn + (1 << 31) + 60
    running = sorted(random.Random(5).sample(range(high - 40, high), 5))  # noqa: S311 - the same each time
    cut = Cut(100, f"{high - 40}:{high}:{','.join(map(str, running))}", ((0, 0),))
    ids = [*range(high - 50, high + 20), high + (1 << 31) - 1, high - (1 << 31) + 1]
    condition = cut.after().replace("lsn", "99").replace("tx_id", "x")
    found = sink.query(f"SELECT {condition} FROM (SELECT arrayJoin({[i % (1 << 32) for i in ids]}) AS x, 0 AS partition, {EPOCH} AS position)")
    assert [f == ("1",) for f in found] == [not visible(i % (1 << 32), cut.visible) for i in ids]


def test_a_truncate_takes_what_was_before_it_the_snapshots_rows_too_and_stays_in_the_history(sink):
    made(sink)
    snapshot(sink, ENTRY, row(1))
    land(sink, change(11, "c", 110, 60, after=row(2)), change(12, "c", 130, 62, after=row(4), partition=1))
    assert rows(sink) == Counter((1, 2, 4))
    land(sink, change(13, "t", 120, 61))
    assert rows(sink) == Counter([4])
    land(sink, change(9, "t", 90, 51))  # the snapshot saw it
    assert rows(sink) == Counter([4])
    assert sink.query("SELECT op FROM captured.odd ORDER BY lsn") == [("t",), ("r",), ("c",), ("t",), ("c",)]


def test_a_later_snapshot_is_hidden_until_the_register_names_it_and_the_history_goes_on(sink):
    made(sink)
    snapshot(sink, ENTRY, row(1))
    land(sink, change(11, "c", 110, 60, after=row(2)))
    later = replace(ENTRY, generation=2, cut=Cut(200, "70:70:", ((0, 20), (1, 20))), columns=(*COLUMNS, SourceColumn("more", "integer", position=6)), used=ENTRY.used | {"more"})
    snapshot(sink, later, row(1, more=5), row(2, more=5))
    assert (rows(sink), sink.query("SELECT count() FROM captured.odd")) == (Counter((1, 2)), [("2",)])
    made(sink, later)
    land(sink, change(20, "u", 210, 70, row(2, more=5), row(3, more=6)))
    assert rows(sink) == Counter((1, 3))
    assert sink.query("SELECT snapshot, op, after_lsn, after_more FROM captured.odd ORDER BY lsn, position") == [
        ("1", "r", "1", "\\N"), ("0", "c", "2", "\\N"), ("2", "r", "1", "5"), ("2", "r", "2", "5"), ("0", "u", "3", "6")]


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_done_to_a_table_its_history_makes_what_it_has(sink, seed):
    made(sink)
    chance, table, changes = random.Random(seed), Counter(), []  # noqa: S311 - the same each time
    start = [chance.randrange(6) for _ in range(20)]
    snapshot(sink, ENTRY, *map(row, start))
    table.update(start)
    for n in range(120):
        place = {"partition": chance.randrange(2)}
        kind = chance.choice(["c", "c", "u", "d", "t" if chance.random() < 0.1 else "c"])
        if kind in "ud" and not table:
            continue
        old, new = chance.choice(list(table.elements())) if table else 0, chance.randrange(6)
        changes.append(change(10 + n, kind, 110 + n, 60 + n, row(old) if kind in "ud" else None, row(new) if kind in "cu" else None, **place))
        table.subtract([old] if kind in "ud" else [])
        table = Counter() if kind == "t" else +table
        table.update([new] if kind in "cu" else [])
    chance.shuffle(changes)
    land(sink, *changes)
    assert rows(sink) == table, f"seed {seed}"
    assert sink.query("SELECT count(), uniqExact(partition, position) FROM captured.odd WHERE snapshot = 0") == [(str(len(changes)),) * 2]


def test_the_register_keeps_where_a_history_was_cut_and_reads_what_knows_none():
    assert parse(document(ENTRY)) == ENTRY
    older = {k: v for k, v in json.loads(document(replace(ENTRY, history=False, cut=None))).items() if k not in {"history", "cut"}}
    assert parse(json.dumps(older)) == replace(ENTRY, history=False, cut=None)


@pytest.mark.parametrize("column", [SourceColumn("at", "interval"), SourceColumn("weir_n", "bigint")])
def test_a_column_that_no_snapshot_can_copy_or_that_bears_a_name_of_ours_is_refused(column):
    with pytest.raises(ContractViolation, match=column.name):
        history.check(replace(ENTRY, columns=(*COLUMNS, column), used=ENTRY.used | {column.name}))


@pytest.fixture
def parts(sink, monkeypatch):
    """What a command touches; the source's snapshot is four documents, and verified unless a test says otherwise."""
    monkeypatch.setattr(resync, "lsn_now", lambda _: 7)

    def filled(parts, beside, _report, _most):
        snapshot(parts.sink, replace(beside, cut=CUT), *(row(n) for n in range(4)))
        return CUT

    monkeypatch.setattr(history, "_filled", filled)
    monkeypatch.setattr(history, "_verified", lambda _parts, _made: 4)
    return Parts(Endpoints.local(), sink, None, Books())


def begun():
    return replace(ENTRY, generation=0, cut=None)


def taken(parts, entry, columns=COLUMNS):
    return resync.run(parts, parts.register.write(entry), columns, (), lambda _: None)


def test_a_history_is_shown_once_its_snapshot_is_verified_and_a_resync_puts_another_into_it(parts):
    assert (taken(parts, begun()).generation, sum(rows(parts.sink).values())) == (1, 4)
    land(parts.sink, change(11, "c", 110, 60, after=row(8)))
    entry = taken(parts, parts.register.entries["odd"])
    assert (entry.generation, entry.state, parts.register.entries["odd"]) == (2, State.CAPTURING, entry)
    assert parts.sink.query("SELECT snapshot, count() FROM captured.odd GROUP BY snapshot ORDER BY snapshot") == [("0", "1"), ("1", "4"), ("2", "4")]
    assert parts.sink.tables() == {"odd", "odd__0", "odd__rows"}


def test_a_snapshot_that_cannot_be_verified_leaves_no_row_and_readers_what_they_had(parts, monkeypatch):
    entry = taken(parts, begun())

    def differs(*_):
        raise Undecided("3 rows differ", hint="")

    monkeypatch.setattr(history, "_verified", differs)
    with pytest.raises(Undecided):
        taken(parts, entry)
    assert parts.register.entries["odd"] == entry
    assert parts.sink.query("SELECT count(), max(snapshot) FROM captured.odd__0") == [("4", "1")]


def test_what_a_killed_try_left_is_gone_before_the_next(parts):
    entry = taken(parts, begun())
    snapshot(parts.sink, replace(entry, generation=2, cut=replace(CUT, lsn=99)), row(9), row(9))
    taken(parts, entry)
    assert parts.sink.query("SELECT count() FROM captured.odd WHERE snapshot = 2") == [("4",)]


def test_readers_are_given_the_snapshot_whose_command_was_killed_after_the_register_named_it(parts):
    entry = taken(parts, begun())
    snapshot(parts.sink, replace(entry, generation=2), row(9))
    resync.sweep(parts.sink, replace(entry, generation=2))
    assert rows(parts.sink) == Counter([9])
    parts.sink.dies = ""  # any statement
    resync.sweep(parts.sink, replace(entry, generation=2))


NOTE = SourceColumn("note", "text", position=6)


@pytest.mark.parametrize(("column", "snapshots"), [(NOTE, "1"), (replace(NOTE, default="'x'::text"), "2"), (replace(NOTE, nullable=False), "2"), (replace(NOTE, generated="s"), "2")])
def test_a_column_that_came_as_null_is_read_at_once_and_one_that_changes_rows_takes_a_snapshot(parts, tmp_path, monkeypatch, column, snapshots):
    taken(parts, begun())
    land(parts.sink, change(11, "c", 110, 60, after=row(8, note="before anybody looked")))
    asked = []
    monkeypatch.setattr(watch, "look", lambda _, tables, histories: asked.append(list(histories)) or {t: watch.Source((*COLUMNS, column), ()) for t in tables})
    monkeypatch.setattr("weir.contracts.cdc.CDC_TABLES", {})
    watch.Watcher(parts, tmp_path, tmp_path).round(100.0)
    assert (parts.register.entries["odd"].used, asked) == (ENTRY.used | {"note"}, [["public.odd"]])
    assert parts.sink.query("SELECT max(snapshot), argMax(after_note, op = 'c') FROM captured.odd") == [(snapshots, "before anybody looked")]


class Writers:
    """A source whose writers are these, one answer after the other."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def writers(self, table):
        assert table == "public.odd"
        return self.answers.pop(0)


def test_a_snapshot_waits_for_who_wrote_before_it_and_for_nobody_who_came_later():
    source, now = Writers({"3/1", "4/7"}, {"4/7", "9/9"}, {"9/9", "9/10"}), iter(range(100))
    history.settle(source, "public.odd", clock=lambda: next(now), sleep=lambda _: None)
    assert source.answers == []


def test_a_snapshot_is_not_taken_while_one_that_wrote_before_it_goes_on():
    now = iter(range(0, 100_000, 10))
    with pytest.raises(Undecided, match="4/7"):
        history.settle(Writers(*[{"4/7"}] * 100), "public.odd", clock=lambda: next(now), sleep=lambda _: None)


def test_a_table_whose_rows_view_would_have_the_name_of_another_is_refused():
    for name, tables in (("public.odd", ["odd__rows"]), ("public.other__rows", [])):
        with pytest.raises(ContractViolation, match="taken"):
            operate._refuse_taken(name, tables)

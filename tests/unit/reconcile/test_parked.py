"""A key whose row is too large for a record: told apart from other differences, and not read again when reading it again was what parked it."""
from types import SimpleNamespace

import chdb
import pytest

from weir.contracts.cdc import CdcTable
from weir.contracts.clickhouse import literal
from weir.reconcile import plan
from weir.reconcile.outcome import Answer
from weir.reconcile.plan import Difference
from weir.reconcile.sink import Sink
from weir.reconcile.table import Comparison, TableCycle

TABLE = CdcTable("wide", "public.wide", "shop.public.wide", "captured.wide__1", "captured.wide")
PLAN = plan.make(TABLE, [("id", "bigint", False), ("body", "text", True)], ["id"], {"id": "Int64", "body": "Nullable(String)"})
LARGE, FINE = "oversized", ""


@pytest.fixture
def sink(tmp_path):
    connection = chdb.connect(str(tmp_path / "engine"))
    made = Sink.__new__(Sink)

    def query(sql, **parameters):
        for name, value in parameters.items():
            sql = sql.replace(f"{{{name}:String}}", literal(value))
        return [tuple(line.split("\t")) for line in connection.query(sql, "TSVRaw").bytes().decode().splitlines()]

    made.query = query
    connection.query("CREATE DATABASE landing")
    connection.query("CREATE TABLE landing.cdc_changes (topic String, key String, version UInt64, op String, reject_reason String) ENGINE = MergeTree ORDER BY version")

    def landed(*changes):
        for version, (id_, op, reason) in enumerate(changes):
            connection.query(f"INSERT INTO landing.cdc_changes VALUES ('shop.public.wide', '{{\"id\":{id_}}}', {version}, '{op}', '{reason}'), ('other', '{{\"id\":99}}', 1, 'c', 'oversized')")
        return made.parked(PLAN)

    yield landed
    connection.close()


def test_a_key_is_parked_while_its_newest_change_is_the_one_that_was_too_large(sink):
    assert sink((1, "c", LARGE), (2, "c", FINE), (2, "u", LARGE), (2, "r", LARGE), (3, "u", LARGE), (3, "u", FINE), (4, "u", LARGE), (4, "d", FINE), (4, "tombstone", FINE),
                (5, "c", "malformed")) == {("1",): "c", ("2",): "r"}


class World:
    """Both sides of a table in which these keys differ; `parked`: as the sink tells."""

    def __init__(self, keys, parked):
        found = tuple(Difference((k,), "different", 1, 2) for k in keys)
        seen = Comparison(SimpleNamespace(lsn=5, at_ms=6), 10, found, frozenset())
        self.again, self.parked_keys = [], parked
        comparer = SimpleNamespace(plan=PLAN, whole=lambda: seen, keys=lambda _: seen, ends=dict)
        sink = SimpleNamespace(parked=lambda _: parked, stored_twice=lambda _: [], landed_twice=lambda _: 0, reread=lambda _p, _s: {("1",), ("2",), ("3",)})
        repairer = SimpleNamespace(delete=lambda _p, _k: None, read_again=lambda _p, keys: self.again.extend(keys), forget=lambda: None)
        self.cycle = TableCycle(comparer, sink, repairer)


def test_it_is_said_to_be_too_large_and_read_again_but_once():
    world = World("123", {("1",): "r", ("2",): "u"})
    made = world.cycle.check()
    world.cycle.mend(made)
    assert world.again == [("2",), ("3",)], "the change may be too large for its row before, which a reading again leaves out"
    assert (made.outcome, made.oversized) == (Answer.NO, 2)
    assert "3 keys differ, 2 of them since a change of theirs is larger than 8 MiB and is parked" in made.reason


def test_of_keys_that_differ_for_another_reason_nothing_is_said_of_size():
    world = World("1", {})
    assert world.cycle.check().reason == "1 keys differ"

"""The keyed table that `./weir table add` makes, in ClickHouse's engine: every change of the landing table lands in it, whatever its columns are called."""
import json
from dataclasses import replace

import chdb
import pytest

from weir.capture import keyed
from weir.contracts import names
from weir.contracts.captured import Captured, State
from weir.contracts.clickhouse import literal
from weir.contracts.schema import SourceColumn
from weir.errors import ContractViolation

# Names that the landing table and SQL use themselves.
COLUMNS = (SourceColumn("key", "bigint", nullable=False), SourceColumn("op", "text"), SourceColumn("topic", "numeric(12,2)", nullable=False), SourceColumn("a `b`", "text[]"),
           SourceColumn("computed", "bigint", generated="v"))
EPOCH = names.CDC_TOPIC_EPOCH << names.CDC_VERSION_EPOCH_SHIFT  # of the versions that ingest gives
ENTRY = Captured("odd", "public.odd", State.CAPTURING, COLUMNS, frozenset(c.name for c in COLUMNS if c.lands), owned=True, generation=1, barrier=True)


@pytest.fixture
def engine():
    connection = chdb.connect(":memory:")

    def run(sql):
        return connection.query(sql, "TSV").bytes().decode().strip("\n")

    run("CREATE DATABASE landing ENGINE = Atomic")
    run("CREATE DATABASE captured ENGINE = Atomic")
    run("CREATE TABLE landing.cdc_changes (topic String, op String, key String, before String, after String, version UInt64, is_deleted UInt8, reject_reason String,"
        " source_lsn Nullable(UInt64), produced_at DateTime64(3, 'UTC') DEFAULT toDateTime64(1, 3, 'UTC'))"
        " ENGINE = MergeTree ORDER BY version")
    yield run
    connection.close()


def change(version, op, key, after, before=None, topic="shop.public.odd", lsn="NULL", at=1):
    def text(row):
        return literal("" if row is None else json.dumps(row))

    return f"({literal(topic)}, {literal(op)}, {text({'key': key})}, {text(before)}, {text(after)}, {EPOCH + version}, {int(op == 'd')}, '', {lsn}, {at})"


def row(key, op="x", topic="1.50", **more):
    return {"key": key, "op": op, "topic": topic, "a `b`": ["q", None]} | more


def test_rows_land_by_key_and_version_and_the_deleted_are_gone(engine):
    for statement in (*keyed.create(ENTRY, ("key",)), keyed.show(ENTRY)):
        engine(statement)
    engine("INSERT INTO landing.cdc_changes VALUES " + ", ".join([
        change(1, "r", 1, row(1)), change(2, "c", 2, row(2, op=None)), change(4, "u", 1, row(1, topic="-2.25"), row(1)), change(3, "u", 1, row(1, topic="9.99"), row(1)),
        change(5, "d", 2, None, row(2)), change(6, "c", 3, row(3), topic="shop.public.other")]))
    assert engine("SELECT * FROM captured.odd ORDER BY `key`") == f"1\tx\t-2.25\t['q',NULL]\t{EPOCH + 4}"
    engine("INSERT INTO landing.cdc_changes VALUES " + change(7, "c", 2, row(2, op=None)))
    assert engine("SELECT `op` FROM captured.odd WHERE `key` = 2") == "\\N"


def test_a_truncate_is_a_barrier_by_lsn_however_late_it_lands_and_on_whatever_partition(engine):
    for statement in (*keyed.create(ENTRY, ("key",)), keyed.show(ENTRY)):
        engine(statement)
    engine("INSERT INTO landing.cdc_changes VALUES " + ", ".join([
        change(1, "r", 1, row(1), at=10), change(2, "c", 2, row(2), lsn=50), change(9, "u", 3, row(3), lsn=69), change(4, "c", 4, row(4), lsn=71), change(5, "r", 5, row(5), at=30)]))
    assert engine("SELECT `key` FROM captured.odd ORDER BY `key`") == "1\n2\n3\n4\n5"
    engine("INSERT INTO landing.cdc_changes VALUES " + change(3, "t", None, None, lsn=70, at=20) + ", " + change(8, "t", None, None, lsn=99, at=99, topic="shop.public.other"))
    assert engine("SELECT `key` FROM captured.odd ORDER BY `key`") == "4\n5"
    assert engine(f"SELECT `key` FROM {ENTRY.table().standing} ORDER BY `key`") == "4\n5"
    assert engine(f"SELECT count() FROM {replace(ENTRY, barrier=False).table().standing}") == "5"


def test_a_generation_is_filled_beside_another_and_readers_change_in_one_step(engine):
    after = replace(ENTRY, generation=2, columns=(*COLUMNS, SourceColumn("more", "integer")), used=ENTRY.used | {"more"})
    for statement in (*keyed.create(ENTRY, ("key",)), keyed.show(ENTRY), *keyed.create(after, ("key",))):
        engine(statement)
    engine("INSERT INTO landing.cdc_changes VALUES " + change(1, "r", 1, row(1, more=5)))
    assert engine("SELECT count() FROM captured.odd") == "1"
    for statement in (keyed.show(after), *keyed.drop(ENTRY.keyed)):
        engine(statement)
    assert engine("SELECT more FROM captured.odd") == "5"
    assert engine("SHOW TABLES FROM captured") == "odd\nodd__2\nodd__2_feed\nweir_truncates\nweir_truncates_feed"


@pytest.mark.parametrize(("columns", "key"), [((SourceColumn("version", "bigint"),), ("version",)), (COLUMNS, ())])
def test_a_table_whose_columns_collide_or_that_has_no_key_is_refused(columns, key):
    with pytest.raises(ContractViolation):
        keyed.check("public.odd", columns, key)


def test_a_bulk_row_has_the_lsn_of_its_snapshot_before_a_truncate_or_after_it(engine):
    for statement in (*keyed.create(ENTRY, ("key",)), keyed.show(ENTRY)):
        engine(statement)
    engine("INSERT INTO landing.cdc_changes VALUES " + change(3, "t", None, None, lsn=70, at=20))
    insert = "INSERT INTO captured.odd__1 (`key`, topic, version, is_deleted, weir_lsn, weir_produced_at) VALUES"
    engine(f"{insert} (1, 0, 1700000000000, 0, 69, 99), (2, 0, 1700000000000, 0, 71, 1)")
    assert engine("SELECT `key` FROM captured.odd") == "2"

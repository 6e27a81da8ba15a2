"""A row that PostgreSQL writes for the bulk path lands as the one that Debezium sends: value by value, PostgreSQL from its wheel, ClickHouse's engine."""
import json

import chdb
import pytest
from tests.types_page import CASES, ROWS, SETUP, TEARDOWN, catalog_name, create_sql, expected, insert_sql

from weir.capture import bulk, keyed
from weir.connect import catalog
from weir.contracts import source_types
from weir.contracts.captured import Captured, State
from weir.contracts.clickhouse import literal
from weir.contracts.schema import SourceColumn

LEFT = {"bit(1)", "timetz", "interval", "tstzrange", "real[]", "double precision[]", "numeric[]", "numeric(10,2)[]", "character(3)[]", "bytea[]", "date[]", "timestamp[]",
        "timestamptz[]", "time[]", "json[]", "jsonb[]", "inet[]", "cidr[]", "macaddr[]", "int4range[]", "int8range[]"}  # to Debezium


@pytest.fixture(scope="module")
def rows(source):
    """Each row of the cases as COPY sends it."""
    source.execute(TEARDOWN)
    source.execute(SETUP)
    source.execute(create_sql())
    for row in range(ROWS + 1):
        source.execute(insert_sql(row, row).encode())
    columns = tuple(c for c in catalog.columns(source, "public.every_type") if c.lands and bulk.value(c.type))
    sql = bulk.documents("public.every_type", columns, " AND id <= 1000")
    with source.cursor().copy(f"COPY ({sql} ORDER BY r.id) TO STDOUT".encode()) as lines:
        found = [bytes(line) for line in lines]
    source.execute(TEARDOWN)
    return columns, found


@pytest.fixture(scope="module")
def landed(rows, tmp_path_factory):
    """What the cases are in ClickHouse, row by row, as text."""
    columns, lines = rows
    path = tmp_path_factory.mktemp("bulk") / "rows.tsv"
    path.write_bytes(b"".join(lines))
    reads = ", ".join(_shown(c) for c in columns)
    connection = chdb.connect(":memory:")
    try:
        found = connection.query(f"SELECT {reads} FROM file({literal(str(path))}, 'TabSeparated', 'doc String')", "JSONCompactEachRow").bytes()
    finally:
        connection.close()
    return {c.name: [json.loads(line)[n] for line in found.splitlines()] for n, c in enumerate(columns)}


def _shown(column):
    sql = source_types.read(column.name, column.type, nullable=True)
    return f"hex({sql})" if column.type == "bytea" else f"toString({sql})"


@pytest.mark.parametrize("number", range(len(CASES)), ids=[kind for kind, _ in CASES])
def test_a_value_lands_as_from_debezium_or_its_type_is_left_to_it(landed, number):
    kind = CASES[number][0]
    if kind in LEFT:
        assert bulk.value(catalog_name(kind)) is None
        return
    wanted = [expected(row)[number] for row in range(ROWS + 1)]
    assert landed[f"c{number}"] == [w.hex().upper() if isinstance(w, bytes) else w for w in wanted]


def test_a_table_with_a_type_that_was_not_tested_has_no_bulk_path():
    columns = (SourceColumn("id", "bigint"), SourceColumn("for", "interval"))
    assert bulk.documents("public.t", columns) is None
    assert bulk.documents("public.t", columns[:1]) == 'SELECT row_to_json(r)::text FROM (SELECT "id" AS "id" FROM public.t WHERE true) AS r'


COLUMNS = (SourceColumn("id", "bigint", nullable=False), SourceColumn('a "b"\\', "text"), SourceColumn("n", "numeric(12,2)", nullable=False))
ENTRY = Captured("odd", "public.odd", State.CAPTURING, COLUMNS, frozenset(c.name for c in COLUMNS), owned=True, generation=1, barrier=True)


@pytest.fixture
def odd(source, server):
    """A table with odd names and texts in PostgreSQL; where it is to go in a gateway, and what lands there."""
    source.execute("DROP TABLE IF EXISTS odd")
    source.execute('CREATE TABLE odd (id bigint PRIMARY KEY, "a ""b""\\" text, n numeric(12,2) NOT NULL)')
    for database in ("landing", "captured"):
        server.text(f"CREATE DATABASE IF NOT EXISTS {database} ENGINE = Atomic")
    server.text("CREATE TABLE IF NOT EXISTS landing.cdc_changes (topic String, op String, key String, before String, after String, version UInt64, is_deleted UInt8, reject_reason String,"
                " source_lsn Nullable(UInt64), produced_at DateTime64(3, 'UTC')) ENGINE = MergeTree ORDER BY version")
    for statement in (*keyed.create(ENTRY, ("id",)), keyed.show(ENTRY)):
        server.text(statement)
    yield source
    for statement in (f"DROP VIEW {ENTRY.view}", *keyed.drop(ENTRY.keyed)):
        server.text(statement)


def _bulk(source, server, *, version, lsn):
    with source.cursor().copy(f"COPY ({bulk.documents('public.odd', ENTRY.read)}) TO STDOUT".encode()) as lines:
        for _, text in bulk.blocks(lines):
            server.text(f"{bulk.insert(ENTRY, ('id',), version=version, lsn=lsn)}\n{text}")


def _change(version, op, after, lsn, key=None):
    document = literal(json.dumps(after)) if after else "''"
    return (f"INSERT INTO landing.cdc_changes VALUES ('shop.public.odd', '{op}', '{json.dumps({'id': key or (after or {}).get('id')})}', {document}, {document},"
            f" {(1 << 48) + version}, {int(op == 'd')}, '', {lsn}, now64(3))")


def test_rows_go_by_copy_through_the_gateway_and_every_change_wins_over_them(odd, server):
    texts = ["tab\t, line\n, back\\slash \\n, quote ' and \", é \U0001f600", "", None]
    for number, text in enumerate(texts, 1):
        odd.execute("INSERT INTO odd VALUES (%s, %s, %s)", (number, text, number * 1.5))
    server.text(_change(0, "u", {"id": 2, COLUMNS[1].name: "newer", "n": "9.90"}, 70))  # the topic's first record, which came before the rows did
    _bulk(odd, server, version=1_700_000_000_000, lsn=60)
    server.text(_change(3, "d", {"id": 3, COLUMNS[1].name: None, "n": "4.50"}, 80))
    got = [json.loads(line) for line in server.text(f"SELECT * EXCEPT version FROM {ENTRY.view} ORDER BY id FORMAT JSONCompactEachRow").splitlines()]
    assert [(int(i), t, float(n)) for i, t, n in got] == [(1, texts[0], 1.5), (2, "newer", 9.9)]


def test_a_truncate_takes_the_bulk_rows_of_snapshots_before_it_and_no_others(odd, server):
    odd.execute("INSERT INTO odd VALUES (1, 'before', 1)")
    _bulk(odd, server, version=1_700_000_000_000, lsn=60)
    server.text(_change(4, "t", None, 70))
    assert server.text(f"SELECT count() FROM {ENTRY.view}").strip() == "0"
    odd.execute("UPDATE odd SET id = 2")
    _bulk(odd, server, version=1_700_000_000_001, lsn=71)
    assert server.text(f"SELECT id FROM {ENTRY.view}").strip() == "2"


def test_blocks_are_of_whole_rows():
    assert list(bulk.blocks([b"aa\n", b"b\n", b"c\n"], size=4)) == [(2, "aa\nb\n"), (1, "c\n")]
    assert list(bulk.blocks([], size=4)) == []

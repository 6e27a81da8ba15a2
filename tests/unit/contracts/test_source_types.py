"""Every type's values, as Debezium sent them (recorded_types.json, made by `python -m tests.types_page record`), through the decoder and ClickHouse's engine."""
import json

import chdb
import pytest
from tests.types_page import CASES, RECORDED, ROWS, catalog_name, expected, page

from weir.contracts import source_types
from weir.contracts.clickhouse import literal
from weir.ingest.decode import debezium
from weir.ingest.record import Record

ROOT = RECORDED.parents[3]
RECORDS = json.loads(RECORDED.read_text())
WAYS = {"snapshot": RECORDS[:ROWS + 1], "stream": RECORDS[ROWS + 1:]}


@pytest.fixture(scope="module")
def engine():
    connection = chdb.connect(":memory:")
    yield lambda sql: connection.query(sql, "JSONEachRow").bytes()
    connection.close()


@pytest.fixture(scope="module")
def documents():
    """The `after` of every record as the landing table holds it."""
    records = [Record("t", 0, n, 0, json.dumps(r["key"]).encode(), json.dumps({"op": r["op"], "after": r["after"]}).encode(), "") for n, r in enumerate(RECORDS)]
    landed = debezium(records, "b")
    assert set(landed.column("reject_reason").to_pylist()) == {""}
    return landed.column("after").to_pylist()


def test_every_value_was_recorded_by_snapshot_and_by_stream():
    assert {way: {r["op"] for r in records} for way, records in WAYS.items()} == {"snapshot": {"r"}, "stream": {"c"}}
    assert [r["key"]["id"] for r in RECORDS] == [*range(ROWS + 1), *range(100, 101 + ROWS)]


@pytest.mark.parametrize("number", range(len(CASES)), ids=[kind for kind, _ in CASES])
def test_a_type_lands_value_by_value_and_null_as_null(engine, documents, number):
    kind = catalog_name(CASES[number][0])
    found = source_types.landing(kind)
    sql = source_types.read(f"c{number}", kind, nullable=True)
    text = f"hex({sql})" if kind == "bytea" else f"toString({sql})"
    rows = " UNION ALL ".join(f"SELECT {n} AS n, {literal(d)} AS doc" for n, d in enumerate(documents))
    got = [json.loads(line)["v"] for line in engine(f"SELECT {text} AS v FROM ({rows}) ORDER BY n").splitlines()]
    wanted = [expected(row)[number] for row in range(ROWS + 1)] * 2
    assert got == [w.hex().upper() if isinstance(w, bytes) else w for w in wanted]
    kept = source_types.sink_type(kind, nullable=True)
    (line,) = engine(f"SELECT toTypeName(CAST({sql} AS {kept})) AS t, accurateCastOrDefault(1, 'UInt8') AS one FROM (SELECT {literal(documents[0])} AS doc)").splitlines()
    assert json.loads(line)["t"] == kept
    values = [r["after"][f"c{number}"] for r in RECORDS]
    assert [v for v in values if v is not None and not found.fits(v)] == []


def test_identity_and_stored_generated_columns_come_and_virtual_ones_do_not(documents):
    for way, records in WAYS.items():
        assert [r["after"]["doubled"] for r in records] == [2 * r["key"]["id"] for r in records], way
        assert all(r["after"]["ident"] >= 100 for r in records)
    assert not any("computed" in r["after"] for r in WAYS["stream"])
    assert not source_types.landing("name")


@pytest.mark.parametrize(("kind", "value"), [
    ("integer", 2**31), ("integer", "5"), ("integer", True), ("integer", 1.5), ("smallint", -32769), ("numeric(12,2)", "NAN"), ("money", "NAN"), ("text", 5), ("text", {"a": 1}),
    ("boolean", 1), ("boolean", "t"), ("date", 120530), ("date", -25568), ("date", "2024-01-01"), ("timestamp without time zone", 10_413_792_000_000_000),
    ("timestamp(3) without time zone", -2_208_988_800_001), ("timestamp with time zone", "+292278994-08-17T07:12:55.807Z"), ("timestamp with time zone", "1850-06-01T00:00:00Z"),
    ("timestamp with time zone", 5), ("text[]", "a"), ("double precision", "x"),
])
def test_a_value_that_would_land_as_another_does_not_fit(kind, value):
    assert not source_types.landing(kind).fits(value)


@pytest.mark.parametrize("kind", ["name", '"char"', "bit(8)", "bit varying", "bit varying(3)", "int4multirange", "tsquery", "pg_lsn", "point", "enum[]", "interval[]", "public.pair", "numeric(5,-2)"])
def test_a_type_that_debezium_does_not_send_whole_has_no_landing(kind):
    assert source_types.landing(kind) is None
    assert source_types.refusal(kind)


def test_the_page_is_what_was_tested():
    assert (ROOT / "docs" / "reference" / "types.md").read_text() == page(), "./weir run python -m tests.types_page > docs/reference/types.md"
    tested = {source_types.landing(catalog_name(kind)) for kind, _ in CASES}
    assert [kind for kind, found in source_types.LANDINGS.items() if found not in tested] == []

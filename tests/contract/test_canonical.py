"""Both databases make the same canonical text of the same value, and another of another: PostgreSQL from its wheel against ClickHouse's engine."""
import itertools

import chdb
import pytest

from weir.errors import ContractViolation
from weir.reconcile.canonical import Column, expressions, hash32, hash64, row_text


@pytest.fixture(scope="module")
def sink():
    connection = chdb.connect(":memory:")
    yield lambda sql: connection.query(sql, "TSVRaw").bytes().decode().strip("\n")
    connection.close()


# (PostgreSQL type, ClickHouse type, [(the value in PostgreSQL, as it lands in ClickHouse)]): the values of one entry all differ.
VALUES = [
    ("bigint", "Int64", [("-9223372036854775808", "-9223372036854775808"), ("0", "0"), ("9223372036854775807", "9223372036854775807")]),
    ("integer", "Nullable(Int32)", [("NULL", "NULL"), ("0", "0"), ("-1", "-1")]),
    ("boolean", "Bool", [("true", "true"), ("false", "false")]),
    ("boolean", "Nullable(UInt8)", [("true", "1"), ("false", "0"), ("NULL", "NULL")]),
    ("text", "Nullable(String)", [("NULL", "NULL"), ("''", "''"), ("'N'", "'N'"), ("'é, \"x\"\\'", "'é, \"x\"\\\\'"), ("E'a\\nb'", "'a\\nb'"), ("'1:a'", "'1:a'")]),
    ("character varying(20)", "LowCardinality(String)", [("'a'", "'a'"), ("'a '", "'a '")]),
    ("character(4)", "String", [("'a'", "'a   '"), ("'b'", "'b'")]),
    ("numeric", "String", [("1.50", "'1.50'"), ("100", "'100'"), ("0.000", "'0.000'"), ("-0.1", "'-0.1'"), ("1e30", "'1000000000000000000000000000000'"),
                           ("'NaN'", "'NAN'"), ("'Infinity'", "'POSITIVE_INFINITY'"), ("0.00000000000000000001", "'0.00000000000000000001'")]),
    ("numeric(20,3)", "Nullable(Decimal(20, 3))", [("1.500", "1.5"), ("100", "100"), ("0", "0"), ("-12345678901234567.125", "'-12345678901234567.125'"), ("NULL", "NULL")]),
    ("double precision", "Float64", [("1.5", "1.5"), ("'-0'", "-0."), ("1e300", "1e300"), ("'NaN'", "nan"), ("'Infinity'", "inf"), ("0.1", "0.1")]),
    ("real", "Float32", [("0.1", "0.1"), ("1e10", "1e10"), ("-2.5", "-2.5")]),
    ("timestamp with time zone", "DateTime64(6, 'UTC')", [("'2024-02-29 12:00:00.123456+05:30'", "'2024-02-29 06:30:00.123456'"), ("'1969-12-31 23:59:59.999999+00'", "'1969-12-31 23:59:59.999999'"),
                                                         ("'1970-01-01 00:00:00+00'", "'1970-01-01 00:00:00'")]),
    ("timestamp with time zone", "DateTime64(3, 'UTC')", [("'2024-02-29 12:00:00.123456+00'", "'2024-02-29 12:00:00.123'"), ("'2024-02-29 12:00:00.124+00'", "'2024-02-29 12:00:00.124'")]),
    ("timestamp with time zone", "String", [("'2024-02-29 12:00:00.123456+02'", "'2024-02-29T10:00:00.123456Z'"), ("'2024-02-29 12:00:00+00'", "'2024-02-29T12:00:00Z'")]),
    ("timestamp without time zone", "DateTime64(6, 'UTC')", [("'2024-02-29 12:00:00.5'", "'2024-02-29 12:00:00.5'"), ("'1950-01-01 00:00:00'", "'1950-01-01 00:00:00'")]),
    ("date", "Date32", [("'2024-02-29'", "'2024-02-29'"), ("'1950-01-01'", "'1950-01-01'")]),
    ("date", "Int32", [("'1970-01-02'", "1"), ("'1960-01-01'", "-3653")]),
    ("time without time zone", "Int64", [("'00:00:01.5'", "1500000"), ("'24:00:00'", "86400000000")]),
    ("uuid", "UUID", [("'61f0c404-5cb3-11e7-907b-a6006ad3dba0'", "'61f0c404-5cb3-11e7-907b-a6006ad3dba0'"), ("'00000000-0000-0000-0000-000000000001'", "'00000000-0000-0000-0000-000000000001'")]),
    ("uuid", "String", [("'61F0C404-5CB3-11E7-907B-A6006AD3DBA0'", "'61f0c404-5cb3-11e7-907b-a6006ad3dba0'")]),
    ("bytea", "String", [(r"'\x00ff61'", "unhex('00ff61')"), ("''", "''"), (r"'\x00'", "unhex('00')")]),
    ("json", "String", [("'{\"b\":1, \"a\":[1,2]}'", "'{\"b\":1, \"a\":[1,2]}'"), ("'{\"b\":1,\"a\":[1,2]}'", "'{\"b\":1,\"a\":[1,2]}'"), ("'null'", "'null'")]),
    ("jsonb", "Nullable(String)", [("'{\"b\":1.0,\"a\":\"é\"}'", "'{\"a\": \"é\", \"b\": 1.0}'"), ("'[]'", "'[]'"), ("NULL", "NULL")]),
    ("inet", "String", [("'10.0.0.1'", "'10.0.0.1'"), ("'10.0.0.0/8'", "'10.0.0.0/8'")]),
    ("interval", "String", [("'1 year 2 months 3 days 04:05:06.789'", "'P1Y2M3DT4H5M6.789S'"), ("'-1 mon +1 day'", "'P0Y-1M1DT0H0M0S'"), ("'-04:05:06.5'", "'P0Y0M0DT-4H-5M-6.5S'")]),
    ("money", "Decimal(19, 2)", [("'-1234.50'", "'-1234.50'"), ("'0'", "0")]),
    ("bit(1)", "Bool", [("B'1'", "true"), ("B'0'", "false")]),
    ("int4range", "String", [("'[1,9]'", "'[1,10)'"), ("'empty'", "'empty'")]),
    ("date", "Nullable(Date32)", [("'infinity'", "'2299-12-31'"), ("'-infinity'", "'1900-01-01'"), ("'2024-02-29'", "'2024-02-29'")]),
    ("date", "Int32", [("'infinity'", "2146033979"), ("'-infinity'", "-2147472691")]),
    ("timestamp with time zone", "DateTime64(6, 'UTC')", [("'infinity'", "'2299-12-31 23:59:59.999999'"), ("'-infinity'", "'1900-01-01 00:00:00'")]),
    ("timestamp without time zone", "DateTime64(3, 'UTC')", [("'infinity'", "'2299-12-31 23:59:59.999'"), ("'-infinity'", "'1900-01-01 00:00:00'")]),
    ("timestamp with time zone", "String", [("'infinity'", "'infinity'"), ("'-infinity'", "'-infinity'"), ("'1970-01-01 00:00:00+00'", "'1970-01-01T00:00:00Z'")]),
    ("text[]", "Array(String)", [("'{}'", "[]"), ("'{\"\"}'", "['']"), ("'{a,b}'", "['a', 'b']"), ("'{\"a,b\"}'", "['a,b']"), ("'{b,a}'", "['b', 'a']"), ("'{a1:b}'", "['a1:b']")]),
    ("text[]", "Array(Nullable(String))", [("'{NULL,a}'", "[NULL, 'a']"), ("'{\"NULL\",a}'", "['NULL', 'a']"), ("'{N,a}'", "['N', 'a']")]),
    ("bigint[]", "Array(Int64)", [("'{1,23}'", "[1, 23]"), ("'{12,3}'", "[12, 3]")]),
    ("uuid[]", "Array(UUID)", [("'{61f0c404-5cb3-11e7-907b-a6006ad3dba0}'", "['61f0c404-5cb3-11e7-907b-a6006ad3dba0']")]),
    ("numeric[]", "Array(Decimal(9, 2))", [("'{1.10,2}'", "[1.1, 2]"), ("'{1.1,2,0}'", "[1.1, 2, 0]")]),
]
# What a sink type that cannot be null holds in place of a null.
NULLS = [("text", "String", "''"), ("integer", "Int32", "0"), ("numeric", "Decimal(9, 2)", "0"), ("boolean", "Bool", "false"), ("text[]", "Array(String)", "[]"),
         ("uuid", "UUID", "'00000000-0000-0000-0000-000000000000'"), ("timestamp with time zone", "DateTime64(3, 'UTC')", "0"), ("double precision", "Float64", "0")]


def _both(source, sink, pg, ch, values, *, nullable=True):
    column = Column("v", pg, ch, nullable)
    at_source, in_sink = row_text([expressions(column)])
    left = source.execute(f"SELECT {at_source} FROM (SELECT ({values[0]})::{pg} AS v) AS t").fetchone()[0]
    return left, sink(f"SELECT {in_sink} FROM (SELECT CAST({values[1]} AS {ch}) AS v)")


@pytest.mark.parametrize(("pg", "ch", "values"), VALUES, ids=[f"{p} as {c}" for p, c, _ in VALUES])
def test_equal_values_have_equal_text_and_different_values_different_text(source, sink, pg, ch, values):
    found = [_both(source, sink, pg, ch, v, nullable="Nullable" in ch) for v in values]
    assert [left for left, _ in found] == [right for _, right in found]
    assert [(a, b) for a, b in itertools.combinations([left for left, _ in found], 2) if a == b] == []


@pytest.mark.parametrize(("pg", "ch", "default"), NULLS)
def test_a_null_that_the_sink_cannot_hold_is_its_default(source, sink, pg, ch, default):
    left, right = _both(source, sink, pg, ch, ("NULL", default))
    assert left == right


@pytest.mark.parametrize(("pg", "ch"), [("numeric", "Float64"), ("text[]", "String"), ("text", "Array(String)"), ("tstzrange", "String"), ("bigint", "Float64")])
def test_a_pair_of_types_without_an_exact_form_is_refused(pg, ch):
    with pytest.raises(ContractViolation, match="no canonical form"):
        expressions(Column("v", pg, ch))


def test_an_array_of_two_dimensions_is_not_taken_for_a_flat_one(source, sink):
    left, right = _both(source, sink, "bigint[]", "Array(Int64)", ("'{{1,2},{3,4}}'", "[1, 2, 3, 4]"))
    assert left != right


def test_sums_of_hashes_and_buckets_are_equal_whatever_the_order(source, sink):
    columns = [expressions(Column("k", "bigint", "Int64", nullable=False)), expressions(Column("t", "text", "String", nullable=False))]
    row, bucket = hash64(row_text(columns)), hash32(row_text(columns[:1]))
    left = source.execute(f"SELECT count(*), sum({row[0]})::text, sum({bucket[0]})::text FROM (SELECT i::bigint AS k, 'é' || i AS t FROM generate_series(1, 5000) AS i) AS g").fetchone()
    right = sink(f"SELECT count(), sum({row[1]}), sum({bucket[1]}) FROM (SELECT toInt64(5000 - number) AS k, concat('é', toString(k)) AS t FROM numbers(5000))").split("\t")
    assert (left[0], int(left[1]) % (1 << 64), int(left[2])) == tuple(map(int, right))

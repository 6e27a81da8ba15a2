"""Every PostgreSQL type with values of it and what they must be in ClickHouse; the page docs/reference/types.md; and a recorder of Debezium's records.

`python -m tests.types_page` prints the page; `python -m tests.types_page record` makes the table in the running stack's PostgreSQL, captures it with a
connector of its own, by snapshot and by stream, and writes tests/unit/contracts/recorded_types.json (run it through ./weir run, with a stack up).
"""
import json
import sys
import time
import uuid
from pathlib import Path

from weir.contracts import source_types

RECORDED = Path(__file__).parent / "unit" / "contracts" / "recorded_types.json"
SETUP = """CREATE TYPE types_mood AS ENUM ('sad', 'it''s ok'); CREATE DOMAIN types_positive AS int CHECK (VALUE > 0);
CREATE DOMAIN types_price AS numeric(8, 2); CREATE DOMAIN types_mail AS text"""
TEARDOWN = "DROP TABLE IF EXISTS public.every_type; DROP TYPE IF EXISTS types_mood; DROP DOMAIN IF EXISTS types_positive, types_price, types_mail"
LAST, FIRST = "2299-12-31 23:59:59.999999", "1900-01-01 00:00:00.000000"

# (PostgreSQL's type, [(value in PostgreSQL, what ClickHouse prints for it)]); a null is put in every column beside them.
CASES = [
    ("smallint", [("-32768", "-32768"), ("32767", "32767")]),
    ("integer", [("-2147483648", "-2147483648"), ("2147483647", "2147483647")]),
    ("bigint", [("-9223372036854775808", "-9223372036854775808"), ("9223372036854775807", "9223372036854775807")]),
    ("oid", [("0", "0"), ("4294967295", "4294967295")]),
    ("boolean", [("true", "true"), ("false", "false")]),
    ("bit(1)", [("B'1'", "true"), ("B'0'", "false")]),
    ("real", [("1.5", "1.5"), ("'NaN'", "nan"), ("'-Infinity'", "-inf")]),
    ("double precision", [("0.1", "0.1"), ("1e-300", "1e-300"), ("'Infinity'", "inf")]),
    ("numeric", [("12345678901234567890123456789.000000001000", "12345678901234567890123456789.000000001000"), ("'NaN'", "NAN"), ("'-Infinity'", "NEGATIVE_INFINITY")]),
    ("numeric(12,2)", [("-1234567890.10", "-1234567890.1"), ("0", "0")]),
    ("numeric(38,10)", [("1234567890123456789012345678.0123456789", "1234567890123456789012345678.0123456789"), ("-0.0000000001", "-0.0000000001")]),
    ("numeric(90,5)", [("1" * 85 + ".12345", "1" * 85 + ".12345"), ("0", "0.00000")]),
    ("money", [("'-1234.56'", "-1234.56"), ("'0.05'", "0.05")]),
    ("text", [("'a \"quoted\" \\ ü 🎈'", 'a "quoted" \\ ü 🎈'), ("''", ""), ("'null'", "null")]),
    ("character varying(10)", [("'abc'", "abc"), ("' '", " ")]),
    ("character(5)", [("'ab'", "ab   ")]),
    ("types_mood", [("'sad'", "sad"), ("'it''s ok'", "it's ok")]),
    ("json", [("'{\"a\" : 1,  \"b\":[null, \"x\"]}'", '{"a" : 1,  "b":[null, "x"]}'), ("'null'", "null")]),
    ("jsonb", [("'{\"b\":[null, \"x\"], \"a\":1.50}'", '{"a": 1.50, "b": [null, "x"]}'), ("'\"text\"'", '"text"')]),
    ("uuid", [("'A0EEBC99-9c0b-4ef8-bb6d-6bb9bd380a11'", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"), ("'00000000-0000-0000-0000-000000000000'", "00000000-0000-0000-0000-000000000000")]),
    ("bytea", [("'\\xdeadbeef00ff'", b"\xde\xad\xbe\xef\x00\xff"), ("''", b"")]),
    ("date", [("'2024-02-29'", "2024-02-29"), ("'infinity'", "2299-12-31"), ("'-infinity'", "1900-01-01"), ("'1900-01-01'", "1900-01-01")]),
    ("timestamp", [("'2024-02-29 12:34:56.123456'", "2024-02-29 12:34:56.123456"), ("'infinity'", LAST), ("'-infinity'", FIRST), ("'1969-12-31 23:59:59.999999'", "1969-12-31 23:59:59.999999")]),
    ("timestamp(3)", [("'2024-02-29 12:34:56.1234'", "2024-02-29 12:34:56.123000"), ("'infinity'", LAST), ("'-infinity'", FIRST)]),
    ("timestamp(0)", [("'1969-12-31 23:59:59'", "1969-12-31 23:59:59.000000"), ("'infinity'", LAST), ("'-infinity'", FIRST)]),
    ("timestamptz", [("'2024-02-29 12:34:56.123456+02'", "2024-02-29 10:34:56.123456"), ("'infinity'", LAST), ("'-infinity'", FIRST), ("'2299-12-31 23:59:59.999999+00'", LAST)]),
    ("timestamptz(0)", [("'1969-12-31 23:59:59+00'", "1969-12-31 23:59:59.000000")]),
    ("time", [("'12:34:56.123456'", "45296123456"), ("'24:00:00'", "86400000000"), ("'00:00:00'", "0")]),
    ("time(0)", [("'12:34:56'", "45296000000")]),
    ("timetz", [("'12:34:56.123456+02'", "10:34:56.123456Z")]),
    ("interval", [("'1 year 2 months 3 days 04:05:06.789'", "P1Y2M3DT4H5M6.789S"), ("'-1 mon +1 day'", "P0Y-1M1DT0H0M0S"), ("'0'", "P0Y0M0DT0H0M0S"), ("'-04:05:06.5'", "P0Y0M0DT-4H-5M-6.5S")]),
    ("inet", [("'192.168.1.5/24'", "192.168.1.5/24"), ("'2001:db8::1'", "2001:db8::1")]),
    ("cidr", [("'10.0.0.0/8'", "10.0.0.0/8"), ("'2001:db8::/32'", "2001:db8::/32")]),
    ("macaddr", [("'08-00-2B-01-02-03'", "08:00:2b:01:02:03")]),
    ("macaddr8", [("'08:00:2b:01:02:03:04:05'", "08:00:2b:01:02:03:04:05")]),
    ("int4range", [("'[1,9]'", "[1,10)"), ("'empty'", "empty")]),
    ("int8range", [("'[1,)'", "[1,)"), ("'(,)'", "(,)")]),
    ("numrange", [("'(1.5,2.50]'", "(1.5,2.50]")]),
    ("daterange", [("'[2024-01-01,2024-01-31]'", "[2024-01-01,2024-02-01)")]),
    ("tsrange", [("'[2024-01-01 00:00,2024-01-02 00:00)'", '["2024-01-01 00:00:00","2024-01-02 00:00:00")')]),
    ("tstzrange", [("'[2024-01-01 00:00+00,2024-01-02 00:00+02)'", '["2024-01-01 00:00:00+00","2024-01-01 22:00:00+00")')]),
    ("tsvector", [("'a fat cat'", "'a' 'cat' 'fat'")]),
    ("types_positive", [("5", "5")]),
    ("types_price", [("1.5", "1.5")]),
    ("types_mail", [("'a@b.c'", "a@b.c")]),
    ("smallint[]", [("'{1,NULL}'", "[1,NULL]")]),
    ("integer[]", [("'{1,NULL,3}'", "[1,NULL,3]"), ("'{}'", "[]")]),
    ("bigint[]", [("'{-9223372036854775808}'", "[-9223372036854775808]")]),
    ("boolean[]", [("'{t,f,NULL}'", "[true,false,NULL]")]),
    ("real[]", [("'{NaN,1.5}'", "[nan,1.5]")]),
    ("double precision[]", [("'{1.5,NULL}'", "[1.5,NULL]")]),
    ("numeric[]", [("'{1.10,NULL}'", "['1.10',NULL]")]),
    ("numeric(10,2)[]", [("'{1.10,NULL}'", "[1.1,NULL]")]),
    ("text[]", [("ARRAY['a', NULL, 'b\"c']", "['a',NULL,'b\"c']"), ("'{}'", "[]")]),
    ("character varying(5)[]", [("'{a}'", "['a']")]),
    ("character(3)[]", [("'{a}'", "['a  ']")]),
    ("uuid[]", [("'{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}'", "['a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11']")]),
    ("bytea[]", [("ARRAY['\\x4142'::bytea]", "['AB']")]),
    ("date[]", [("'{2024-02-29,infinity}'", "['2024-02-29','2299-12-31']")]),
    ("timestamp[]", [("'{2024-02-29 12:34:56.5}'", "['2024-02-29 12:34:56.500000']")]),
    ("timestamptz[]", [("'{2024-02-29 12:34:56.5+00,NULL}'", "['2024-02-29 12:34:56.500000',NULL]")]),
    ("time[]", [("'{01:02:03}'", "[3723000000]")]),
    ("json[]", [("ARRAY['{\"a\": 1}'::json]", "['{\"a\": 1}']")]),
    ("jsonb[]", [("ARRAY['{\"a\":1}'::jsonb]", "['{\"a\": 1}']")]),
    ("inet[]", [("'{10.0.0.1}'", "['10.0.0.1']")]),
    ("cidr[]", [("'{10.0.0.0/8}'", "['10.0.0.0/8']")]),
    ("macaddr[]", [("'{08:00:2b:01:02:03}'", "['08:00:2b:01:02:03']")]),
    ("int4range[]", [("ARRAY['[1,2)'::int4range]", "['[1,2)']")]),
    ("int8range[]", [("ARRAY['[1,2)'::int8range]", "['[1,2)']")]),
]
ROWS = max(len(values) for _, values in CASES)


def create_sql():
    """The table: an identity, a generated column and a column for each case."""
    columns = ", ".join(f"c{n} {kind}" for n, (kind, _) in enumerate(CASES))
    return (f"CREATE TABLE public.every_type (id bigint PRIMARY KEY, ident bigint GENERATED ALWAYS AS IDENTITY (START WITH 100), doubled bigint GENERATED ALWAYS AS (id * 2) STORED,"
            f" computed bigint GENERATED ALWAYS AS (id * 3) VIRTUAL, {columns}); ALTER TABLE public.every_type REPLICA IDENTITY FULL")


def insert_sql(row, key):
    """Row `row` of the cases under a key; past its last value a column is null."""
    values = ", ".join(values[row][0] if row < len(values) else "NULL" for _, values in CASES)
    return f"INSERT INTO public.every_type (id, {', '.join(f'c{n}' for n in range(len(CASES)))}) VALUES ({key}, {values})"


def expected(row):
    """What ClickHouse must hold for that row, as text; None: null, [] for a null array."""
    return [values[row][1] if row < len(values) else ("[]" if kind.endswith("[]") else None) for kind, values in CASES]


def page():
    """The documentation page, from the landings and these cases."""
    lines = ["# How each PostgreSQL type lands", "",
             "Made from `weir.contracts.source_types` and `tests/types_page.py` (`./weir run python -m tests.types_page`); every value below is tested through PostgreSQL 18 and Debezium,",
             "by snapshot and by stream. A column that may be null is `Nullable` in ClickHouse; domains land as their base type; identity, serial and stored generated columns as",
             "any other; virtual generated columns are in no change record and do not land.", "",
             "| PostgreSQL | ClickHouse | value there → here | remark |", "|---|---|---|---|"]
    for kind, values in CASES:
        found = source_types.landing(catalog_name(kind))
        shown = "<br>".join(f"`{v.strip(chr(39))[:44]}` → `{(t.hex() if isinstance(t, bytes) else t)[:44]}`" for v, t in values).replace("|", "\\|")
        lines.append(f"| {kind.replace('types_mood', 'enum').replace('types_', 'domain ')} | `{found.sink}` | {shown} | {found.remark if not kind.endswith('[]') else ''} |")
    lines += ["", f"Arrays: {source_types.ARRAY_REMARK}.", "", "## What does not land", "",
              "`./weir table check` refuses a table with such a column before its first row, and says the `ALTER TABLE` that makes it land.", "", "| PostgreSQL | arrives |", "|---|---|"]
    lines += [f"| {kind} | {how} |" for kind, how in source_types.REFUSED.items()]
    lines += ["| multiranges, composite types, extension types, other arrays | never, or in a form that was not tested |",
              "| stored generated columns | null from the stream unless the publication has `publish_generated_columns = stored` (PostgreSQL 18) |"]
    return "\n".join(lines) + "\n"


_CATALOG = {"timestamp": "timestamp without time zone", "timestamptz": "timestamp with time zone", "time": "time without time zone", "timetz": "time with time zone",
            "types_mood": "enum", "types_positive": "integer", "types_price": "numeric(8,2)", "types_mail": "text"}


def catalog_name(kind):
    """What format_type() says of a case's type."""
    base, array = kind.removesuffix("[]"), "[]" if kind.endswith("[]") else ""
    name, parenthesis, precision = base.partition("(")
    if name in _CATALOG:
        first, _, rest = _CATALOG[name].partition(" ")
        return (f"{first}({precision} {rest}" if parenthesis else _CATALOG[name]) + array
    return kind


def captured(endpoints, home):
    """Make the table, capture it by a connector of its own, and return its records: (key, value) of each row by snapshot, then by stream."""
    import psycopg

    with psycopg.connect(endpoints.postgres_dsn, autocommit=True) as c:
        c.execute(TEARDOWN)
        c.execute(SETUP)
        c.execute(create_sql())
        c.execute("GRANT SELECT ON public.every_type TO weir_cdc; DROP PUBLICATION IF EXISTS weir_types;"
                  " CREATE PUBLICATION weir_types FOR TABLE public.every_type WITH (publish_generated_columns = stored)")
        for row in range(ROWS + 1):
            c.execute(insert_sql(row, row).encode())
        try:
            return _through_debezium(endpoints, home, lambda: [c.execute(insert_sql(row, 100 + row).encode()) for row in range(ROWS + 1)])
        finally:
            _drop_slot(c)
            c.execute("DROP PUBLICATION weir_types")
            c.execute(TEARDOWN)


def _drop_slot(connection):
    import psycopg

    for _ in range(60):
        try:
            connection.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = 'weir_types'")
        except psycopg.errors.ObjectInUse:
            time.sleep(0.5)
        else:
            return


def _through_debezium(endpoints, home, then):
    import httpx
    from confluent_kafka import Consumer, TopicPartition

    from weir.connect import register

    prefix = f"types-{uuid.uuid4().hex[:8]}"
    wanted = register.configuration(endpoints, home) | {"slot.name": "weir_types", "publication.name": "weir_types", "table.include.list": "public.every_type", "topic.prefix": prefix}
    wanted = {k: v for k, v in wanted.items() if not k.startswith(("signal.", "heartbeat.", "predicates", "transforms"))}
    url = f"{endpoints.connect_url}/connectors/{prefix}"
    httpx.put(f"{url}/config", json=wanted, timeout=30).raise_for_status()
    consumer = Consumer({"bootstrap.servers": endpoints.kafka_bootstrap, "group.id": prefix, "isolation.level": "read_committed", "auto.offset.reset": "earliest",
                         "topic.metadata.refresh.interval.ms": 500, "log_level": 0})
    found, deadline = [], time.monotonic() + 90
    try:
        consumer.assign([TopicPartition(f"{prefix}.public.every_type", 0, 0)])
        while len(found) < 2 * (ROWS + 1):
            message = consumer.poll(0.5)
            if message is not None and message.error() is None:
                found.append((message.key(), message.value()))
                if len(found) == ROWS + 1:
                    then()
            elif time.monotonic() > deadline:
                raise AssertionError(f"{len(found)} records came: {httpx.get(f'{url}/status').text[:1000]}")
    finally:
        consumer.close()
        httpx.delete(url, timeout=30)
        _forget_topics(endpoints, prefix)
    return found


def _forget_topics(endpoints, prefix):
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": endpoints.kafka_bootstrap})
    ours = [t for t in admin.list_topics(timeout=10).topics if t.startswith(prefix)]
    for future in admin.delete_topics(ours).values() if ours else ():
        future.result(10)


def main():
    if sys.argv[1:] != ["record"]:
        sys.stdout.write(page())
        return
    from weir.stack import settings

    configured = settings.load()
    rows = [{"key": json.loads(k), "after": json.loads(v)["after"], "op": json.loads(v)["op"]} for k, v in captured(configured.endpoints, configured.home)]
    RECORDED.parent.mkdir(parents=True, exist_ok=True)
    RECORDED.write_text("[\n" + ",\n".join(json.dumps(r, ensure_ascii=False) for r in rows) + "\n]\n")


if __name__ == "__main__":
    main()

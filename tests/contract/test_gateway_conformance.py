"""The interface case by case (gateway_cases.py), and every format that the engine has, out and in again."""
import ctypes
import re
import uuid

import httpx
import pytest
from tests.contract.gateway_cases import CASES

from weir.gateway import failures

# They need a schema, or hold one column, or are bytes of another protocol: made and read with what each needs, or only made.
ONE_STRING = {"RawBLOB", "LineAsString", "LineAsStringWithNames", "LineAsStringWithNamesAndTypes", "ProtobufSingle"}
NEEDS_SCHEMA = {"Protobuf", "ProtobufSingle", "ProtobufList", "CapnProto", "Template", "AvroConfluent"}
OTHER_PROTOCOL = {"MySQLWire", "PostgreSQLWire", "ODBCDriver2", "Prometheus", "PNG", "Npy", "GeoJSON", "Buffers", "JSONColumnsWithMetadata"}


def _filled(value, tag):
    return {k: str(v).replace("{tag}", tag) for k, v in value.items()}


def keeps_what_is_no_text():
    """Say whether this Python, asked to raise a message that is no UTF-8, has its bytes in what it raises instead."""
    try:
        ctypes.pythonapi.PyErr_SetString(ctypes.py_object(RuntimeError), b"\xff")
    except UnicodeDecodeError:
        return True
    except RuntimeError:
        return False
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_the_gateway_answers_as_a_server_does(server, case):
    if case.name == "a row that is not UTF-8 and does not fit" and not keeps_what_is_no_text():
        pytest.skip("this Python loses the engine's exception (docs/reference/clickhouse-limits.md)")
    tag = uuid.uuid4().hex[:8]
    if case.then:
        server.text("CREATE OR REPLACE TABLE d.i (a Int64, s String) ENGINE = MergeTree ORDER BY a")
    body = case.body.replace("{tag}", tag) if isinstance(case.body, str) else case.body
    answer = httpx.request(case.method, server.url + case.path, params=_filled(case.url, tag) or None, content=body, headers=_filled(case.headers, tag), timeout=60)
    assert answer.status_code == case.status, answer.text
    assert answer.headers.get("X-ClickHouse-Exception-Code", "") == case.code
    if case.code:
        assert answer.text.startswith(f"Code: {case.code}. DB::Exception: ") or case.method == "HEAD"
        assert (case.text or "") in answer.text
        assert not re.search(r"\(version [^()]*(\([^()]*\))?\)\s*\(version", answer.text)
    elif case.text is not None:
        assert answer.text == case.text
    assert {k: answer.headers.get(k) for k in case.has} == {k: v and v.replace("{tag}", tag) for k, v in case.has.items()}
    if case.then:
        assert server.text(case.then[0]) == case.then[1]


# ClickHouse, src/Server/HTTP/exceptionCodeToHTTPStatus.cpp; the last line is ours: more than its slots take is answered 503 with Retry-After
STATUSES = """
401 REQUIRED_PASSWORD
403 UNKNOWN_USER WRONG_PASSWORD AUTHENTICATION_FAILED SET_NON_GRANTED_ROLE ACCESS_DENIED
400 BAD_ARGUMENTS CANNOT_COMPILE_REGEXP CANNOT_PARSE_TEXT CANNOT_PARSE_ESCAPE_SEQUENCE CANNOT_PARSE_QUOTED_STRING CANNOT_PARSE_DATE CANNOT_PARSE_DATETIME CANNOT_PARSE_NUMBER
400 CANNOT_PARSE_DOMAIN_VALUE_FROM_STRING CANNOT_PARSE_IPV4 CANNOT_PARSE_IPV6 CANNOT_PARSE_INPUT_ASSERTION_FAILED CANNOT_PARSE_UUID DUPLICATE_COLUMN ILLEGAL_COLUMN UNKNOWN_ELEMENT_IN_AST
400 UNKNOWN_TYPE_OF_AST_NODE THERE_IS_NO_COLUMN TOO_DEEP_AST TOO_BIG_AST UNEXPECTED_AST_STRUCTURE SYNTAX_ERROR INCORRECT_DATA TYPE_MISMATCH VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
404 UNKNOWN_TABLE UNKNOWN_FUNCTION UNKNOWN_IDENTIFIER UNKNOWN_TYPE UNKNOWN_STORAGE UNKNOWN_DATABASE UNKNOWN_SETTING UNKNOWN_DIRECTION_OF_SORTING UNKNOWN_AGGREGATE_FUNCTION UNKNOWN_FORMAT
404 UNKNOWN_DATABASE_ENGINE UNKNOWN_TYPE_OF_QUERY UNKNOWN_ROLE
408 TIMEOUT_EXCEEDED
411 HTTP_LENGTH_REQUIRED
413 QUERY_IS_TOO_LARGE
415 UNSUPPORTED_MEDIA_TYPE
501 NOT_IMPLEMENTED
503 SOCKET_TIMEOUT CANNOT_OPEN_FILE CANNOT_SCHEDULE_TASK
503 TOO_MANY_SIMULTANEOUS_QUERIES
"""


def test_every_exception_has_the_status_that_the_server_gives_it(server):
    told = dict(line.split("\t") for line in server.text("SELECT errorCodeToName(toInt32(number)) AS name, number FROM numbers(2000) WHERE name != ''").splitlines())
    wanted = {int(told[name]): int(status) for status, *names in map(str.split, STATUSES.strip().splitlines()) for name in names}
    assert wanted == failures.STATUS


def test_every_format_that_goes_out_comes_in_again_as_it_was(server):
    both = server.text("SELECT name FROM system.formats WHERE is_output AND is_input ORDER BY name FORMAT TSVRaw").split()
    told = {}
    for form in both:
        if form in NEEDS_SCHEMA | OTHER_PROTOCOL:
            continue
        columns = "s String" if form in ONE_STRING else "a Int64, s String, f Float64"
        rows = "'x y'" if form in ONE_STRING else "toInt64(number) AS a, concat('v ', toString(number)) AS s, number / 4 AS f"
        source = "numbers(1)" if form in ONE_STRING else "numbers(50000)"
        server.text(f"CREATE OR REPLACE TABLE d.out ({columns}) ENGINE = MergeTree ORDER BY tuple()")
        server.text(f"CREATE OR REPLACE TABLE d.back ({columns}) ENGINE = MergeTree ORDER BY tuple()")
        server.text(f"INSERT INTO d.out SELECT {rows} FROM {source}")
        made = server.post(f"SELECT * FROM d.out ORDER BY ALL FORMAT {form}", max_block_size="1009")
        put = server.post(f"INSERT INTO d.back FORMAT {form}", made.content) if made.status_code == 200 else made
        same = server.text("SELECT (SELECT (count(), sum(cityHash64(*))) FROM d.out) = (SELECT (count(), sum(cityHash64(*))) FROM d.back)")
        if (made.status_code, put.status_code, same) != (200, 200, "1\n"):
            told[form] = (made.status_code, put.status_code, same, put.text[:150])
    assert told == {}


def test_every_format_that_only_goes_out_is_the_same_in_pieces_and_by_a_file(server):
    told = {}
    for form in server.text("SELECT name FROM system.formats WHERE is_output ORDER BY name FORMAT TSVRaw").split():
        if form in NEEDS_SCHEMA | OTHER_PROTOCOL | ONE_STRING or "WithProgress" in form:
            continue
        sql = f"SELECT number AS a, toString(number) AS s FROM numbers(3000) ORDER BY a FORMAT {form}"
        same = {"max_block_size": "512", "output_format_pretty_squash_consecutive_ms": "0"}  # else Pretty joins the blocks that come within 50 ms
        one, other = server.post(sql, **same), server.post(sql, **same, wait_end_of_query="1")
        if one.status_code != 200 or (one.content != other.content and "statistics" not in one.text and form not in {"Parquet", "ORC", "Avro", "Hash"}):
            told[form] = (one.status_code, len(one.content), len(other.content), one.text[:150])
    assert told == {}

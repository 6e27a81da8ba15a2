"""What ClickHouse's HTTP interface does, case by case: a request, and what a real server answers, with where that is said.

Sources: `http` is ClickHouse's documentation, interfaces/http; `src/…` is its source; `sql` its sql-reference; `formats` its interfaces/formats.
`{tag}` in a session's or query's id is replaced for each run, so that cases do not meet.
"""
from dataclasses import dataclass, field

T = "text/tab-separated-values; charset=UTF-8"


@dataclass(frozen=True)
class Case:
    """`url`: its query; `body` bytes or text; `text` None: any; `code`: of the exception, and then `text` is looked for in its message; `then`: (SQL, answer) asked afterwards."""

    name: str
    source: str
    url: dict = field(default_factory=dict)
    body: str | bytes = b""
    method: str = "POST"
    headers: dict = field(default_factory=dict)
    path: str = "/"
    status: int = 200
    text: str | None = None
    code: str = ""
    has: dict = field(default_factory=dict)
    then: tuple = ()


def _q(sql, **more):
    return {"query": sql, **more}


QUERY = [
    Case("query by GET", "http", _q("SELECT 1"), method="GET", text="1\n"),
    Case("query in the body", "http", body="SELECT 1", text="1\n"),
    Case("query in the URL of a POST without a body", "http", _q("SELECT 2"), text="2\n"),
    Case("query begun in the URL, ended in the body", "http: 'part of the query in the query parameter, and part in the POST'", _q("SELECT"), "3", text="3\n"),
    Case("line feeds and blanks around", "src/Parsers/parseQuery.cpp", body="\n\n  SELECT 4 \n;\n ", text="4\n"),
    Case("a semicolon and a comment behind", "src/Parsers/parseQuery.cpp", body="SELECT 5; -- end", text="5\n"),
    Case("several statements", "src/Parsers/parseQuery.cpp: multi-statements are the client's", body="SELECT 1; SELECT 2", status=400, code="62"),
    Case("an empty query", "src/Interpreters/executeQuery.cpp", body="   ", status=400, code="62", text="Empty query"),
    Case("a comment alone", "src/Interpreters/executeQuery.cpp", body="/* nothing */", status=400, code="62"),
    Case("GET may not write", "http: 'When using the GET method, readonly is set'", _q("CREATE TABLE d.no (a Int8) ENGINE = Null"), method="GET", status=500, code="164"),
    Case("GET may not SET", "http", _q("SET max_threads = 1"), method="GET", status=500, code="164"),
    Case("HEAD has no body", "http", _q("SELECT 1"), method="HEAD", text="", has={"x-clickhouse-format": "TabSeparated"}),
    Case("another path", "src/Server/HTTPHandlerFactory.cpp", path="/none", method="GET", status=404, text="There is no handle /none\n"),
    Case("/ping", "http", path="/ping", method="GET", text="Ok.\n"),
    Case("/ping by HEAD", "http", path="/ping", method="HEAD", text=""),
    Case("/replicas_status", "http", path="/replicas_status", method="GET", text="Ok.\n"),
    Case("/ without a query", "http: 'GET / returns Ok.'", method="GET", text="Ok.\n"),
    Case("plus and percent in the URL", "http", _q("SELECT 'a+b%&='"), method="GET", text="a+b%&=\n"),
    Case("not UTF-8 in a literal", "src/Parsers/Lexer.cpp: bytes", body=b"SELECT hex('\xff\xfe')", text="FFFE\n"),
    Case("not UTF-8 in the URL", "src/Server/HTTP/HTMLForm.cpp: bytes", path="/?query=SELECT%20hex(%27%FF%FE%27)%2C%20hex({a:String})&param_a=%FF&log_comment=%FF", text="FFFE\tFF\n"),
    Case("an exception that quotes what is not UTF-8", "src/Server/HTTPHandler.cpp", body=b"SELECT throwIf(1, 'x\xff')", status=500, code="395", text="x\ufffd"),
    Case("a query of 300 kB", "max_query_size holds for the statement; a client raises it", _q("", max_query_size="1000000"), "SELECT " + "1 + " * 200 + "1 -- " + "x" * 300_000, text="201\n"),
]

PARAMETERS = [
    Case("a parameter", "http: param_<name>", _q("SELECT {a:Int64} + 1", param_a="41"), text="42\n"),
    Case("a text as in TabSeparated", "http: 'Tabs in URL parameters … escaped'", _q("SELECT splitByChar('\\t', {a:String})", param_a="x\\ty"), text="['x','y']\n"),
    Case("an array", "http", _q("SELECT {a:Array(UInt8)}", param_a="[1,2]"), text="[1,2]\n"),
    Case("NULL", "http", _q("SELECT {a:Nullable(String)} IS NULL", param_a="\\N"), text="1\n"),
    Case("an identifier", "sql: {name:Identifier}", _q("SELECT count() FROM {t:Identifier}.one", param_t="system"), text="1\n"),
    Case("one that is missing", "src/Interpreters/ReplaceQueryParameterVisitor.cpp", _q("SELECT {a:Int64}"), status=500, code="456"),
    Case("one of another type", "src/Interpreters/ReplaceQueryParameterVisitor.cpp", _q("SELECT {a:Int64}", param_a="x"), status=500, code="457"),
    Case("a setting", "http: 'any setting'", _q("SELECT getSetting('max_threads')", max_threads="1"), text="1\n"),
    Case("the query's SETTINGS before the URL's", "sql: SETTINGS clause", _q("SELECT getSetting('max_block_size') SETTINGS max_block_size = 5", max_block_size="7"), text="5\n"),
    Case("an unknown setting", "src/Core/BaseSettings.cpp", _q("SELECT 1", nonsense="1"), status=404, code="115"),
    Case("a limit that is passed", "src/QueryPipeline/SizeLimits.cpp", _q("SELECT number FROM numbers(10)", max_result_rows="3", max_block_size="1"), status=500, code="396"),
    Case("the default database", "http: database", _q("SELECT currentDatabase()", database="system"), text="system\n"),
    Case("the default database by header", "http: X-ClickHouse-Database", _q("SELECT currentDatabase()"), headers={"X-ClickHouse-Database": "system"}, text="system\n"),
    Case("a database that is not", "src/Common/ErrorCodes.cpp 81", _q("SELECT 1", database="none"), status=404, code="81"),
    Case("the default format", "http: default_format", _q("SELECT 1 AS a", default_format="JSONEachRow"), text='{"a":1}\n'),
    Case("the default format by header", "http: X-ClickHouse-Format", _q("SELECT 1 AS a"), headers={"X-ClickHouse-Format": "JSONEachRow"}, text='{"a":1}\n'),
    Case("FORMAT before the default", "http", _q("SELECT 1 AS a FORMAT CSV", default_format="JSONEachRow"), text="1\n", has={"x-clickhouse-format": "CSV"}),
    Case("an unknown format", "src/Formats/FormatFactory.cpp", _q("SELECT 1 FORMAT None"), status=404, code="73"),
]

SQL = [
    Case("comments of every kind", "src/Parsers/Lexer.cpp", body="/* a /* b */ c */ SELECT -- x\n 1 #! y\n + 1 // z\n", text="2\n"),
    Case("a heredoc", "src/Parsers/Lexer.cpp", body="SELECT $a$ FORMAT CSV; ' $a$ FORMAT RawBLOB", text=" FORMAT CSV; ' "),
    Case("FORMAT in a literal", "src/Parsers/Lexer.cpp", body="SELECT 'FORMAT CSV', \"x FORMAT CSV\" FROM (SELECT 1 AS `x FORMAT CSV`)", text="FORMAT CSV\t1\n"),
    Case("format as a name", "src/Parsers/ParserQueryWithOutput.cpp", body="SELECT format FROM (SELECT 1 AS format)", text="1\n"),
    Case("SETTINGS before FORMAT", "sql", body="SELECT 1 AS a SETTINGS max_threads = 1 FORMAT JSONEachRow", text='{"a":1}\n'),
    Case("SETTINGS behind FORMAT", "sql", body="SELECT 1 AS a FORMAT JSONEachRow SETTINGS max_threads = 1", text='{"a":1}\n'),
    Case("a query in brackets", "src/Parsers/ParserQueryWithOutput.cpp", body="(SELECT 1 AS a) FORMAT JSONEachRow", text='{"a":1}\n'),
    Case("a query in brackets, in JSON", "src/Parsers/ParserQueryWithOutput.cpp", body="(SELECT 1 AS a) UNION ALL (SELECT 1) FORMAT TSVWithNames", text="a\n1\n1\n"),
    Case("a format's name in quotes", "src/Parsers/ParserQueryWithOutput.cpp: an identifier", body="SELECT 1 AS a FORMAT `TSVWithNames`", text="a\n1\n"),
    Case("WITH", "sql", body="WITH x AS (SELECT 1 AS a) SELECT a FROM x FORMAT CSV", text="1\n"),
    Case("FROM before SELECT, by GET", "sql: SELECT, 'FROM … SELECT …'", _q("FROM numbers(3) SELECT number WHERE number > 0 FORMAT CSV"), method="GET", text="1\n2\n"),
    Case("FROM before SELECT, in a format that goes by a file", "sql: SELECT", body="FROM numbers(2) SELECT number AS n SETTINGS max_threads = 1 FORMAT TSVWithNames", text="n\n0\n1\n"),
    Case("TOTALS", "formats", body="SELECT number AS n, count() FROM numbers(2) GROUP BY n WITH TOTALS ORDER BY n", text="0\t1\n1\t1\n\n0\t2\n"),
    Case("INTO OUTFILE", "src/Interpreters/executeQuery.cpp: the client's alone", body="SELECT 1 INTO OUTFILE '/tmp/x'", status=400, code="62"),
    Case("no table", "src/Common/ErrorCodes.cpp 60", body="SELECT * FROM d.none", status=404, code="60"),
    Case("a syntax error", "src/Common/ErrorCodes.cpp 62", body="SELEC 1", status=400, code="62", text="Syntax error"),
    Case("EXPLAIN", "sql", body="EXPLAIN SYNTAX SELECT 1", text=None),
    Case("SHOW with FORMAT", "sql", body="SHOW DATABASES LIKE 'system' FORMAT JSONEachRow", text='{"name":"system"}\n'),
    Case("EXISTS", "sql", body="EXISTS TABLE system.one", text="1\n"),
    Case("a statement without a result", "src/Server/HTTPHandler.cpp", body="CREATE OR REPLACE TABLE d.made (a Int8) ENGINE = Null", text=""),
]

INSERTS = [
    Case("VALUES in the URL", "http", _q("INSERT INTO d.i VALUES (1, 'x')"), then=("SELECT * FROM d.i", "1\tx\n")),
    Case("VALUES in the body", "http", _q("INSERT INTO d.i VALUES"), "(1, 'x'), (2, 'y;z')", then=("SELECT * FROM d.i ORDER BY a", "1\tx\n2\ty;z\n")),
    Case("expressions in VALUES", "sql: INSERT INTO", body="INSERT INTO d.i VALUES (1 + 1, concat('a', 'b'))", then=("SELECT * FROM d.i", "2\tab\n")),
    Case("columns and DEFAULT", "sql: INSERT INTO", body="INSERT INTO d.i (a, s) VALUES (1, DEFAULT)", then=("SELECT a, s = '' FROM d.i", "1\t1\n")),
    Case("all but a column", "sql: INSERT INTO t (* EXCEPT(s))", body="INSERT INTO d.i (* EXCEPT(s)) VALUES (3)", then=("SELECT a FROM d.i", "3\n")),
    Case("data behind FORMAT in the body", "http", body='INSERT INTO d.i FORMAT CSV\n1,"x,y"\n', then=("SELECT * FROM d.i", "1\tx,y\n")),
    Case("data that looks like SQL", "http", _q("INSERT INTO d.i FORMAT TSV"), "1\t; DROP TABLE d.i -- FORMAT CSV\n", then=("SELECT s FROM d.i", "; DROP TABLE d.i -- FORMAT CSV\n")),
    Case("SETTINGS before FORMAT", "sql: INSERT INTO", _q("INSERT INTO d.i SETTINGS input_format_skip_unknown_fields = 1 FORMAT JSONEachRow"), '{"a":1,"s":"x","more":2}', then=("SELECT a FROM d.i", "1\n")),
    Case("without a format", "src/Parsers/ParserInsertQuery.cpp: the default is TabSeparated for HTTP", _q("INSERT INTO d.i"), "1\tx\n", then=("SELECT * FROM d.i", "1\tx\n")),
    Case("from a SELECT", "sql", body="INSERT INTO d.i SELECT number, 'n' FROM numbers(2)", then=("SELECT count() FROM d.i", "2\n")),
    Case("from input()", "sql: table-functions/input", _q("INSERT INTO d.i SELECT a * 2, upper(s) FROM input('a Int64, s String') FORMAT CSV"), "1,x\n2,y\n", then=("SELECT * FROM d.i ORDER BY a", "2\tX\n4\tY\n")),
    Case("from input(), all in the body", "sql: table-functions/input", body="INSERT INTO d.i SELECT a, s FROM input('a Int64, s String') WHERE a > 1 FORMAT TSV\n1\tx\n2\ty\n", then=("SELECT a FROM d.i", "2\n")),
    Case("a row that is not UTF-8 and does not fit", "src/Common/ErrorCodes.cpp 27", _q("INSERT INTO d.i FORMAT TSV"), b"\xff\xfe\ty\n", status=400, code="27", then=("SELECT count() FROM d.i", "0\n")),
    Case("a row that does not fit", "src/Common/ErrorCodes.cpp 27", _q("INSERT INTO d.i FORMAT TSV"), "x\ty\n", status=400, code="27", then=("SELECT count() FROM d.i", "0\n")),
    Case("too few columns", "src/Processors/Formats", _q("INSERT INTO d.i FORMAT CSV"), "1\n", status=400, code="27", then=("SELECT count() FROM d.i", "0\n")),
    Case("an empty body", "src/Interpreters/executeQuery.cpp", _q("INSERT INTO d.i FORMAT TSV"), "", then=("SELECT count() FROM d.i", "0\n")),
    Case("into a table that is not", "src/Common/ErrorCodes.cpp 60", _q("INSERT INTO d.none FORMAT TSV"), "1\n", status=404, code="60"),
    Case("by GET", "http", _q("INSERT INTO d.i VALUES (1, 'x')"), method="GET", status=500, code="164", then=("SELECT count() FROM d.i", "0\n")),
]

HEADERS = [
    Case("what every answer has", "http", _q("SELECT 1", query_id="case-{tag}"), has={"x-clickhouse-query-id": "case-{tag}", "x-clickhouse-timezone": "UTC", "content-type": T}),
    Case("the id by header", "src/Server/HTTPHandler.cpp", _q("SELECT 1"), headers={"X-ClickHouse-Query-Id": "head-{tag}"}, has={"x-clickhouse-query-id": "head-{tag}"}),
    Case("an id that cannot stand in a header", "src/Server/HTTPHandler.cpp", _q("SELECT 1", query_id="a\r\nX-Other: {tag}"), text="1\n", has={"x-clickhouse-query-id": "a??X-Other: {tag}", "x-other": None}),
    Case("JSON's type", "src/Processors/Formats", _q("SELECT 1 FORMAT JSON"), has={"content-type": "application/json; charset=UTF-8"}),
    Case("CSV's type", "src/Processors/Formats", _q("SELECT 1 FORMAT CSV"), has={"content-type": "text/csv; charset=UTF-8; header=absent"}),
    Case("an exception's code", "http: X-ClickHouse-Exception-Code", _q("SELECT throwIf(1)"), status=500, code="395", has={"x-clickhouse-exception-code": "395"}),
    Case("wait_end_of_query", "http: response buffering", _q("SELECT throwIf(number = 90000) FROM numbers(100000)", wait_end_of_query="1", max_block_size="10"), status=500, code="395"),
    Case("a kept session", "http: session_id", _q("SELECT 1", session_id="s-{tag}", session_timeout="5"), text="1\n"),
    Case("a session that must be there", "http: session_check", _q("SELECT 1", session_id="none-{tag}", session_check="1"), status=500, code="372"),
    Case("a session's time-out too long", "src/Server/HTTPHandler.cpp", _q("SELECT 1", session_id="s2-{tag}", session_timeout="100000"), status=500, code="374", text="Maximum session timeout"),
    Case("a session's time-out that is no number", "tests/queries/0_stateless/00463", _q("SELECT 1", session_id="s3-{tag}", session_timeout="string"), status=500, code="374", text="Invalid session timeout"),
    Case("a session's time-out below zero", "tests/queries/0_stateless/00463", _q("SELECT 1", session_id="s4-{tag}", session_timeout="-1"), status=500, code="374", text="Invalid session timeout"),
    Case("a session's time-out of zero", "tests/queries/0_stateless/00463", _q("SELECT 1", session_id="s5-{tag}", session_timeout="0"), text="1\n"),
    Case("a protocol version that is no UInt64", "src/Server/HTTPHandler.cpp", _q("SELECT 1 FORMAT Native", client_protocol_version="9" * 5000), status=400, code="72"),
    Case("a temporary table needs a session", "sql: CREATE TEMPORARY TABLE", body="SELECT * FROM tmp_{tag}", status=404, code="60"),
    Case("an unreadable multipart body", "src/Server/HTTP/HTMLForm.cpp", _q("SELECT 1"), b"x", headers={"Content-Type": "multipart/form-data; boundary=b"}, status=400, code="36"),
    Case("an unknown coding", "src/IO/CompressionMethod.cpp", _q("SELECT 1"), b"", headers={"Content-Encoding": "x-none"}, status=501, code="48"),
]

CASES = [*QUERY, *PARAMETERS, *SQL, *INSERTS, *HEADERS]

"""The scanner: keywords count only where the lexer sees them, and an INSERT's data is never read."""
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.gateway import statements


@pytest.mark.parametrize(
    ("sql", "kind", "name"),
    [
        ("SELECT 1", "SELECT", ""),
        ("select 1 format JSON", "SELECT", "JSON"),
        ("SELECT 1 FORMAT JSON;", "SELECT", "JSON"),
        ("SELECT 1 FORMAT JSON SETTINGS max_threads = 1", "SELECT", "JSON"),
        ("SELECT 'x FORMAT CSV'", "SELECT", ""),
        ("SELECT 1 -- FORMAT CSV", "SELECT", ""),
        ("SELECT 1 /* FORMAT CSV */", "SELECT", ""),
        ("SELECT name, format FROM t", "SELECT", ""),
        ("SELECT 1 AS format WHERE 1", "SELECT", ""),
        ("SELECT $h$ FORMAT CSV $h$", "SELECT", ""),
        ("SELECT `FORMAT` FROM t FORMAT TSV", "SELECT", "TSV"),
        ("WITH x AS (SELECT 1 FORMAT CSV) SELECT * FROM x", "WITH", ""),
        ("FROM t SELECT a FORMAT CSV", "FROM", "CSV"),
        ("  -- c\n  SHOW TABLES", "SHOW", ""),
        ("", "", ""),
    ],
)
def test_the_kind_and_the_format_are_read_as_the_server_reads_them(sql, kind, name):
    found = statements.read(sql.encode())
    assert (found.kind, found.format) == (kind, name)


def test_an_inserts_data_begins_after_the_formats_line_and_stays_untouched():
    data = b"\x00\xff'FORMAT CSV\n"
    sql = b"INSERT INTO t (a, b) SETTINGS x = 'FORMAT y' FORMAT Native\n" + data
    found = statements.read(sql)
    assert found.format == "Native"
    assert sql[found.insert_data_at :] == data
    assert statements.from_file(sql, found, "/s/x.data") == b"INSERT INTO t (a, b) FROM INFILE '/s/x.data' COMPRESSION 'none' SETTINGS x = 'FORMAT y' FORMAT Native\n"


def test_values_inside_stay_inside_and_values_outside_come_from_the_file():
    assert statements.read(b"INSERT INTO t VALUES (1, 'a')").has_values
    sql = b"INSERT INTO t VALUES"
    assert statements.from_file(sql, statements.read(sql), "/s/x") == b"INSERT INTO t FROM INFILE '/s/x' COMPRESSION 'none' FORMAT Values"


@pytest.mark.parametrize("sql", [b"SELECT 1", b"from t select a", b"WITH 1 AS x SELECT x", b"(SELECT 1)"])
def test_a_query_proper_comes_in_pieces_however_it_begins(sql):
    found = statements.read(sql)
    assert (found.reads, found.selects) == (True, True)


@pytest.mark.parametrize(
    ("sql", "given"),
    [
        ("SELECT 1 SETTINGS max_threads = 1, the_id='x'", True),
        ("SET `the_id` /* x */ = 'y'", True),
        ("SELECT (SELECT 1 SETTINGS \"the_id\" = 'y')", True),
        ("SELECT Settings['the_id'] = 'x' FROM system.processes", False),
        ("SELECT 'the_id = 1' -- the_id = 1", False),
    ],
)
def test_a_setting_that_a_statement_gives_is_seen_outside_literals_and_comments(sql, given):
    assert statements.gives(sql.encode(), b"the_id") is given


def test_an_insert_from_a_select_takes_no_data():
    assert statements.read(b"INSERT INTO t SELECT 1").clause_at == -1


@pytest.mark.parametrize("sql", ["SELECT 1; DROP TABLE t", "SELECT 1 INTO OUTFILE '/x'", "INSERT INTO t FROM INFILE '/x' FORMAT CSV", "SELECT 1;;SELECT 2"])
def test_a_second_statement_and_files_of_the_machine_are_refused(sql):
    assert statements.refusal(sql.encode())


@pytest.mark.parametrize("sql", ["SELECT ';DROP'", "SELECT 1", "SELECT 1 -- ; x", "SELECT `into`, 'OUTFILE'", "INSERT INTO t VALUES (1);"])
def test_one_statement_is_not_refused(sql):
    assert statements.refusal(sql.encode().rstrip(b"; ")) == ""


@given(st.binary(max_size=200))
def test_no_bytes_make_the_scanner_fail(sql):
    statements.read(sql)
    assert isinstance(statements.refusal(sql), str)


@given(st.text(max_size=60))
def test_what_a_literal_holds_is_never_a_keyword(text):
    literal = "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
    assert statements.read(f"SELECT {literal}".encode()).format == ""


KILLED = b"<id>"


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("KILL QUERY WHERE query_id = 'a'", "KILL QUERY WHERE <id> = 'a'"),
        ("kill query where `query_id` in ('a', 'b') sync", "kill query where <id> in ('a', 'b') sync"),
        ("KILL QUERY WHERE 'a' = query_id", "KILL QUERY WHERE 'a' = <id>"),
        ("KILL QUERY WHERE query LIKE '%query_id = 1%'", "KILL QUERY WHERE query LIKE '%query_id = 1%'"),
        ("KILL QUERY WHERE query_id = 'query_id = ''x'''", "KILL QUERY WHERE <id> = 'query_id = ''x'''"),
        ("KILL QUERY /* query_id = 1 */ WHERE user = 'a' -- query_id IN ('x')", "KILL QUERY /* query_id = 1 */ WHERE user = 'a' -- query_id IN ('x')"),
        ("KILL QUERY WHERE query = $x$ query_id = 1 $x$", "KILL QUERY WHERE query = $x$ query_id = 1 $x$"),
        ("KILL QUERY WHERE initial_query_id = 'a'", "KILL QUERY WHERE initial_query_id = 'a'"),
        ("KILL MUTATION WHERE query_id = 'a'", "KILL MUTATION WHERE query_id = 'a'"),
        ("SELECT query_id = 1", "SELECT query_id = 1"),
    ],
)
def test_kill_finds_the_clients_id_and_edits_nothing_but_the_name(sql, expected):
    assert statements.rewrite_kill(sql.encode(), KILLED) == expected.encode()


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT currentUser()", "SELECT (N AS `currentUser()`)"),
        ("CREATE TABLE t (a String DEFAULT user()) AS SELECT user()", "CREATE TABLE t (a String DEFAULT (N)) AS SELECT (N AS `user()`)"),
        ("ALTER TABLE t MODIFY COLUMN a DEFAULT user()", "ALTER TABLE t MODIFY COLUMN a DEFAULT (N)"),
        ("SELECT USER ( ), 1", "SELECT (N AS `USER()`), 1"),
        ("SELECT user(/* x */) AS me", "SELECT (N AS `user()`) AS me"),
        ("SELECT a WHERE authUser()=b AND session_user()=c", "SELECT a WHERE (N AS `authUser()`)=b AND (N AS `session_user()`)=c"),
        *[(kept, kept) for kept in (
            "SELECT 'currentUser()'", "SELECT 1 -- user()", "SELECT user, `user`() FROM t", "SELECT CURRENTUSER()", "SELECT user(1)", "SELECT myuser()", "SELECT t.user()", "CREATE USER x", "SELECT $$user()$$",
        )],
    ],
)  # fmt: skip
def test_a_call_of_the_users_name_is_found_and_nothing_else_is_edited(sql, expected):
    assert statements.rewrite_user(sql.encode(), b"N") == expected.encode()


@given(st.text(max_size=40))
def test_kill_never_edits_a_literal(text):
    literal = "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
    sql = f"KILL QUERY WHERE query = {literal} OR query = 'query_id'".encode("utf-8", "surrogatepass")
    assert statements.rewrite_kill(sql, KILLED) == sql


@pytest.mark.parametrize(
    ("sql", "output", "expected"),
    [
        ("SELECT 1", "JSON", "SELECT 1 INTO OUTFILE '/s/a' FORMAT JSON "),
        ("SELECT 1 FORMAT JSON", "JSON", "SELECT 1  INTO OUTFILE '/s/a' FORMAT JSON"),
        ("SELECT 1;", "JSON", "SELECT 1 INTO OUTFILE '/s/a' FORMAT JSON ;"),
        ("SELECT 1 -- end", "JSON", "SELECT 1 INTO OUTFILE '/s/a' FORMAT JSON  -- end"),
        ("SELECT 'FORMAT CSV', format FROM t", "JSON", "SELECT 'FORMAT CSV', format FROM t INTO OUTFILE '/s/a' FORMAT JSON "),
        ("SELECT 1 FORMAT CSV SETTINGS max_threads = 1", "CSV", "SELECT 1  INTO OUTFILE '/s/a' FORMAT CSV SETTINGS max_threads = 1"),
    ],
)
def test_a_query_into_a_file_keeps_its_format_and_settings(sql, output, expected):
    assert statements.to_file(sql.encode(), statements.read(sql.encode()), "/s/a", output) == expected.encode()


@pytest.mark.parametrize(("sql", "names"), [("SET a = 1, b='x = y'", {"a", "b"}), ("set a=-1", {"a"}), ("SELECT a = 1", set()), ("", set())])
def test_the_names_that_a_set_statement_sets(sql, names):
    assert statements.set_names(sql.encode()) == names


def test_a_with_that_inserts_does_not_read():
    assert statements.read(b"WITH 1 AS x SELECT x").reads
    assert not statements.read(b"WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x").reads
    assert statements.read(b"SELECT a, count() FROM t GROUP BY a WITH TOTALS").has_totals


@pytest.mark.parametrize(
    "sql",
    ["SELECT /* /* */ ' */ 1 INTO OUTFILE 'x' -- '", "SELECT 1 // '\n INTO OUTFILE 'x' // '", "SELECT \u2018'\u2019 INTO OUTFILE 'x' -- '", "SELECT 1 AS \u201c'\u201d INTO OUTFILE 'x' -- '"],
)
def test_comments_nest_and_curly_quotes_quote_as_in_the_servers_lexer(sql):
    assert statements.refusal(sql.encode())


@pytest.mark.parametrize("more", ["", " WHERE a IN (SELECT 1 FORMAT)", " /* FORMAT CSV */", " -- input('x')\n", " SETTINGS max_threads = 1"])
def test_the_data_of_input_begins_after_its_format(more):
    sql = f"INSERT INTO t SELECT a FROM INPUT ( 'a Int64' ){more} FORMAT TSV\n1 FORMAT CSV\n".encode()
    found = statements.read(sql)
    assert (found.format, sql[found.insert_data_at :]) == ("TSV", b"1 FORMAT CSV\n")
    rest, structure = statements.from_table(sql, found, b"_input")
    assert (structure, rest) == (b"'a Int64'", f"INSERT INTO t SELECT a FROM _input{more} ".encode())


@pytest.mark.parametrize("sql", ["INSERT INTO t SELECT 1 FORMAT TSV\n", "INSERT INTO t SELECT input FROM x FORMAT TSV\n", "INSERT INTO t SELECT 'input(''a'')' FORMAT TSV\n"])
def test_without_input_an_insert_from_a_select_has_no_data(sql):
    assert statements.read(sql.encode()).input_at is None

"""The scanner of statements against the engine's own parser, over statements that are made to mislead it.

A statement is put together of words, literals, comments, heredocs and clauses in odd places, and cut and mixed at random; the engine parses each
(`parseQueryToJSON`), and where it does, the scanner must agree: on the format, on what writes or reads a file of the machine, on one statement or two, on the kind.
`WEIR_FUZZ_S` says for how many seconds (`./weir test --long`: 600); without it only the known oddities are tried, so that a new finding stops no other work.
"""
import json
import os
import re
import time

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.contract.gateway_server import Server

from weir.gateway import statements

# Known, and let pass: FORMAT as a column's name directly behind an operator, `SELECT 1 * FORMAT TSV`, is read as the clause.
_OPERAND = re.compile(r"[-*+/%=<>|.,]\s*(?:FORMAT|format)\b")
SECONDS = float(os.environ.get("WEIR_FUZZ_S", "0"))

WORDS = ["FORMAT", "format", "SETTINGS", "INTO", "OUTFILE", "FROM", "INFILE", "VALUES", "SELECT", "INSERT", "WITH", "TOTALS", "AS", "UNION ALL", "input", "FORMAT CSV",
         "FORMAT Null", "SETTINGS a = 1", "LIMIT 1", "WHERE 1", "COMPRESSION", "TRUNCATE", "x", "t", "1", "*", ",", "(", ")", "[", "]", ";", "=", ".", "$", "#", "-", "/", "EXPLAIN"]
HIDDEN = st.sampled_from(["FORMAT CSV", "INTO OUTFILE 'x'", ";", "'", '"', "`", "*/", "/*", "--", "$$", "$h$", "\\", "\n", "SELECT", "\u2018", "\u2019", "\u201d", "\x00", "é"])
inside = st.lists(HIDDEN, max_size=3).map(" ".join)


def _quoted(mark):
    return inside.map(lambda text: mark + text.replace("\\", "\\\\").replace(mark, mark * 2) + mark)


literals = st.one_of(
    _quoted("'"), _quoted('"'), _quoted("`"), inside.map(lambda t: f"$h${t.replace('$', '')}$h$"), inside.map(lambda t: f"$${t.replace('$', '')}$$"),
    inside.map(lambda t: "\u2018" + t.replace("\u2019", "") + "\u2019"), st.sampled_from(["x'41'", "b'01'", "1e5", "0x1F", "1_000", "{p:String}", "@@v", "1.", ".5", "'\\''", "'\\\\'"]),
)
comments = st.one_of(
    inside.map(lambda t: f"/*{t.replace('*/', '').replace('/*', '')}*/"), inside.map(lambda t: "--" + t.replace("\n", " ") + "\n"),
    inside.map(lambda t: "#!" + t.replace("\n", " ") + "\n"), inside.map(lambda t: "//" + t.replace("\n", " ") + "\n"), st.just("/* /* */ FORMAT CSV */"), st.just(" "), st.just("\n"), st.just("\t"),
)
frames = st.sampled_from([
    ("SELECT ", ""), ("SELECT 1 ", ""), ("SELECT 1 ", " FORMAT TSV"), ("WITH 1 AS x SELECT x ", ""), ("(SELECT 1 ", ")"), ("INSERT INTO t SELECT 1 ", ""), ("INSERT INTO t ", " SELECT 1"),
    ("SELECT 1 FORMAT JSON ", ""), ("SELECT a FROM t ", ""), ("INSERT INTO t (a) ", "FORMAT CSV"), ("EXPLAIN SELECT 1 ", ""), ("SHOW TABLES ", ""), ("SELECT 1 SETTINGS x = 1 ", ""), ("", ""),
    ("INSERT INTO t SELECT a FROM input('a Int64') ", " FORMAT TSV"), ("SELECT * FROM (SELECT 1 ", ") FORMAT CSV"), ("DESCRIBE TABLE t ", ""), ("EXISTS t ", ""),
])
soup = st.lists(st.one_of(st.sampled_from(WORDS), literals, comments), max_size=8).flatmap(lambda parts: st.sampled_from([" ", "", " "]).map(lambda gap: gap.join(parts)))
queries = st.tuples(frames, soup).map(lambda made: f"{made[0][0]}{made[1]}{made[0][1]}")


@pytest.fixture(scope="module")
def parse(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("gateway")).start()
    client = httpx.Client(base_url=server.url, timeout=60)

    def parsed(sql):
        """Return the engine's tree of a statement, or None when it has none."""
        literal = sql.replace("\\", "\\\\").replace("'", "\\'")
        answer = client.post("/", content=f"SELECT parseQueryToJSON('{literal}') FORMAT RawBLOB".encode())
        return json.loads(answer.content) if answer.status_code == 200 else None

    yield parsed
    client.close()
    assert server.stop() == 0


def _find(node, key):
    if isinstance(node, dict):
        return bool(node.get(key)) or any(_find(v, key) for v in node.values())
    return isinstance(node, list) and any(_find(v, key) for v in node)


def _judge(sql, tree):
    """Return how the scanner differs from the engine, or an empty text."""
    if _OPERAND.search(sql):
        return ""
    found = statements.read(sql.encode())
    inserts = tree["type"] == "InsertQuery"
    if (_find(tree, "out_file") or _find(tree, "infile")) and not statements.refusal(sql.encode()):
        return "a file of the machine was not seen"
    if inserts != (found.kind == "INSERT" or found.writes):
        return "an INSERT was not seen, or one was seen that is none"
    if inserts:
        wanted = tree.get("format", "")
        if found.kind == "INSERT" and tree.get("select") and found.format and not found.input_at:
            return "data was seen in an INSERT … SELECT"
        return "" if not found.format or not wanted or found.format.lower() == wanted.lower() else f"format {found.format!r}, not {wanted!r}"
    if tree["type"] == "SelectWithUnionQuery":
        wanted = (tree.get("format_ast") or {}).get("name", "")
        return "" if found.format == wanted else f"format {found.format!r}, not {wanted!r}"
    return ""



@pytest.mark.skipif(not SECONDS, reason="WEIR_FUZZ_S is not set: ./weir test --long sets it")
def test_the_scanner_agrees_with_the_engines_parser(parse):
    ends, counts = time.monotonic() + SECONDS, {"tried": 0, "parsed": 0}

    @settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(queries)
    def fuzz(sql):
        counts["tried"] += 1
        tree = parse(sql)
        if tree is not None:
            counts["parsed"] += 1
            assert _judge(sql, tree) == "", sql

    fuzz()
    while time.monotonic() < ends:
        fuzz()
    assert counts["parsed"] > counts["tried"] / 50


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 FORMAT JSON SETTINGS max_threads = 1", "SELECT 1 SETTINGS max_threads = 1 FORMAT JSON", "SELECT 1 /* FORMAT CSV */ FORMAT TSV -- FORMAT JSON",
        "SELECT $h$ ' FORMAT CSV $h$", "SELECT * FROM (SELECT 1 AS format) WHERE format = 1", "SELECT 'it''s' AS `FORMAT` FORMAT TSV", "SELECT 1 INTO OUTFILE 'x' FORMAT CSV",
        "INSERT INTO t FROM INFILE 'x' FORMAT CSV", "INSERT INTO t SELECT a FROM input('a Int64') FORMAT TSV", "WITH 1 AS x SELECT x FORMAT CSV", "(SELECT 1) FORMAT CSV", "SELECT 1 FORMAT `CSV`",
        "SELECT FORMAT CSV", "SELECT 1 SELECT FORMAT TSV", "SELECT 1 UNION ALL SELECT FORMAT CSV", "SELECT DISTINCT FORMAT CSV", "SELECT FORMAT FORMAT CSV",
    ],
)
def test_known_oddities_are_read_as_the_engine_reads_them(parse, sql):
    tree = parse(sql)
    assert tree is not None
    assert _judge(sql, tree) == ""

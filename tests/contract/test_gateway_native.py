"""Native blocks at the version that a client asks for: read here byte by byte as ch-go reads them, and by real clients."""
import datetime as dt
import struct
import zoneinfo

import clickhouse_connect
import httpx
import pytest

from weir.gateway import native

WIDTHS = {"UInt8": 1, "UInt64": 8, "DateTime": 4, "Int32": 4, "Float64": 8}


class Reader:
    """ch-go's reader, as far as these tests need it (proto/reader.go, proto/block.go of ch-go)."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        self.at += count
        assert self.at <= len(self.data)
        return self.data[self.at - count : self.at]

    def varint(self):
        number = shift = 0
        while True:
            byte = self.take(1)[0]
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number

    def text(self):
        return self.take(self.varint()).decode()

    def info(self):
        fields = {}
        while field := self.varint():
            fields[field] = {1: lambda: self.take(1)[0], 2: lambda: struct.unpack("<i", self.take(4))[0]}[field]()
        return fields

    def values(self, kind, rows):
        if kind == "String":
            return [self.text() for _ in range(rows)]
        if kind.startswith("Nullable("):
            nulls = self.take(rows)
            return [None if n else v for n, v in zip(nulls, self.values(kind[9:-1], rows), strict=True)]
        if kind.startswith("Array("):
            ends = struct.unpack(f"<{rows}Q", self.take(8 * rows))
            flat = self.values(kind[6:-1], ends[-1] if ends else 0)
            return [flat[a:b] for a, b in zip((0, *ends), ends, strict=False)]
        if kind.startswith("AggregateFunction(sum, UInt64)"):
            return list(struct.unpack(f"<{rows}Q", self.take(8 * rows)))
        width = WIDTHS[kind.partition("(")[0]]
        return [int.from_bytes(self.take(width), "little") for _ in range(rows)]

    def blocks(self, revision):
        while self.at < len(self.data):
            info = self.info() if revision else {1: 0, 2: -1}
            assert info == {1: 0, 2: -1}
            columns, rows = self.varint(), self.varint()
            block = {}
            for _ in range(columns):
                name, kind = self.text(), self.text()
                if revision >= 54454:
                    assert self.take(1) == b"\x00"
                block.setdefault((name, kind), []).extend(self.values(kind, rows))
            yield block


def _read(server, sql, revision, **url):
    answer = httpx.post(server.url, params={"default_format": "Native", "client_protocol_version": str(revision), **url}, content=sql, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.headers.get("X-ClickHouse-Format", "Native") == "Native"
    merged = {}
    for block in Reader(answer.content).blocks(revision):
        for key, values in block.items():
            merged.setdefault(key, []).extend(values)
    return merged


WIDE = ("SELECT number AS n, sumState(number) AS state, toString(number) AS text, if(number = 1, NULL, number) AS perhaps, [n, n + 1] AS list, "
        "toDateTime(3600, 'Europe/Paris') AS at FROM numbers(3) GROUP BY number ORDER BY number")
WIDE_ROWS = {
    ("n", "UInt64"): [0, 1, 2],
    ("state", "AggregateFunction(sum, UInt64)"): [0, 1, 2],
    ("text", "String"): ["0", "1", "2"],
    ("perhaps", "Nullable(UInt64)"): [0, None, 2],
    ("list", "Array(UInt64)"): [[0, 1], [1, 2], [2, 3]],
    ("at", "DateTime('Europe/Paris')"): [3600] * 3,
}


@pytest.mark.parametrize("revision", [1, 54337, 54405, 54453, 54454, 54460, 54515])
@pytest.mark.parametrize("url", [{}, {"wait_end_of_query": "1"}, {"session_id": "s"}], ids=["streamed", "by file", "session"])
def test_a_client_reads_what_its_version_promises(server, revision, url):
    assert _read(server, WIDE, revision, **url) == WIDE_ROWS


def test_without_a_version_blocks_are_those_of_version_0(server):
    older = {(name, "DateTime" if name == "at" else kind): values for (name, kind), values in WIDE_ROWS.items()}
    assert _read(server, WIDE, 0) == older
    assert server.post(WIDE + " FORMAT Native").content == server.post(WIDE + " FORMAT Native", client_protocol_version="0").content


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("SELECT 1 AS a FORMAT Native", {("a", "UInt8"): [1]}),
        ("SELECT 1 AS a FORMAT Native SETTINGS max_threads = 1;", {("a", "UInt8"): [1]}),
        ("SELECT 1 AS a SETTINGS max_threads = 1 FORMAT Native", {("a", "UInt8"): [1]}),
        ("SELECT 1 AS a; -- done", {("a", "UInt8"): [1]}),
        ("SELECT 1 AS a -- FORMAT Native", {("a", "UInt8"): [1]}),
        ("(SELECT 1 AS a) UNION ALL (SELECT 1)", {("a", "UInt8"): [1, 1]}),
        ("WITH 'FORMAT Native' AS x SELECT x", {("x", "String"): ["FORMAT Native"]}),
        ("SELECT 1, 1", {("1", "UInt8"): [1, 1]}),
        ("SELECT {a:String} AS a", {("a", "String"): ["given"]}),
        ("SELECT number FROM numbers(200000) WHERE number % 50000 = 0", {("number", "UInt64"): [0, 50000, 100000, 150000]}),
        ("SELECT 1 AS a WHERE 0", {}),
        ("EXISTS TABLE system.one", {("result", "UInt8"): [1]}),
        ("EXISTS TABLE system.one FORMAT Native", {("result", "UInt8"): [1]}),
        ("SHOW DATABASES LIKE 'd'", {("name", "String"): ["d"]}),
        ("SELECT number % 2 AS k, count() AS c FROM numbers(5) GROUP BY k WITH TOTALS ORDER BY k", {("k", "UInt8"): [0, 1], ("c", "UInt64"): [3, 2]}),
    ],
)
def test_wherever_the_format_stands_the_blocks_are_of_the_version(server, sql, found):
    assert _read(server, sql, 54460, param_a="given") == found


def test_a_description_has_its_columns(server):
    found = _read(server, "DESCRIBE TABLE system.one", 54460)
    assert found[("name", "String")] == ["dummy"]
    assert found[("type", "String")] == ["UInt8"]


def test_an_answer_in_native_framing_is_of_the_version_too(server):
    framed = httpx.post(server.url, params={"default_format": "Native", "client_protocol_version": "54460", "compress": "1"}, content=WIDE).content
    decoder = native.Decoder()
    assert next(Reader(decoder.feed(framed) + decoder.end()).blocks(54460)) == WIDE_ROWS


def test_a_long_answer_is_whole_and_an_exception_in_it_is_told(server):
    found = _read(server, "SELECT number, toString(number) AS text FROM numbers(1000000)", 54460)
    assert sum(found[("number", "UInt64")]) == 499999500000
    assert found[("text", "String")][-1] == "999999"
    tail = b""
    url, sql = {"default_format": "Native", "client_protocol_version": "54460"}, "SELECT number, throwIf(number = 2000000) FROM numbers(3000000) SETTINGS max_block_size = 65536"
    with httpx.stream("POST", server.url, params=url, content=sql, timeout=60) as answer:
        assert answer.status_code == 200
        pieces = answer.iter_raw()
        with pytest.raises(httpx.RemoteProtocolError):  # noqa: PT012 - the pieces before it are wanted
            for piece in pieces:
                tail = (tail + piece)[-1000:]
    assert b"__exception__" in tail
    assert b"Code: 395" in tail


def test_errors_are_those_of_the_statement_itself(server):
    for sql in ("SELECT nonsense", "SELEC 1", "SELECT * FROM nowhere", "SHOW NONSENSE", "SELECT throwIf(1)"):
        plain, versioned = (httpx.post(server.url, params={"default_format": "Native", **more}, content=sql) for more in ({}, {"client_protocol_version": "54460"}))
        assert (versioned.status_code, versioned.text) == (plain.status_code, plain.text)
    assert httpx.post(server.url, params={"default_format": "Native", "client_protocol_version": "new"}, content="SELECT 1").status_code == 400


def test_an_error_is_in_the_framing_that_the_client_asked_for(server):
    framed = httpx.post(server.url, params={"compress": "1"}, content="SELECT nonsense")
    decoder = native.Decoder()
    assert framed.status_code == 404
    assert decoder.feed(framed.content).startswith(b"Code: 47. DB::Exception: ")


def test_clickhouse_connect_finds_the_version_and_reads_zones(server):
    client = clickhouse_connect.get_client(host="127.0.0.1", port=server.port)
    assert str(client.protocol_version) == "54405"
    read = client.query("SELECT toDateTime(3600, 'Europe/Paris') AS at, toLowCardinality('x') AS low, map('a', 1) AS pairs, (1, 'b') AS both").first_row
    assert read == (dt.datetime(1970, 1, 1, 2, tzinfo=zoneinfo.ZoneInfo("Europe/Paris")), "x", {"a": 1}, (1, "b"))
    assert client.query("SELECT 1 WHERE 0").result_rows == []
    client.command("CREATE TABLE d.connect (a UInt64, b String) ENGINE = MergeTree ORDER BY a")
    client.insert("d.connect", [[n, str(n)] for n in range(1000)], column_names=["a", "b"])
    assert client.query_df("SELECT * FROM d.connect ORDER BY a").b.tolist() == [str(n) for n in range(1000)]
    client.close()

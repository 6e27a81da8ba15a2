"""The interface, whole: framing, codings, headers, sessions, external data, big answers and uploads at bounded memory, and the query log."""
import bz2
import functools
import gzip
import json
import lzma
import struct
import zlib
from pathlib import Path

import brotli
import clickhouse_connect
import httpx
import lz4.frame
import psutil
import pytest
import zstandard
from clickhouse_connect.driver.exceptions import StreamFailureError
from tests.contract.gateway_server import wait_until

from weir.gateway import native
from weir.gateway.body import MEMORY_BYTES

MIB = 1 << 20


def _code(answer):
    return answer.headers.get("X-ClickHouse-Exception-Code")


def _unframed(body):
    decoder = native.Decoder()
    return decoder.feed(body) + decoder.end()


# --- native framing -------------------------------------------------------------------------------------------------------------------


def test_our_checksum_is_that_of_the_frames_the_engine_itself_writes(server):
    server.text("CREATE TABLE d.frames (a String, b UInt64, c UInt8) ENGINE = MergeTree ORDER BY tuple() SETTINGS min_bytes_for_wide_part = 0")
    server.text("INSERT INTO d.frames SELECT randomPrintableASCII(number % 300), rand64(), 1 FROM numbers(50000)")
    path = Path(server.text("SELECT path FROM system.parts WHERE table = 'frames' AND active FORMAT RawBLOB"))
    lengths = set()
    for name in ("a.bin", "b.bin", "c.bin"):
        data, at = (path / name).read_bytes() if (path / name).exists() else b"", 0
        while at < len(data):
            size = struct.unpack_from("<BII", data, at + 16)[1]
            assert native.cityhash128(data[at + 16 : at + 16 + size]) == data[at : at + 16]
            lengths.add(size)
            at += 16 + size
    assert len(lengths) > 3


def test_an_answer_in_native_framing_is_the_answer(server):
    sql = "SELECT number, toString(number) FROM numbers(300000)"
    framed = server.post(sql, compress="1").content
    assert len(framed) < 0.7 * len(server.post(sql).content)
    assert _unframed(framed) == server.post(sql).content
    assert _unframed(server.post("SELECT 1 FORMAT JSONCompact", compress="1").content).startswith(b"{")


def test_an_insert_in_native_framing_is_stored_and_a_broken_one_refused(server):
    server.text("CREATE TABLE d.framed (a UInt64) ENGINE = MergeTree ORDER BY a")
    body = native.Encoder().feed(b"".join(b"%d\n" % i for i in range(300_000)))
    assert server.post("INSERT INTO d.framed FORMAT TSV", body, decompress="1").status_code == 200
    assert server.text("SELECT count(), sum(a) FROM d.framed") == "300000\t44999850000\n"
    broken = bytearray(body)
    broken[40] ^= 1
    assert _code(server.post("INSERT INTO d.framed FORMAT TSV", bytes(broken), decompress="1")) == "40"
    assert _code(server.post("INSERT INTO d.framed FORMAT TSV", body[:-3], decompress="1")) == "354"
    assert server.text("SELECT count() FROM d.framed") == "300000\n"
    assert httpx.post(server.url, params={"decompress": "1"}, content=native.Encoder().feed(b"SELECT 7")).text == "7\n"


# --- content codings ------------------------------------------------------------------------------------------------------------------

UNDO = {
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
    "br": brotli.decompress,
    "zstd": lambda body: zstandard.ZstdDecompressor().decompressobj().decompress(body),
    "lz4": lz4.frame.decompress,
    "xz": lzma.decompress,
    "bz2": bz2.decompress,
}
QUICK_BR = functools.partial(brotli.compress, quality=5)  # the default tries for seconds to save a little, which no decoder notices
DO = {"gzip": gzip.compress, "deflate": zlib.compress, "br": QUICK_BR, "zstd": zstandard.ZstdCompressor().compress, "lz4": lz4.frame.compress, "xz": functools.partial(lzma.compress, preset=1), "bz2": bz2.compress}


@pytest.mark.parametrize("coding", list(UNDO))
@pytest.mark.parametrize("form", ["TSV", "JSONCompact"])
@pytest.mark.parametrize("rows", [500, 200_000])  # the second: four blocks, and more than twice what is held before the first byte goes (exchange.BUFFER_BYTES)
def test_a_coded_answer_is_the_answer(server, coding, form, rows):
    sql = f"SELECT number, toString(number) FROM numbers({rows}) FORMAT {form}"
    with httpx.stream("POST", server.url, params={"enable_http_compression": "1"}, content=sql, headers={"Accept-Encoding": coding}, timeout=60) as answer:
        assert answer.headers["Content-Encoding"] == coding
        body = UNDO[coding](b"".join(answer.iter_raw()))
    plain = server.post(sql).content
    assert json.loads(body)["data"] == json.loads(plain)["data"] if form == "JSONCompact" else body == plain


@pytest.mark.parametrize("coding", list(DO))
def test_a_coded_insert_is_stored_small_and_large(server, coding):
    for rows in (10, 300_000):
        server.text("CREATE OR REPLACE TABLE d.coded (a UInt64) ENGINE = MergeTree ORDER BY a")
        body = DO[coding](b"".join(b"%d\n" % i for i in range(rows)))
        assert server.post("INSERT INTO d.coded FORMAT TSV", body, headers={"Content-Encoding": coding}).status_code == 200
        assert server.text("SELECT count() FROM d.coded") == f"{rows}\n"


# --- the statement and its data -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [3, 200_000])
def test_url_and_body_together_make_the_statement_and_its_data(server, rows):
    numbers = "".join(f"({i})," for i in range(rows)).rstrip(",")
    lines = "".join(f"{i}\n" for i in range(rows))
    for url, body in [
        ("INSERT INTO d.both VALUES", numbers),
        ("INSERT INTO d.both FORMAT TSV", lines),
        ("INSERT INTO d.both FORMAT TSV\n0\n", lines.removeprefix("0\n")),
        ("", f"INSERT INTO d.both VALUES {numbers}"),
        ("", f"INSERT INTO d.both FORMAT TSV\n{lines}"),
        ("INSERT INTO d.both", f"SELECT number FROM numbers({rows})") if rows < 0 else ("", f"INSERT INTO d.both SELECT number FROM numbers({rows})"),
    ]:
        server.text("CREATE OR REPLACE TABLE d.both (a UInt64) ENGINE = MergeTree ORDER BY a")
        answer = server.post(url, body.encode()) if url else httpx.post(server.url, content=body.encode(), timeout=60)
        assert (answer.status_code, answer.text) == (200, "")
        assert server.text("SELECT count(), sum(a) FROM d.both") == f"{rows}\t{rows * (rows - 1) // 2}\n"
    assert server.text("SELECT 1 +", b"2") == "3\n"


def test_a_long_statement_that_is_no_insert_is_run(server):
    sql = "SELECT count() FROM numbers(100) WHERE number IN (" + ",".join(str(i) for i in range(60_000)) + ")"
    assert len(sql) > 1.2 * MEMORY_BYTES
    assert httpx.post(server.url, params={"max_query_size": "10000000"}, content=sql, timeout=60).text == "100\n"
    assert _code(httpx.post(server.url, content=sql, timeout=60)) == "62"


def test_external_tables_come_by_multipart_and_last_for_one_query(server):
    files = {"people": ("p.tsv", b"1\tAnn\n2\tBob\n"), "more": ("m.csv", b"3,Cid\n" * 200_000)}
    url = {"query": "SELECT count(), uniqExact(_2) FROM (SELECT * FROM people UNION ALL SELECT * FROM more)",
           "people_structure": "_1 UInt8, _2 String", "more_types": "UInt8, LowCardinality(String)", "more_format": "CSV"}
    for session in ({}, {"session_id": "external"}):
        answer = httpx.post(server.url, params=url | session, files=files, timeout=60)
        assert (answer.status_code, answer.text) == (200, "200002\t3\n")
        assert _code(server.post("SELECT * FROM people", **session)) == "60"
    assert _code(httpx.post(server.url, params={"query": "SELECT * FROM t"}, files={"t": ("t", b"1")})) == "36"
    form = httpx.post(server.url, data={"query": "SELECT {a:UInt8}", "param_a": "7"}, files={"t": ("t", b"1\n")}, params={"t_structure": "a UInt8"})
    assert form.text == "7\n"


# --- answers --------------------------------------------------------------------------------------------------------------------------


def test_the_summary_counts_what_was_read_and_written(server):
    server.text("CREATE TABLE d.counted (a UInt64) ENGINE = MergeTree ORDER BY a")
    written = json.loads(server.post("INSERT INTO d.counted FORMAT TSV", b"1\n2\n3\n").headers["X-ClickHouse-Summary"])
    assert (written["written_rows"], written["written_bytes"]) == ("3", "24")
    for form in ("TSV", "JSON"):
        answer = server.post(f"SELECT a FROM d.counted FORMAT {form}")
        read = json.loads(answer.headers["X-ClickHouse-Summary"])
        assert (read["read_rows"], read["result_rows"], read["result_bytes"]) == ("3", "3", str(len(answer.content)))
        assert int(read["elapsed_ns"]) > 0


def test_progress_headers_come_when_asked_for_and_end_at_the_truth(server):
    answer = server.post("SELECT sum(number) FROM numbers(50000000)", send_progress_in_http_headers="1", wait_end_of_query="1", query_id="mine")
    last = json.loads(answer.headers.get_list("X-ClickHouse-Progress")[-1].split(", {")[-1])
    assert last["read_rows"] == "50000000"
    assert answer.headers["X-ClickHouse-Query-Id"] == "mine"
    assert "X-ClickHouse-Progress" not in server.post("SELECT 1").headers


LATE = "SELECT throwIf(number = 900000), number FROM numbers(1000000) SETTINGS max_block_size = 10000"


def test_an_exception_after_data_is_told_by_its_tag_and_the_answer_has_no_end(server):
    with httpx.stream("POST", server.url, content=LATE, timeout=30) as answer:
        pieces = []
        with pytest.raises(httpx.RemoteProtocolError):
            pieces.extend(answer.iter_raw())
        body = b"".join(pieces)
        tag = answer.headers["X-ClickHouse-Exception-Tag"].encode()
    assert answer.status_code == 200
    head, _, tail = body.partition(b"\r\n__exception__\r\n" + tag + b"\r\nCode: 395.")
    assert head.startswith(b"0\t0\n")
    assert tail.endswith(b" " + tag + b"\r\n__exception__\r\n")


def test_a_real_client_reads_the_exception_after_data(server):
    client = clickhouse_connect.get_client(dsn=server.url)
    with pytest.raises(StreamFailureError, match="395"), client.query_rows_stream(LATE.removesuffix(" SETTINGS max_block_size = 10000")) as rows:
        for _ in rows:
            pass


@pytest.mark.parametrize("form", ["TSV", "JSONCompact"])
def test_with_wait_end_of_query_an_exception_has_its_status(server, form):
    answer = server.post(f"{LATE} FORMAT {form}".replace(" SETTINGS max_block_size = 10000", ""), wait_end_of_query="1")
    assert (answer.status_code, _code(answer)) == (500, "395")
    assert "X-ClickHouse-Exception-Tag" not in answer.headers


@pytest.mark.parametrize("form", ["TSV", "TSVWithNames", "CSVWithNames", "JSON", "JSONEachRow", "Values", "Pretty", "RowBinary", "RowBinaryWithNamesAndTypes"])
def test_a_long_answer_is_the_same_in_pieces_as_in_a_file(server, form):
    sql = f"SELECT number, toString(number) AS s FROM numbers(120000) ORDER BY number FORMAT {form}"
    pieces, whole = (server.post(sql, max_block_size="10007", **more).content for more in ({}, {"wait_end_of_query": "1"}))
    if form == "JSON":
        pieces, whole = (json.loads(b)["data"] for b in (pieces, whole))
    assert pieces == whole


def test_totals_and_array_answers_are_whole(server):
    assert server.text("SELECT number % 2 AS k, count() FROM numbers(10) GROUP BY k WITH TOTALS ORDER BY k") == "0\t5\n1\t5\n\n0\t10\n"
    assert len(json.loads(server.text("SELECT number FROM numbers(200000) FORMAT JSONEachRow", output_format_json_array_of_rows="1"))) == 200_000


@pytest.mark.parametrize("form", ["TSV", "JSONCompact"])
def test_a_gibibyte_out_and_in_takes_little_memory(server, form):
    process = psutil.Process(server.process.pid)
    before, most, size = process.memory_info().rss, 0, 0
    rows = 16 * MIB
    with httpx.stream("POST", server.url, params={"max_threads": "1"}, content=f"SELECT repeat('x', 60) FROM numbers({rows}) FORMAT {form}", timeout=300) as answer:
        for piece in answer.iter_raw():
            size += len(piece)
            most = max(most, process.memory_info().rss)
    assert size > 60 * rows
    assert most - before < 256 * MIB


def test_a_large_upload_takes_little_memory(server):
    process = psutil.Process(server.process.pid)
    server.text("CREATE TABLE d.large (s String) ENGINE = Null")
    before, most, line = process.memory_info().rss, 0, b"x" * 99 + b"\n"

    def body():
        nonlocal most
        for _ in range(512):
            yield line * (MIB // len(line))
            most = max(most, process.memory_info().rss)

    answer = httpx.post(server.url, params={"query": "INSERT INTO d.large FORMAT TSV"}, content=body(), timeout=300)
    assert answer.status_code == 200
    assert json.loads(answer.headers["X-ClickHouse-Summary"])["written_rows"] == str(512 * (MIB // len(line)))
    assert most - before < 128 * MIB


def test_no_file_is_left_behind(server):
    server.post("SELECT throwIf(number = 90000) FROM numbers(100000) FORMAT JSON")
    server.post("INSERT INTO d.none FORMAT TSV", b"1\n")
    assert wait_until(lambda: list((server.path / "spool").iterdir()) == [])


# --- sessions -------------------------------------------------------------------------------------------------------------------------


def test_a_session_keeps_its_own_and_forgets_the_requests(server):
    own = {"session_id": "own"}
    server.text("SET max_threads = 3, param_x = '5'", **own)
    server.text("USE d", **own)
    server.text("CREATE TEMPORARY TABLE tmp (a UInt8)", **own)
    server.text("INSERT INTO tmp FORMAT TSV", b"1\n", **own)
    asked = server.text("SELECT currentDatabase(), getSetting('max_threads'), getSetting('max_block_size'), {x:UInt8}, {y:UInt8}", database="system",
                        max_threads="1", max_block_size="7", param_y="9", **own)
    assert asked == "system\t1\t7\t5\t9\n"
    asked = server.text("SELECT currentDatabase(), getSetting('max_threads'), getSetting('max_block_size') = 7, {x:UInt8}, (SELECT sum(a) FROM tmp)", **own)
    assert asked == "d\t3\t0\t5\t1\n"
    assert _code(server.post("SELECT {y:UInt8}", **own)) == "456"
    server.text("SET max_block_size = 11", max_block_size="7", **own)  # its own word outlives the request's
    assert server.text("SELECT getSetting('max_block_size'), getSetting('async_insert')", async_insert="0", **own) == "11\tfalse\n"


def test_a_session_ends_when_told_and_then_is_not_found(server):
    server.text("SET max_threads = 3", session_id="ends")
    assert server.text("SELECT getSetting('max_threads')", session_id="ends", close_session="1", session_check="1") == "3\n"
    assert (_code(server.post("SELECT 1", session_id="ends", session_check="1"))) == "372"


def test_a_session_ends_when_it_is_idle_past_its_timeout(server):
    server.text("SELECT 1", session_id="idle", session_timeout="1")
    assert wait_until(lambda: _code(server.post("SELECT 1", session_id="idle", session_check="1", session_timeout="1")) == "372" or None) is None
    # asking kept it alive; left alone it goes
    held = server.health()["sessions"]
    assert wait_until(lambda: server.health()["sessions"] < held)
    assert _code(server.post("SELECT 1", session_id="idle", session_check="1")) == "372"
    assert _code(server.post("SELECT 1", session_id="idle", session_timeout="99999")) == "374"


def test_a_session_in_use_is_locked_and_free_once_its_answer_is_whole(server):
    with httpx.stream("POST", server.url, params={"session_id": "busy"}, content="SELECT number FROM system.numbers", timeout=30) as answer:
        pieces = answer.iter_raw()
        next(pieces)
        assert _code(server.post("SELECT 1", session_id="busy")) == "373"
    assert wait_until(lambda: server.post("SELECT 1", session_id="busy").status_code == 200)
    for _ in range(50):
        assert server.text("SELECT number FROM numbers(300000)", session_id="busy").count("\n") == 300_000


# --- the query log --------------------------------------------------------------------------------------------------------------------


def test_the_query_log_knows_a_query_by_the_clients_id_and_keeps_its_comment(server):
    server.text("SELECT 41 + 1", query_id="logged-1", log_comment="from the client", session_id="log", database="d")
    server.post("SELECT * FROM d.none", query_id="logged-2")
    server.text("SYSTEM FLUSH LOGS")
    rows = server.text("SELECT query_id, initial_query_id, log_comment, type, exception_code, query FROM system.query_log WHERE query_id LIKE 'logged-%' ORDER BY query_id, type")
    assert rows.splitlines() == [
        "logged-1\tlogged-1\tfrom the client\tQueryStart\t0\tSELECT 41 + 1",
        "logged-1\tlogged-1\tfrom the client\tQueryFinish\t0\tSELECT 41 + 1",
        "logged-2\tlogged-2\t\tExceptionBeforeStart\t60\tSELECT * FROM d.none",
    ]
    assert "toIntervalDay(3)" in server.text("SHOW CREATE TABLE system.engine_query_log")
    ttl = "SELECT count() FROM system.tables WHERE database = 'system' AND name LIKE '%\\_log' AND engine LIKE '%MergeTree' AND create_table_query NOT LIKE '%TTL%'"
    assert server.text(ttl) == "0\n"


def test_acknowledged_means_synced_by_configuration(server):
    sql = "SELECT name, value FROM system.merge_tree_settings WHERE name IN ('fsync_after_insert', 'fsync_part_directory') ORDER BY name"
    assert server.text(sql) == "fsync_after_insert\t1\nfsync_part_directory\t1\n"

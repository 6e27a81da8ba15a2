"""What an answer says beside its data: headers, progress, the summary, and an exception after the first byte. Pure.

Source: ClickHouse's documentation, interfaces/http; the exception after data, src/Server/HTTP/WriteBufferFromHTTP1ServerResponse.cpp as its
clients read it (clickhouse-connect, driver/buffer.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from weir.gateway.failures import Failure
from weir.gateway.request import Plan
from weir.gateway.running import Counts

TEXT = "text/plain; charset=UTF-8"
_CONTENT_TYPE = {
    "JSON": "application/json; charset=UTF-8",
    "JSONCompact": "application/json; charset=UTF-8",
    "JSONEachRow": "application/x-ndjson; charset=UTF-8",
    "CSV": "text/csv; charset=UTF-8; header=absent",
    "CSVWithNames": "text/csv; charset=UTF-8; header=present",
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
    "TSV": "text/tab-separated-values; charset=UTF-8",
    **dict.fromkeys(("Native", "Parquet", "RowBinary", "ArrowStream", "Arrow", "RowBinaryWithNamesAndTypes", "ORC", "Avro"), "application/octet-stream"),
}

Headers = list[tuple[str, str]]
_NO_HEADER = re.compile("[\x00-\x1f\x7f\udc80-\udcff]")  # of a client's query id: what would end the line, and what is no text


def always(query_id: str) -> Headers:
    """Return the headers of every answer."""
    own = [("X-ClickHouse-Query-Id", _NO_HEADER.sub("?", query_id))] if query_id else []
    return [*own, ("X-ClickHouse-Timezone", "UTC"), ("X-ClickHouse-Server-Display-Name", "weir")]


def of_result(plan: Plan, counts: Counts, progress: Sequence[Mapping[str, int]], result_bytes: int) -> Headers:
    """Return the headers of an answer with data; `counts` are those of the moment that the headers go out."""
    summary = {
        "read_rows": counts.read_rows,
        "read_bytes": counts.read_bytes,
        "written_rows": counts.written_rows,
        "written_bytes": counts.written_bytes,
        "result_rows": counts.result_rows,
        "result_bytes": result_bytes,
        "elapsed_ns": int(counts.elapsed_s * 1e9),
    }
    headers = [("X-ClickHouse-Progress", _text(event)) for event in progress]
    headers.append(("X-ClickHouse-Summary", _text(summary)))
    if not plan.statement.reads:
        return [*headers, ("Content-Type", TEXT)]
    return [*headers, ("X-ClickHouse-Format", plan.output), ("Content-Type", _CONTENT_TYPE.get(plan.output, TEXT))]


def _text(numbers: Mapping[str, int]) -> str:
    return json.dumps({k: str(v) for k, v in numbers.items()}, separators=(",", ":"))


def of_failure(error: Failure) -> Headers:
    """Return the headers of an exception."""
    again = [("Retry-After", "1")] if error.status == 503 else []  # noqa: PLR2004 - the status itself
    return [*again, ("X-ClickHouse-Exception-Code", str(error.code)), ("Content-Type", TEXT)]


def after_data(error: Failure, tag: str) -> bytes:
    """Return an exception as it stands behind data that was sent already; `tag` is that of the header X-ClickHouse-Exception-Tag."""
    text = error.text.encode() + b"\n"
    return b"\r\n__exception__\r\n%b\r\n%b%d %b\r\n__exception__\r\n" % (tag.encode(), text, len(text), tag.encode())

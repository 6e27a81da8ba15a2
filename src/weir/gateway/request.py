"""A request of the HTTP interface, read and understood: who asks, for what, and how the engine is to run it.

In: an ASGI scope and a body. Out: `Request`, then `Plan`. Keep: parameters of the interface are no settings; a GET changes nothing; the body's
files belong to the plan until it is discarded.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from weir.gateway import access, blocks, external, statements
from weir.gateway.accounts import Account
from weir.gateway.body import Body
from weir.gateway.engine import CLIENT_ID, TAG, Work
from weir.gateway.failures import failure
from weir.gateway.sessions import TIMEOUT_S

# Parameters of the interface itself; every other one is a setting, as on the server.
OWN = frozenset({"query", "database", "default_format", "session_id", "session_timeout", "session_check", "user", "password", "query_id",
                 "compress", "decompress", "quota_key", "buffer_size", "wait_end_of_query", "stacktrace", "role", "client_protocol_version",
                 "http_headers_progress_interval_ms", "send_progress_in_http_headers", "close_session", "enable_http_compression",
                 "http_native_compression_disable_checksumming_on_decompress", TAG})  # fmt: skip

INPUT = "_input"  # the temporary table that holds the data of an INSERT … SELECT … FROM input(…)

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# Formats whose blocks, formatted one by one, are the whole answer; of the others the engine must see the end first, so they go by a file.
JOINED = frozenset({"TabSeparated", "TSV", "TabSeparatedRaw", "TSVRaw", "Raw", "CSV", "JSONEachRow", "JSONLines", "NDJSON", "JSONCompactEachRow",
                    "JSONStringsEachRow", "JSONCompactStringsEachRow", "RowBinary", "Native", "TSKV", "LineAsString", "MsgPack", "RawBLOB"})  # fmt: skip
_UNJOINED_SETTINGS = frozenset({"extremes", "output_format_json_array_of_rows"})


@dataclass(frozen=True, slots=True)
class Request:
    """One request without its body."""

    method: str
    path: str
    url: Mapping[str, str]
    headers: Mapping[str, str]

    def on(self, name: str) -> bool:
        """Whether the URL's switch `name` is on."""
        return self.url.get(name, "0").lower() in {"1", "true"}

    @property
    def is_form(self) -> bool:
        """Whether the body is parts of a form: external data."""
        return self.headers.get("content-type", "").lower().startswith("multipart/form-data")

    @property
    def output(self) -> str:
        """The default format of the answer."""
        return self.url.get("default_format") or self.headers.get("x-clickhouse-format") or "TabSeparated"


@dataclass(frozen=True, slots=True)
class Plan:
    """How one statement runs. `answer_path`: the file that the engine writes the answer to, if it does not come in pieces."""

    work: Work
    statement: statements.Statement
    output: str
    answer_path: Path | None


def from_scope(scope: Mapping[str, Any]) -> Request:
    """Return the request of an ASGI scope."""
    headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
    url = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True, errors="surrogateescape"))
    return Request(scope["method"], scope["path"], url, headers)


def credentials(request: Request) -> tuple[str, str]:
    """Return the name and the password that a request gives; the password is empty when it gives none.

    Raises:
        Failure: 516, they are given in two ways at once, or are not understood.
    """
    headers, url = request.headers, request.url
    ways = [
        ("X-ClickHouse HTTP headers", "x-clickhouse-user" in headers or "x-clickhouse-key" in headers),
        ("Authorization HTTP header", "authorization" in headers),
        ("authentication via parameters", "user" in url or "password" in url),
    ]
    used = [name for name, there in ways if there]
    if len(used) > 1:
        raise failure(516, "AUTHENTICATION_FAILED", f"Invalid authentication: it is not allowed to use {used[0]} and {used[1]} simultaneously")
    if used == [ways[0][0]]:
        return headers.get("x-clickhouse-user", "default"), headers.get("x-clickhouse-key", "")
    if used == [ways[1][0]]:
        scheme, _, value = headers["authorization"].partition(" ")
        if scheme.lower() != "basic":
            raise failure(516, "AUTHENTICATION_FAILED", f"Invalid authentication: '{scheme}' HTTP Authorization scheme is not supported")
        try:
            name, _, password = base64.b64decode(value, validate=True).decode().partition(":")
        except ValueError:
            raise failure(516, "AUTHENTICATION_FAILED", "Invalid HTTP Basic authentication") from None
        return name, password
    return url.get("user") or "default", url.get("password", "")


def plan(request: Request, body: Body, spool: Path, query_id: str, account: Account) -> Plan:
    """Return how to run the request of `account`; may write the INSERT's data, or the parts of a form, to files of `body`.

    Raises:
        Failure: the request is not understood, or not allowed.
    """
    tables: Mapping[str, tuple[str, ...]] = {}
    if request.is_form:
        parts = external.split(body.whole(), request.headers["content-type"], spool, body.paths)
        tables = external.tables(parts, request.url)
        url = {k: v for k, v in request.url.items() if k not in external.own_parameters(parts)} | parts.fields
        request = replace(request, url=url)
        sql = url.get("query", "").encode("utf-8", "surrogateescape")
    else:
        sql = body.sql()
    statement = statements.read(sql)
    _check(request, sql, statement)
    suspect = () if account.free else _suspect(sql, statement, tables)
    if account.role and statement.insert_data_at < 0 and (named := statements.rewrite_user(sql, access.USER_NAME.encode())) != sql:
        sql, statement = named, statements.read(named)
    if statement.kind == "KILL":
        sql = statements.rewrite_kill(sql, CLIENT_ID.encode())
    if statement.input_at:
        data = body.data(statement)
        sql, structure = statements.from_table(sql, statement, INPUT.encode())
        tables = external.input_table(INPUT, structure, statement.format, data)
    elif statement.kind == "INSERT" and statement.clause_at >= 0 and not _inline(sql, statement, body):
        sql, statement = _with_data(sql, statement, body)
    output = statement.format if statement.kind != "INSERT" and statement.format else request.output
    revision = _revision(request) if statement.reads and output == "Native" else 0
    describe = blocks.describing(sql, statement) if revision else None
    if revision and (revised := blocks.as_buffers(sql, statement)):
        sql = revised
    else:
        revision = 0
    made = "Buffers" if revision else output
    joined = output in JOINED and not statement.has_totals and not _UNJOINED_SETTINGS & (set(request.url) | _names(sql))
    path = None
    if statement.selects and (not joined or request.on("wait_end_of_query")):
        if not output.isidentifier():
            raise failure(73, "UNKNOWN_FORMAT", f"Unknown format {output}")
        path = body.new_path()
        sql = statements.to_file(sql, statement, str(path), made)
    work = _work(request, sql, statement, query_id, made, tables, streamed=statement.selects and path is None)
    if revision:
        work = replace(work, revision=revision, describe=describe)
    return Plan(work if account.role is None else _held(work, account, suspect), statement, output, path)


def _revision(request: Request) -> int:
    """Return the version of the protocol that the client speaks; 0, the oldest, unless it says otherwise."""
    given = request.url.get("client_protocol_version", "0")
    if not given.isascii() or not given.isdigit() or len(given) > 20:  # noqa: PLR2004 - of a UInt64
        raise failure(72, "CANNOT_PARSE_NUMBER", f"Cannot parse client_protocol_version: '{given}'", 400)
    return int(given)


def _inline(sql: bytes, statement: statements.Statement, body: Body) -> bool:
    """Return whether an INSERT's values stay in it: a semicolon in them might be an end, behind which the engine would see another statement."""
    return statement.has_values and not body.spilled and b";" not in sql[statement.insert_data_at :].rstrip(b"; \t\r\n")


def _suspect(sql: bytes, statement: statements.Statement, tables: Mapping[str, tuple[str, ...]]) -> tuple[bytes, ...]:
    """Return the texts that the engine's parser must see before they run; the data of an INSERT is none."""
    head = sql if statement.insert_data_at < 0 else sql[: statement.insert_data_at]
    if statement.kind == "INSERT" and statement.format == "Values":
        head = statements.VALUES_END.sub(b"FORMAT Values", head)
    made = [making[0].encode() for making in tables.values()]
    return tuple(text for text in (head, *made) if access.suspect(text))


def _held(work: Work, account: Account, suspect: tuple[bytes, ...]) -> Work:
    """Return the work within what the account's role allows.

    Raises:
        Failure: it sets what only an administrator may.
    """
    role = account.role.name if account.role else ""
    if account.free:
        return replace(work, user=account.name, role=role)
    if name := access.forbidden_setting(iter(work.settings)):
        raise access.denied(f"the setting {name}")
    return replace(work, user=account.name, role=role, suspect=suspect, settings={**work.settings, **access.NO_CODE_IN_DATA})


def _names(sql: bytes) -> set[str]:
    """Return the names of _UNJOINED_SETTINGS that stand in a statement, wherever: to take the longer way is no harm."""
    return {name for name in _UNJOINED_SETTINGS if name.encode() in sql}


def _check(request: Request, sql: bytes, statement: statements.Statement) -> None:
    if not statement.kind:
        raise failure(62, "SYNTAX_ERROR", "Empty query")
    if request.method in {"GET", "HEAD"} and not statement.reads:
        raise failure(164, "READONLY", "Cannot execute query in readonly mode. For queries over HTTP, method GET implies readonly")
    head = sql if statement.insert_data_at < 0 else sql[: statement.insert_data_at]
    why = statements.refusal(head.rstrip(b"; \t\r\n"))
    if why:
        raise failure(62, "SYNTAX_ERROR", why)
    if statements.gives(head, TAG.encode()):  # nothing would find it again: no KILL, and no stop of a client that went
        raise failure(452, "SETTING_CONSTRAINT_VIOLATION", f"Setting {TAG} should not be changed: it holds the query id")


def _with_data(sql: bytes, statement: statements.Statement, body: Body) -> tuple[bytes, statements.Statement]:
    path = body.data(statement)
    if statement.insert_data_at < 0 and statement.format == "":
        sql = sql.rstrip(b"; \t\r\n") + b" FORMAT TabSeparated"
        statement = statements.read(sql)
    return statements.from_file(sql, statement, str(path)), statement


def _work(
    request: Request, sql: bytes, statement: statements.Statement, query_id: str, output: str, tables: Mapping[str, tuple[str, ...]], *, streamed: bool
) -> Work:
    settings = {k: v for k, v in request.url.items() if k not in OWN and not k.startswith("param_")}
    wrong = [k for k in settings if not _NAME.fullmatch(k)]
    if wrong:
        raise failure(115, "UNKNOWN_SETTING", f"Unknown setting '{wrong[0]}'", 404)
    try:
        timeout_s = float(request.url.get("session_timeout", TIMEOUT_S))
    except ValueError:
        raise failure(374, "INVALID_SESSION_TIMEOUT", f"Invalid session timeout: '{request.url['session_timeout']}'") from None
    return Work(
        sql,
        query_id,
        output=output,
        database=request.url.get("database") or request.headers.get("x-clickhouse-database", ""),
        settings=settings,
        parameters={k.removeprefix("param_"): v for k, v in request.url.items() if k.startswith("param_")},
        session=request.url.get("session_id", ""),
        session_timeout_s=timeout_s,
        session_check=request.on("session_check"),
        session_end=request.on("close_session"),
        readonly=request.method in {"GET", "HEAD"} and statement.reads,
        streamed=streamed,
        progress=request.on("send_progress_in_http_headers"),
        external=tables,
    )

"""The engine's exceptions as the server's HTTP answers: code, name, status.

Source of the mapping: ClickHouse, src/Server/HTTP/exceptionCodeToHTTPStatus.cpp; every other code is 500.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass

_CODE = re.compile(r"Code:\s*(\d+)")
_ONE_USER = re.compile(r"(DB::Exception: )default(: Not enough privileges)")
_OWN_VERSION = re.compile(r"\s*\(version [^()]*(?:\([^()]*\))?\)\s*$")  # behind some of its exceptions, and all in its log
_NO_SQL_USERS = frozenset({495, 514})  # ACCESS_STORAGE_READONLY, ACCESS_STORAGE_FOR_INSERTION_NOT_FOUND

STATUS = {
    194: 401,  # REQUIRED_PASSWORD
    **dict.fromkeys((192, 193, 497, 512, 516), 403),  # who asks, and what they may
    **dict.fromkeys((6, 8, 15, 25, 26, 27, 36, 37, 38, 41, 44, 53, 62, 72, 117, 123, 167, 168, 223, 321, 376, 427, 441, 675, 676), 400),
    **dict.fromkeys((46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 152, 336, 511), 404),
    159: 408,  # TIMEOUT_EXCEEDED
    381: 411,  # HTTP_LENGTH_REQUIRED
    229: 413,  # QUERY_IS_TOO_LARGE
    779: 415,  # UNSUPPORTED_MEDIA_TYPE
    48: 501,  # NOT_IMPLEMENTED
    **dict.fromkeys((76, 209, 439), 503),  # CANNOT_OPEN_FILE, SOCKET_TIMEOUT, CANNOT_SCHEDULE_TASK
    202: 503,  # TOO_MANY_SIMULTANEOUS_QUERIES: ours, with Retry-After
}
UNKNOWN_EXCEPTION = 1002
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
QUERY_WAS_CANCELLED = 394
_VERSION = " (version 26.9.2.1 (official build))"


@dataclass(slots=True, eq=False)
class Failure(Exception):
    """An answer that is an exception: ClickHouse's `code`, HTTP `status`, and the text as the server words it."""

    code: int
    status: int
    text: str


def failure(code: int, name: str, message: str, status: int | None = None) -> Failure:
    """Return a failure of our own in the engine's words."""
    return Failure(code, status or STATUS.get(code, 500), f"Code: {code}. DB::Exception: {message}. ({name}){_VERSION}")


def busy(message: str) -> Failure:
    """Return the failure of a request for which there is no room; the client may come again (503 with Retry-After)."""
    return failure(202, "TOO_MANY_SIMULTANEOUS_QUERIES", message)


def no_room() -> Failure:
    """Return the failure of a request whose body or answer finds no room on the disk."""
    return failure(243, "NOT_ENOUGH_SPACE", "There is no room on the disk for the request", 507)


def message(error: BaseException) -> str:
    """Return what the engine said; its binding fails to read a message that quotes bytes which are no UTF-8, and then has it as those bytes only."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UnicodeDecodeError):
            return cause.object.decode("utf-8", "replace")
        cause = cause.__cause__ or cause.__context__
    return str(error)


def from_engine(text: str, user: str = "") -> Failure:
    """Read the engine's message; without a code it is UNKNOWN_EXCEPTION. `user`: whose name stands in it, where the engine knows one user only."""
    match = _CODE.search(text)
    if user:
        text = _ONE_USER.sub(rf"\g<1>{user}\g<2>", text)
    code = int(match.group(1)) if match else UNKNOWN_EXCEPTION
    body = _OWN_VERSION.sub("", text[match.start() :] if match else f"Code: {code}. DB::Exception: {text}")
    if code in _NO_SQL_USERS:
        body = body.rstrip() + ". Users and roles are not made by SQL here: they stand in files (docs/reference/clickhouse-limits.md)"
    return Failure(code, STATUS.get(code, 500), body.rstrip() + _VERSION)

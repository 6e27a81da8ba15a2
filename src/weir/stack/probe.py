"""Ask a service in its own protocol whether it serves, and a port who has it.

In: a URL of a service. Out: yes or no, within a time-out. Keep: that a port accepts is no answer, since the kernel accepts for a process that is
stopped; a probe leaves nothing behind and is cheap (each service is asked every two seconds).
"""

from __future__ import annotations

import json
import socket
import struct
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

import psutil

_ANSWER_BYTES: Final = 1024
_DOCUMENT_BYTES: Final = 1 << 20
# StartupMessage 3.0; the answer is Authentication ('R'), or ErrorResponse ('E') whose field C is the SQLSTATE. As with pg_isready (libpq's PQping), any
# answer but cannot_connect_now will do. https://www.postgresql.org/docs/current/protocol-message-formats.html, appendix A for the code.
_STARTUP: Final = 196608
_CANNOT_CONNECT_NOW: Final = b"C57P03\0"  # starting up, recovering, shutting down
# ApiVersions (key 18) version 0: size, key, version, correlation id, no client id; the answer is size, correlation id, error code, and the list.
# https://kafka.apache.org/protocol.html#The_Messages_ApiVersions
_API_VERSIONS: Final = struct.pack(">ihhih", 10, 18, 0, 1, -1)
_API_VERSIONS_ANSWER: Final = struct.Struct(">iih")


def _ask(parts: SplitResult, request: bytes, enough: Callable[[bytes], bool], timeout_s: float) -> bytes:
    """Send `request` and return what is answered until it is enough, the connection ends, or _ANSWER_BYTES have come.

    Raises:
        OSError: it was not answered within `timeout_s`.
    """
    deadline, got = time.monotonic() + timeout_s, b""
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout_s) as connection:
        connection.sendall(request)
        while not enough(got) and len(got) < _ANSWER_BYTES:
            connection.settimeout(max(1e-3, deadline - time.monotonic()))
            piece = connection.recv(_ANSWER_BYTES - len(got))
            if not piece:
                break
            got += piece
    return got


def _postgres(parts: SplitResult, timeout_s: float) -> bool:
    words = b"user\0" + (parts.username or "weir").encode() + b"\0database\0" + (parts.path.strip("/") or "postgres").encode() + b"\0\0"
    answer = _ask(parts, struct.pack(">ii", 8 + len(words), _STARTUP) + words, lambda got: got[:1] not in {b"", b"E"}, timeout_s)
    return answer[:1] == b"R" or (answer[:1] == b"E" and _CANNOT_CONNECT_NOW not in answer)


def _kafka(parts: SplitResult, timeout_s: float) -> bool:
    answer = _ask(parts, _API_VERSIONS, lambda got: len(got) >= _API_VERSIONS_ANSWER.size, timeout_s)
    return len(answer) >= _API_VERSIONS_ANSWER.size and _API_VERSIONS_ANSWER.unpack_from(answer)[1:] == (1, 0)


def _redis(parts: SplitResult, timeout_s: float) -> bool:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    once = Retry(NoBackoff(), 0)
    client = redis.Redis.from_url(parts.geturl(), socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=once)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


def _http(parts: SplitResult, timeout_s: float) -> bool:
    with urllib.request.urlopen(parts.geturl(), timeout=timeout_s) as answer:  # noqa: S310 - our own loopback endpoints
        return bool(200 <= answer.status < 300)  # noqa: PLR2004 - HTTP success


_PROBES: Final[dict[str, Callable[[SplitResult, float], bool]]] = {"http": _http, "https": _http, "kafka": _kafka, "postgresql": _postgres, "redis": _redis, "rediss": _redis}


def ready(url: str, timeout_s: float = 2.0) -> bool:
    """Return whether the service at `url` (http, kafka, postgresql or redis) answers as one that serves, within about `timeout_s`."""
    parts = urlsplit(url)
    ask = _PROBES[parts.scheme]
    try:
        return ask(parts, timeout_s)
    except (OSError, urllib.error.URLError, ValueError):
        return False


class Health(NamedTuple):
    """What a health document names: parts that have stopped, and what it says of parts that are well."""

    trouble: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def health(url: str, timeout_s: float = 2.0) -> Health:
    """Return what the health document at `url` names; nothing when it cannot be had, since readiness is another question."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:  # noqa: S310 - our own loopback endpoints
            text = answer.read(_DOCUMENT_BYTES)
    except urllib.error.HTTPError as error:  # 503 has the same document
        text = error.read(_DOCUMENT_BYTES)
    except (OSError, urllib.error.URLError, ValueError):
        return Health()
    try:
        found = json.loads(text)
    except ValueError:
        return Health()
    named = (found.get(part) if isinstance(found, dict) else None for part in Health._fields)
    return Health(*(tuple(str(t) for t in texts) if isinstance(texts, list) else () for texts in named))


def answers(url: str, timeout_s: float = 2.0) -> bool:
    """Return whether somebody else's service is there: as `ready`, but an HTTP refusal (credentials, which a probe does not send) is an answer too."""
    parts = urlsplit(url)
    try:
        return _PROBES[parts.scheme](parts, timeout_s)
    except urllib.error.HTTPError as error:
        return error.code < 500  # noqa: PLR2004 - HTTP's server errors
    except (OSError, ValueError):
        return False


def port_taken(url: str) -> bool:
    """Return whether something listens where `url` points (before we start anything there)."""
    parts = urlsplit(url if "//" in url else f"//{url}")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((parts.hostname or "127.0.0.1", parts.port or 0))
        except OSError:
            return True
    return False


def holder(port: int) -> str:
    """Return who has a TCP port (a listener first, else a connection), for a message: command, pid, and the stack it belongs to; what cannot be known is left out."""
    try:
        at = sorted((c for c in psutil.net_connections("tcp") if c.laddr and c.laddr.port == port and c.pid), key=lambda c: c.status != psutil.CONN_LISTEN)
        found = [c.pid for c in at]
        process = psutil.Process(found[0]) if found else None
        name = " ".join(process.cmdline()[:3])[:60] or process.name() if process else ""
    except (psutil.Error, OSError):
        return "another process"
    if process is None:
        return "another process (of another user: ss -ltnp as root names it)"
    try:
        home = process.environ().get("WEIR_HOME", "") if process.environ().get("SUPERVISOR_ENABLED") else ""
    except (psutil.Error, OSError):
        home = ""
    return f"{name!r} (pid {process.pid}{f', of the Weir stack at {home}' if home else ''})"

"""What the soak's clients share: a plain HTTP client, a journal of how they fared, and an oracle that knows what must be in the tables.

In: requests of threads. Out: `Journal` (errors by kind, waits, latencies) and `Oracle` (rows and sums by key, in numpy, never asked of ClickHouse).
Keep: an error counts as asked for only where the request named its code beforehand; a batch enters the oracle once, when its insert was acknowledged.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import random
import threading
import time
import urllib.parse
from collections import Counter, deque
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

KEYS = 1000
BUCKETS = 7
ROW = np.dtype([("w", "<u2"), ("b", "<u4"), ("r", "<u4"), ("k", "<u2"), ("v", "<i8")])  # packed, so its bytes are RowBinary
ANSWER_S = 300.0  # a client waits so long: the longest that a statement may queue
_SAMPLES = 3


class RefusedError(Exception):
    """An answer that is not 200. `code`: ClickHouse's."""

    def __init__(self, status: int, code: str, text: str) -> None:
        super().__init__(f"HTTP {status}, code {code or 'none'}: {text[:300]}")
        self.status, self.code = status, code


class WrongAnswerError(Exception):
    """An answer that is not what it must be."""


class Journal:
    """How every client fared. All times in seconds since `began` unless they say ms."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.done: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.samples: dict[str, deque[str]] = {}
        self.longest_s: dict[str, float] = {}
        self.light: list[tuple[float, float]] = []  # (when, ms)
        self.light_in_crowd: list[tuple[float, float]] = []
        self.crowded = False
        self._lock = threading.Lock()

    def now(self) -> float:
        """Return the seconds since the load began."""
        return time.monotonic() - self.began

    def waited(self, kind: str, seconds: float, *, light: bool, crowded: bool) -> None:
        """Note that a request of `kind` had its whole answer after `seconds`; `crowded`: more clients than slots were there."""
        with self._lock:
            self.done[kind] += 1
            self.longest_s[kind] = max(self.longest_s.get(kind, 0.0), seconds)
            if light:
                (self.light_in_crowd if crowded else self.light).append((self.now(), seconds * 1000))

    def refused(self, kind: str, code: str) -> None:
        """Note an error that the request was made for."""
        with self._lock:
            self.asked[f"{kind} {code}"] += 1

    def failed(self, kind: str, error: BaseException) -> None:
        """Note an error that nobody asked for."""
        name = f"{kind} {error.code}" if isinstance(error, RefusedError) and error.code else f"{kind} {type(error).__name__}"
        with self._lock:
            self.errors[name] += 1
            kept = self.samples.setdefault(name, deque(maxlen=_SAMPLES))
            kept.append(f"at {self.now():.1f} s: {error}")


class Oracle:
    """What the writers' rows come to: counts and sums by key, outside ClickHouse."""

    def __init__(self) -> None:
        self.rows = self.batches = 0
        self.count = np.zeros(KEYS, np.int64)
        self.total = np.zeros(KEYS, np.int64)
        self._lock = threading.Lock()

    def add(self, rows: npt.NDArray[np.void]) -> None:
        """Count a batch that was acknowledged."""
        with self._lock:
            self.rows += len(rows)
            self.batches += 1
            self.count += np.bincount(rows["k"], minlength=KEYS)
            np.add.at(self.total, rows["k"], rows["v"])

    def by_key(self) -> dict[int, tuple[int, int]]:
        """Return (rows, sum) of every key that has rows."""
        return {k: (int(self.count[k]), int(self.total[k])) for k in np.flatnonzero(self.count)}

    def by_bucket(self) -> dict[int, tuple[int, int]]:
        """Return (rows, sum) of every bucket, as the chained view has them."""
        return {b: (int(self.count[b::BUCKETS].sum()), int(self.total[b::BUCKETS].sum())) for b in range(BUCKETS)}


def batch(writer: int, number: int, rows: int) -> npt.NDArray[np.void]:
    """Return the rows of a batch: the same for the same three numbers. Pure."""
    made = np.zeros(rows, ROW)
    made["w"], made["b"], made["r"] = writer, number, np.arange(rows)
    made["k"] = (made["r"].astype(np.uint64) * 7919 + number * 104729 + writer) % KEYS
    made["v"] = (made["r"].astype(np.int64) * 31 + number) % 2003 - 1000
    return made


class Http:
    """One kept connection of a user; another one after each that broke or was left."""

    def __init__(self, host: str, port: int, user: str, password: str) -> None:
        self._host, self._port = host, port
        self.headers = {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
        self._connection: http.client.HTTPConnection | None = None

    def open(self) -> http.client.HTTPConnection:
        """Return the connection."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self._host, self._port, timeout=ANSWER_S)
        return self._connection

    def leave(self) -> None:
        """Close it, whatever goes on."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def send(self, sql: str, body: bytes, url: dict[str, str], headers: dict[str, str], *, share: float = 1.0) -> http.client.HTTPConnection:
        """Send a request, or the first `share` of its body, and read nothing."""
        connection = self.open()
        connection.putrequest("POST", "/?" + urllib.parse.urlencode({**url, **({"query": sql} if body else {})}))
        sent = body or sql.encode()
        for name, value in {**self.headers, **headers, "Content-Length": str(len(sent))}.items():
            connection.putheader(name, value)
        connection.endheaders(sent[: int(len(sent) * share)])
        return connection

    def ask(self, sql: str, body: bytes, url: dict[str, str], headers: dict[str, str]) -> Iterator[bytes]:
        """Yield the answer in pieces.

        Raises:
            RefusedError: it is not 200. OSError, http.client.HTTPException: it did not come, or not whole.
        """
        try:
            answer = self.send(sql, body, url, headers).getresponse()
            if answer.status != 200:
                raise RefusedError(answer.status, answer.headers.get("X-ClickHouse-Exception-Code", ""), answer.read().decode(errors="replace"))
            while piece := answer.read(1 << 18):
                yield piece
        except (OSError, http.client.HTTPException):
            self.leave()
            raise


class Client(threading.Thread):
    """A client that takes its turn again and again until `stop`; `pause_s` is the most that it rests between turns."""

    kind, user, pause_s = "client", "reader", 0.1

    def __init__(self, soak: Soak, number: int = 0) -> None:
        super().__init__(name=f"{self.kind}-{number}", daemon=True)
        self.soak, self.number = soak, number
        self.random = random.Random(f"{soak.seed} {self.kind} {number}")  # noqa: S311 - a load that can be made again
        self.http = self.another(self.user)

    def another(self, user: str) -> Http:
        """Return a further connection, of `user`."""
        return Http(self.soak.host, self.soak.port, user, self.soak.password)

    def run(self) -> None:
        """Take turns."""
        while not self.soak.stop.is_set():
            try:
                self.turn()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is what the soak looks for
                self.soak.journal.failed(self.kind, error)
            self.soak.stop.wait(self.random.uniform(0, self.pause_s))
        with contextlib.suppress(Exception):
            self.last()
        self.http.leave()

    def turn(self) -> None:
        """Do once what this client does."""
        raise NotImplementedError

    def last(self) -> None:
        """Clear up what turns left on purpose."""

    def ask(self, sql: str, body: bytes = b"", *, asked: str = "", light: bool = False, headers: dict[str, str] | None = None, http: Http | None = None, **url: str) -> bytes | None:
        """Return the answer; None when it is the error `asked` for.

        Raises:
            RefusedError, OSError, http.client.HTTPException: anything else went wrong.
            WrongAnswerError: the error that was asked for did not come.
        """
        began, crowded = time.monotonic(), self.soak.journal.crowded
        try:
            answer = b"".join((http or self.http).ask(sql, body, url, headers or {}))
        except RefusedError as error:
            if not asked or error.code != asked:
                raise
            self.soak.journal.refused(self.kind, error.code)
            return None
        finally:
            self.soak.journal.waited(self.kind, time.monotonic() - began, light=light, crowded=crowded or self.soak.journal.crowded)
        if asked:
            raise WrongAnswerError(f"no error {asked} from {sql[:100]}")
        return answer

    def expect(self, wanted: str, sql: str, body: bytes = b"", *, light: bool = False, http: Http | None = None, **url: str) -> None:
        """Ask, and hold the answer to `wanted`.

        Raises:
            WrongAnswerError: it is another one.
        """
        found = (self.ask(sql, body, light=light, http=http, **url) or b"").decode().rstrip("\n")
        if found != wanted:
            raise WrongAnswerError(f"{found[:100]!r} in place of {wanted!r} from {sql[:150]}")


class Soak:
    """What all clients of one run share."""

    def __init__(self, host: str, port: int, password: str, seed: int) -> None:
        self.host, self.port, self.password, self.seed = host, port, password, seed
        self.stop, self.journal, self.oracle = threading.Event(), Journal(), Oracle()

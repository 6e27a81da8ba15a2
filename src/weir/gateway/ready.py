"""Connections that are ready before the request comes that will have them, each under a user, a role and a query id already.

In: users who asked, and connections that a request left as it found them. Out: a query id, and by it a connection. Keep: nothing that one
request set is there for the next: a connection comes back only from a SELECT that brought no settings, database, parameters or tables, and
ended well; every other one is closed. What is set on it ahead is what every request would set. To open a connection and tell it role and id takes 0.4 ms,
half of what a simple query takes in all; a query id alone takes 0.15 ms.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

PAUSE_S = 0.003  # after a request ended: until its answer has gone, which would share a core and the interpreter with this
SIZE = 16  # of each user, as many as the short lane has slots: 0.13 MiB each; requests beyond open their own


class Who(NamedTuple):
    """The engine's role of a connection, and the user's name that it knows; both empty where there are no users."""

    role: str = ""
    user: str = ""


_Work = tuple[Who, Any | None]


class Ready:
    """The connections ahead. `connect`: opens one of a user under a role; `tell`: gives one a query id; any thread may call them.

    `pause_s`: for how long an answer has the machine to itself before the next request's connection is made.
    """

    def __init__(self, connect: Callable[[Who], Any], tell: Callable[[Any, str], None], size: int = SIZE, pause_s: float = PAUSE_S) -> None:
        self._connect, self._tell, self._size, self._pause_s = connect, tell, size, pause_s
        self._waiting: dict[Who, deque[tuple[str, Any]]] = {}
        self._reserved: dict[str, Any] = {}
        self._work: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._prepare, name="ready", daemon=True)
        self._thread.start()

    def reserve(self, who: Who) -> str:
        """Return a new query id; where one is ready, a connection is kept under it until `take` or `forget`. Never waits."""
        with self._lock:
            ahead = self._waiting.setdefault(who, deque())
            if ahead:
                query_id, connection = ahead.popleft()
                self._reserved[query_id] = connection
                return query_id
        return str(uuid.uuid4())

    def take(self, query_id: str) -> Any | None:
        """Return the connection that was reserved under this id, once, or None."""
        return self._reserved.pop(query_id, None)

    def forget(self, query_id: str) -> None:
        """Close the connection of this id if nobody took it."""
        _close(self._reserved.pop(query_id, None))

    def more(self, who: Who, left: Any | None = None) -> None:
        """Note that a request of `who` ended, so that there is time to make the next one's connection: of `left`, or a new one."""
        self._work.put((who, left))

    def _prepare(self) -> None:
        while (work := self._next()) is not None:
            who, connection = work
            with self._lock:
                enough = len(self._waiting.setdefault(who, deque())) >= self._size
            if enough:
                _close(connection)
                continue
            query_id = str(uuid.uuid4())
            try:
                connection = connection or self._connect(who)
                self._tell(connection, query_id)
            except Exception:  # noqa: BLE001 - the request that would have had it opens its own, and tells why that fails
                _close(connection)
                continue
            with self._lock:
                self._waiting[who].append((query_id, connection))

    def _next(self) -> _Work | None:
        """Return what is to be done next; when nothing waited, a pause after it came."""
        try:
            return self._work.get_nowait()
        except queue.Empty:
            work = self._work.get()
            if work is not None:
                time.sleep(self._pause_s)
            return work

    def close(self) -> None:
        """Close them all; no more are made."""
        self._work.put(None)
        self._thread.join()
        with self._lock:
            left = [connection for ahead in self._waiting.values() for _, connection in ahead] + list(self._reserved.values())
            self._waiting.clear()
            self._reserved.clear()
        while not self._work.empty():
            left += [work[1] for work in (self._work.get(),) if work]
        for connection in left:
            _close(connection)


def _close(connection: Any | None) -> None:
    if connection is not None:
        with contextlib.suppress(Exception):
            connection.close()

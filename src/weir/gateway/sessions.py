"""HTTP sessions: a connection that lives from request to request, used by one request at a time.

In: `session_id`, `session_timeout`, `session_check`. Out: a `Session`, locked for the caller. Keep: never waits (a busy session is
SESSION_IS_LOCKED, as on the server); at most `maximum` of them; what a request alone sets is undone, what the session itself set stays.
Source: ClickHouse's documentation, interfaces/http, "Using ClickHouse sessions in the HTTP protocol".
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from weir.gateway.failures import failure

TIMEOUT_S = 60.0
TIMEOUT_MAX_S = 3600.0
MAXIMUM = 256  # each keeps a connection and its temporary tables in memory


@dataclass(eq=False)
class Session:
    """`own`: names that the session's own SET statements changed, `parameters` those of param_*. `database`: what its own USE chose."""

    key: tuple[str, str]  # the user's name, and the session's own
    connection: Any
    timeout_s: float
    idle_since_s: float
    database: str = "default"
    own: set[str] = field(default_factory=set)
    parameters: dict[str, str] = field(default_factory=dict)
    locked: bool = True


class Sessions:
    """The sessions of one engine. `connect` opens a connection; `clock` returns seconds."""

    def __init__(self, connect: Callable[[], Any], *, maximum: int = MAXIMUM, clock: Callable[[], float] = time.monotonic) -> None:
        self._connect, self._maximum, self._clock = connect, maximum, clock
        self._all: dict[tuple[str, str], Session] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._all)

    def take(self, name: str, timeout_s: float, *, check: bool, user: str = "") -> Session:
        """Return the session `name` of `user`, locked; make it unless `check`.

        Raises:
            Failure: 372 when it must be there and is not, 373 when another request has it, 700 when there are too many, 374 for a time-out
                out of range.
        """
        if not 0 <= timeout_s <= TIMEOUT_MAX_S:
            raise failure(374, "INVALID_SESSION_TIMEOUT", f"Invalid session timeout: '{timeout_s:g}'. Maximum session timeout: {TIMEOUT_MAX_S:g}")
        self.sweep()
        with self._lock:
            found = self._all.get((user, name))
            if found is None:
                if check:
                    raise failure(372, "SESSION_NOT_FOUND", f"Session {name} not found")
                if len(self._all) >= self._maximum:
                    raise failure(700, "USER_SESSION_LIMIT_EXCEEDED", f"There are {self._maximum} sessions already", 503)
                found = self._all[user, name] = Session((user, name), self._connect(), timeout_s, self._clock())
                return found
            if found.locked:
                raise failure(373, "SESSION_IS_LOCKED", f"Session {name} is locked by a concurrent client")
            found.locked, found.timeout_s = True, timeout_s
            return found

    def give(self, session: Session, *, end: bool = False) -> None:
        """Unlock a session that `take` returned; with `end` it is closed."""
        with self._lock:
            session.locked, session.idle_since_s = False, self._clock()
            if end:
                self._all.pop(session.key, None)
        if end:
            with contextlib.suppress(Exception):
                session.connection.close()

    def sweep(self) -> None:
        """Close every session that was idle for longer than its time-out."""
        now = self._clock()
        with self._lock:
            old = [s for s in self._all.values() if not s.locked and now - s.idle_since_s > s.timeout_s]
            for session in old:
                del self._all[session.key]
        for session in old:
            with contextlib.suppress(Exception):
                session.connection.close()

    def close(self) -> None:
        """Close them all; none may be in use."""
        with self._lock:
            for session in self._all.values():
                session.connection.close()
            self._all.clear()

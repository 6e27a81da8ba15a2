"""The engine in this process: one data folder, a connection per request or session, worker threads.

In: `Work`. Out: a `Running` statement that is read piece by piece. Keep: temporary tables, USE and SET belong to a connection, so each request
without a session has its own, opened ahead where it can be (ready.py); what a request sets in a session is undone; the folder is locked for as long as the process lives; the engine
is never closed under a statement.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from weir.gateway import config, layout, logs, snapshot, together, tokens
from weir.gateway.access import ID_TAG, USER_TAG, Guard
from weir.gateway.accounts import Accounts
from weir.gateway.body import SQL_MAX_BYTES
from weir.gateway.config import PINNED
from weir.gateway.failures import busy, from_engine, message
from weir.gateway.ready import Ready, Who
from weir.gateway.running import OURS, Counts, Running, name, quote
from weir.gateway.sessions import TIMEOUT_S, Sessions
from weir.telemetry import points

__all__ = ["PINNED", "Counts", "Engine", "Running", "Work"]

log = logging.getLogger(__name__)

TAG = ID_TAG
POINTS = ("received", "inserted", "synced")  # of an insert: its body is whole; the engine has returned; its token is on the disk, and no answer went
CRASH_AT, TRAIL = "WEIR_GATEWAY_CRASH_AT", "WEIR_GATEWAY_TRAIL"  # weir.telemetry.points says what they do
_REFRESH_S = 30.0  # for a refresh that runs to notice that it is stopped
ASKED_BY = f"if(Settings['{USER_TAG}'] = '', user, Settings['{USER_TAG}'])"
CLIENT_ID = f"if(Settings['{TAG}'] = '', query_id, Settings['{TAG}'])"


@dataclass(frozen=True, slots=True)
class Work:
    """A statement to run. `settings` and `database` hold for it alone; `external`: statements that make its external tables, run before it.

    `revision`: the client's protocol version where the answer is Native and its blocks depend on it; `output` is Buffers then, and `describe` the
    statement that tells the columns, and its format. `user` and `role`: who asks, and the engine's role whose rights it has; empty: everything is allowed. `suspect`: texts that `Engine.guard`
    must allow before it runs.
    """

    sql: bytes
    query_id: str
    output: str = "TabSeparated"
    database: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    session: str = ""
    session_timeout_s: float = TIMEOUT_S
    session_check: bool = False
    session_end: bool = False
    readonly: bool = False
    streamed: bool = False
    progress: bool = False
    external: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    user: str = ""
    role: str = ""
    suspect: tuple[bytes, ...] = ()
    revision: int = 0
    describe: tuple[bytes, str] | None = None

    @property
    def who(self) -> Who:
        """Whose connection it needs."""
        return Who(self.role, self.user if self.role else "")

    @property
    def leaves_nothing(self) -> bool:
        """Whether a connection is as it was once this has run well: a SELECT, which brought nothing that is set on the connection."""
        brought = self.settings or self.database or self.parameters or self.external or self.session or self.readonly or self.progress
        return self.streamed and not brought and b"settings" not in self.sql.lower()


class Engine:
    """The engine on one data folder. `reach`: called at the named points of an insert.

    Raises:
        Failure: from `start`, when the engine refuses a statement. RuntimeError: the folder belongs to another process, or to a newer engine.
    """

    def __init__(self, path: Path, *, memory_bytes: int = 4 << 30, accounts: Accounts | None = None, reach: Callable[[str], None] = points.nothing) -> None:
        self.reach = reach
        os.environ["TZ"] = "UTC"
        path.mkdir(parents=True, exist_ok=True)
        self._lock_file = self._lock(path)
        self._data, self.snapshots = path / "data", path / "snapshots"
        import chdb

        before = layout.claim(path, chdb.engine_version)
        if before not in {"", chdb.engine_version}:
            log.warning("%s was made by ClickHouse %s and is opened by %s: from now on no older one opens it", path, before, chdb.engine_version)
        for orphan in tokens.repair(self._data):
            log.warning("dropped the deduplication token of part %s, which is not in %s: a process was killed while it was inserted", orphan.part, orphan.table.name)
        logs.put_aside(path)
        self._chdb = chdb
        self._address = f"{self._data}?config-file={config.write(path, memory_bytes, accounts)}"
        self._root = chdb.connect(self._address)
        self._root_lock = threading.Lock()
        self._active = 0
        self._idle = threading.Condition()
        self._logs = tokens.Logs(self._data)
        self.sessions = Sessions(self._connect)
        self.guard = Guard(self._parsed)
        self._ask(f"SET max_query_size = {SQL_MAX_BYTES * 2}")
        self.version = self._ask("SELECT version()").strip()
        self._prepare_query_log()
        logs.attach(path, self._ask)
        self.ready = Ready(self._connect_as, self._tell)

    @staticmethod
    def _lock(path: Path) -> IO[str]:
        file = (path / "owner.lock").open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise RuntimeError(f"{path} is in use by process {file.read().strip() or 'unknown'}: one process owns a data folder") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        return file

    def _connect(self) -> Any:
        return self._chdb.connect(self._address)

    def _connect_as(self, who: Who) -> Any:
        connection = self._connect()
        if who.role:
            connection.query(f"{OURS}SET ROLE {name(who.role)}; {OURS}SET {USER_TAG}={quote(who.user)}", "TabSeparated")
        return connection

    @staticmethod
    def _tell(connection: Any, query_id: str) -> None:
        connection.query(f"{OURS}SET {TAG}={quote(query_id)}", "TabSeparated")

    def _ask(self, sql: str) -> str:
        """Run a statement of our own."""
        with self._root_lock:
            return bytes(self._root.query(OURS + sql, "TabSeparated").bytes() or b"").decode()

    def _parsed(self, sql: bytes) -> str:
        try:
            return self._ask(f"SELECT parseQueryToJSON({quote(sql.decode('utf-8', 'surrogateescape'))}) FORMAT RawBLOB")
        except Exception as error:
            raise from_engine(message(error)) from error

    def _prepare_query_log(self) -> None:
        """Make system.query_log a view of the engine's log, under the query ids that clients chose and without our own statements."""
        if self._ask("SELECT engine FROM system.tables WHERE database = 'system' AND name = 'query_log'").strip() not in {"", "View"}:
            self._ask("DROP TABLE system.query_log SYNC")  # an earlier version's; it held days of logs and nothing else
        self._ask("SYSTEM FLUSH LOGS")
        self._ask(
            f"CREATE OR REPLACE VIEW system.query_log AS SELECT * REPLACE ({CLIENT_ID} AS query_id, {CLIENT_ID} AS initial_query_id, {ASKED_BY} AS user, {ASKED_BY} AS initial_user) "
            f"FROM system.{config.QUERY_LOG} WHERE NOT startsWith(query, {quote(OURS.strip())})"
        )

    def start(self, work: Work) -> Running:
        """Begin one statement; the caller reads it to its end or closes it.

        Raises:
            Failure: the engine, or the session, refuses it.
        """
        for text in work.suspect:
            self.guard.check(text)
        session = self.sessions.take(work.session, work.session_timeout_s, check=work.session_check, user=work.user) if work.session else None
        ahead = None if session else self.ready.take(work.query_id)
        connection = session.connection if session else ahead or self._connect()
        with self._idle:
            self._active += 1

        def release() -> None:
            if session:
                self.sessions.give(session, end=work.session_end)
            elif running.ended_well and work.leaves_nothing:
                self.ready.more(work.who, connection)
            else:
                connection.close()
                self.ready.more(work.who)
            self._ended()

        running = Running(connection, session, release, lambda: self._logged(work.query_id), work.user, revision=work.revision, describe=work.describe)
        settings = {**work.settings} if ahead else {**work.settings, TAG: work.query_id, **({USER_TAG: work.user} if work.role else {})}
        if work.readonly and not session:  # in a session it could not be undone; there the statement's kind decides
            settings["readonly"] = "2"
        try:
            running.begin(work.sql, work.output, work.database, settings, work.parameters, work.external,
                          streamed=work.streamed, progress=work.progress, role="" if ahead else work.role)  # fmt: skip
        except BaseException:
            running.abandon()  # which releases
            raise
        return running

    def _logged(self, query_id: str) -> str:
        """Return the exception of a statement as the engine's log has it, or nothing: some Pythons (3.11.2) lose what the binding says with bytes that are no UTF-8."""
        with contextlib.suppress(Exception):
            self._ask("SYSTEM FLUSH LOGS")
            found = self._ask(
                f"SELECT hex(exception) FROM system.{config.QUERY_LOG} WHERE event_date >= today() - 1 AND exception_code != 0 AND {CLIENT_ID} = {quote(query_id)}"
                " ORDER BY event_time_microseconds DESC LIMIT 1"
            )
            return bytes.fromhex(found.strip()).decode("utf-8", "replace")
        return ""

    def _ended(self) -> None:
        with self._idle:
            self._active -= 1
            self._idle.notify_all()

    def kill(self, query_id: str) -> None:
        """Ask the engine to stop the statement of this query id, if it runs; returns at once."""
        with contextlib.suppress(Exception):
            self._ask(f"KILL QUERY WHERE Settings['{TAG}'] = {quote(query_id)} ASYNC")

    def sync_tokens(self, since_s: float) -> None:
        """Sync the deduplication logs that were written since `since_s` (seconds since the epoch)."""
        self._logs.sync(since_s)

    def snapshot(self, since_s: float) -> dict[str, str | int | float]:
        """Make a cut of all tables and return its folder with what it holds. No statement may write meanwhile, and none began since `since_s` (time.monotonic); refreshable views stand still.

        Raises:
            Failure: a view's refresh does not end.
        """
        target = self.snapshots / uuid.uuid4().hex
        stopped = self._ask("SELECT database, view FROM system.view_refreshes WHERE status = 'Disabled' FORMAT TabSeparatedRaw").splitlines()
        self._ask("SYSTEM STOP VIEWS")
        try:
            deadline = time.monotonic() + _REFRESH_S
            while self._ask("SELECT count() FROM system.view_refreshes WHERE status = 'Running'").strip() != "0":
                if time.monotonic() > deadline:
                    raise busy(f"A refreshable view has not ended its refresh in {_REFRESH_S:g} s")
                time.sleep(0.02)
            made = snapshot.cut(self._data, target)
        finally:
            self._ask("SYSTEM START VIEWS")
            for line in stopped:
                database, _, view = line.partition("\t")
                self._ask(f"SYSTEM STOP VIEW {name(database)}.{name(view)}")
        return {"path": str(target.resolve()), "files": made.files, "size_bytes": made.size_bytes, "held_ms": round((time.monotonic() - since_s) * 1000, 1),
                "engine": self.version, "layout": layout.LAYOUT}  # fmt: skip

    def together(self, wanted: list[str], since_s: float) -> dict[str, float | int]:
        """Run statements one after another with every right; no other statement may write meanwhile, and none began since `since_s` (time.monotonic).

        Raises:
            Failure: the engine refuses one; those before it are done.
        """
        if together.replaces(wanted):
            tokens.settle(tokens.folders(self._data))
        begun_s = time.time()
        try:
            return together.run(self._ask, wanted, since_s)
        finally:
            self.tables_changed()
            self.sync_tokens(begun_s - 1)  # of an INSERT among them, as of any other

    def tables_changed(self) -> None:
        """Note that tables may have come or gone: their deduplication logs are looked for again."""
        self._logs.changed()

    @property
    def active(self) -> int:
        """Statements begun and not ended."""
        return self._active

    def wait_idle(self, seconds: float) -> bool:
        """Wait until no statement runs; False when one still does."""
        with self._idle:
            return self._idle.wait_for(lambda: self._active == 0, seconds)

    def close(self) -> None:
        """Close every connection; the engine flushes and ends.

        Raises:
            RuntimeError: a statement runs; closing would end the process under its threads.
        """
        if self._active:
            raise RuntimeError(f"{self._active} statements still run")
        self.ready.close()
        self.sessions.close()
        self._root.close()
        self._lock_file.close()


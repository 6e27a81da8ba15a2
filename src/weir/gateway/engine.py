"""The engine in this process: one data folder, a connection per request or session, worker threads.

In: SQL. Out: `Answer`. Keep: temporary tables, USE and SET belong to a connection, so each request without a session has its own; the folder
is locked for as long as the process lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from weir.gateway.failures import Failure, failure, from_engine

SESSION_TIMEOUT_S = 60.0
SESSION_TIMEOUT_MAX_S = 3600.0

# Pinned, never inherited: defaults changed between releases, and the exactly-once claim rests on these.
PINNED = {
    "async_insert": "0",
    "deduplicate_blocks_in_dependent_materialized_views": "1",
    "implicit_select": "0",
    "max_memory_usage": str(2 << 30),
    "log_queries": "1",
}

_CONFIG = """<clickhouse>
  <logger><level>none</level></logger>
  <timezone>UTC</timezone>
  <max_server_memory_usage>{memory}</max_server_memory_usage>
  <mark_cache_size>67108864</mark_cache_size>
  <uncompressed_cache_size>0</uncompressed_cache_size>
  <background_pool_size>2</background_pool_size>
  <backups><allowed_path>{path}/backups/</allowed_path></backups>
  <query_log><database>system</database><table>query_log</table><flush_interval_milliseconds>5000</flush_interval_milliseconds><ttl>event_date + INTERVAL 3 DAY DELETE</ttl></query_log>
  <part_log><database>system</database><table>part_log</table><flush_interval_milliseconds>5000</flush_interval_milliseconds><ttl>event_date + INTERVAL 3 DAY DELETE</ttl></part_log>
  <query_views_log><database>system</database><table>query_views_log</table><flush_interval_milliseconds>5000</flush_interval_milliseconds><ttl>event_date + INTERVAL 3 DAY DELETE</ttl></query_views_log>
</clickhouse>
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a statement gave: `body`, and the counts of the summary header."""

    body: bytes
    read_rows: int
    read_bytes: int
    written_rows: int
    written_bytes: int
    elapsed_s: float


def quote(value: str) -> str:
    """Return `value` as a string literal."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


@dataclass
class _Session:
    connection: Any
    timeout_s: float
    used_at_s: float
    lock: threading.Lock = field(default_factory=threading.Lock)


class Engine:
    """The engine on one data folder.

    Raises:
        Failure: from `run`, when the engine refuses a statement. RuntimeError: the folder belongs to another process.
    """

    def __init__(self, path: Path, *, memory_bytes: int = 4 << 30) -> None:
        os.environ["TZ"] = "UTC"
        path.mkdir(parents=True, exist_ok=True)
        self._lock_file = self._lock(path)
        config = path / "engine.xml"
        config.write_text(_CONFIG.format(memory=memory_bytes, path=path))
        import chdb

        self._chdb = chdb
        self._address = f"{path / 'data'}?config-file={config}"
        self._root = chdb.connect(self._address)
        self._sessions: dict[str, _Session] = {}
        self._sessions_lock = threading.Lock()
        self.version = self._root.query("SELECT version()", "TabSeparated").bytes().decode().strip()

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
        connection = self._chdb.connect(self._address)
        connection.query("SET " + ", ".join(f"{k}={quote(v)}" for k, v in PINNED.items()))
        return connection

    def _session(self, name: str, timeout_s: float, *, check: bool) -> _Session:
        now = time.monotonic()
        with self._sessions_lock:
            for key, session in list(self._sessions.items()):
                if now - session.used_at_s > session.timeout_s and session.lock.acquire(blocking=False):
                    self._sessions.pop(key).connection.close()
            found = self._sessions.get(name)
            if found is None:
                if check:
                    raise failure(372, "SESSION_NOT_FOUND", f"Session {name} not found", 404)
                found = self._sessions[name] = _Session(self._connect(), timeout_s, now)
            if not found.lock.acquire(blocking=False):
                raise failure(373, "SESSION_IS_LOCKED", f"Session {name} is locked by a concurrent client")
            found.used_at_s, found.timeout_s = now, timeout_s
            return found

    def run(
        self,
        sql: bytes,
        *,
        output: str,
        database: str = "",
        settings: Mapping[str, str] | None = None,
        parameters: Mapping[str, str] | None = None,
        session: str = "",
        session_timeout_s: float = SESSION_TIMEOUT_S,
        session_check: bool = False,
        after: Iterable[str] = (),
    ) -> Answer:
        """Run one statement and return its whole answer.

        Args:
            sql: the statement.
            output: default format of its result.
            database: the default database.
            settings: settings of this query alone.
            parameters: values of {name:Type}.
            session: id of a session, or empty.
            session_timeout_s: seconds of silence after which the session ends.
            session_check: refuse a session that is not there.
            after: statements to run on the connection afterwards.
        """
        if not session:
            connection = self._connect()
            try:
                return self._run(connection, sql, output, database, settings or {}, parameters or {})
            finally:
                connection.close()
        held = self._session(session, min(session_timeout_s, SESSION_TIMEOUT_MAX_S), check=session_check)
        try:
            return self._run(held.connection, sql, output, database, settings or {}, parameters or {})
        finally:
            with contextlib.suppress(Exception):
                undo = [f"{k}={quote(PINNED[k])}" if k in PINNED else f"{k}=DEFAULT" for k in settings or {}]
                for statement in ([f"SET {', '.join(undo)}"] if undo else []) + list(after):
                    held.connection.query(statement)
            held.used_at_s = time.monotonic()
            held.lock.release()

    @staticmethod
    def _run(connection: Any, sql: bytes, output: str, database: str, settings: Mapping[str, str], parameters: Mapping[str, str]) -> Answer:
        try:
            if database:
                connection.query("USE `" + database.replace("`", "\\`") + "`")
            pairs = [f"{k}={quote(v)}" for k, v in settings.items()] + [f"param_{k}={quote(v)}" for k, v in parameters.items()]
            if pairs:
                connection.query("SET " + ", ".join(pairs))
            result = connection.query(sql.decode("utf-8", "surrogateescape"), output)
            return Answer(bytes(result.bytes() or b""), result.storage_rows_read() or result.rows_read(), result.storage_bytes_read(),
                          result.rows_written(), result.bytes_written(), result.elapsed())
        except Failure:
            raise
        except Exception as error:
            raise from_engine(str(error)) from error

    def close(self) -> None:
        """Close every connection; the engine flushes and ends."""
        for session in self._sessions.values():
            session.connection.close()
        self._root.close()
        self._lock_file.close()

"""One statement on one connection, read piece by piece by one thread at a time.

In: SQL with its settings, parameters and external tables. Out: pieces of the answer, then `Counts`. Keep: the connection is given back exactly
once; in a session, what the request alone set is undone first.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from weir.gateway import blocks, statements
from weir.gateway.config import PINNED
from weir.gateway.failures import Failure, from_engine, message
from weir.gateway.sessions import Session

OURS = "/* gateway */ "  # marks our own statements, which the query log leaves out
_NO_TEXT = re.compile("[\udc80-\udcff]")  # how `surrogateescape` holds a byte that is no UTF-8
_LOST = "the statement failed, with words that quote bytes which are no text, and this Python lost them"
PROGRESS_MAX = 100  # events kept for the headers


def escaped(value: str) -> str:
    """Return `value` with each byte that is no UTF-8 as the escape that means it: the engine takes text alone."""
    return _NO_TEXT.sub(lambda found: f"\\x{ord(found[0]) - 0xDC00:02X}", value)


def quote(value: str) -> str:
    """Return `value` as a string literal."""
    return escaped("'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'")


def name(value: str) -> str:
    """Return `value` as a quoted name."""
    return escaped("`" + value.replace("\\", "\\\\").replace("`", "\\`") + "`")


@dataclass(slots=True)
class Counts:
    """What the engine counted so far, of rows, bytes and seconds."""

    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    result_rows: int = 0
    elapsed_s: float = 0.0


@dataclass(slots=True, eq=False)
class Running:
    """A statement under way. `release` gives the connection back; `logged` says what the engine's log has of an exception whose text was lost."""

    connection: Any
    session: Session | None
    release: Callable[[], None]
    logged: Callable[[], str]
    user: str = ""
    counts: Counts = field(default_factory=Counts)
    progress: list[Mapping[str, int]] = field(default_factory=list)
    ended_well: bool = False  # a stream was read to its end
    revision: int = 0
    describe: tuple[bytes, str] | None = None
    revised: blocks.Revised | None = None
    _pieces: Any = None
    _whole: bytes | None = None
    _undo: list[str] = field(default_factory=list)
    _closed: bool = False

    def begin(
        self, sql: bytes, output: str, database: str, settings: Mapping[str, str], parameters: Mapping[str, str],
        external: Mapping[str, tuple[str, ...]], *, streamed: bool, progress: bool, role: str = "",
    ) -> None:  # fmt: skip
        """Start it: the engine has seen it when this returns, and has run it whole unless `streamed`.

        Raises:
            Failure: the engine refuses it.
        """
        try:
            self._prepare(sql, database, settings, external, role)
            if progress:
                self.connection.set_progress_callback(self._progressed)
            # the engine takes those given with a statement in place of those that were set, and then forgets both
            own = self.session.parameters if self.session else {}
            text = escaped(sql.decode("utf-8", "surrogateescape"))  # which means the same in a literal and in a quoted name
            given = {escaped(k): escaped(v) for k, v in {**own, **parameters}.items()} or None
            unknown = self._learn_columns(given)
            if streamed:
                self._pieces = self.connection.send_query(text, output, params=given)
                self._known(unknown)
                return
            result = self.connection.query(text, output, params=given)
            self._known(unknown)
            self._whole = self._native(bytes(result.bytes() or b""))
            self._count(result)
        except Failure:
            raise
        except Exception as error:
            raise self._failed(error) from error
        self._note(sql)

    def _failed(self, error: Exception) -> Failure:
        text = message(error)
        lost = not text or text.endswith(": ")
        return from_engine((self.logged() or _LOST) if lost else text, self.user)

    def _learn_columns(self, given: Mapping[str, str] | None) -> Exception | None:
        """Ask for the columns where blocks of the client's protocol version need them; return what the engine had against it."""
        if self.describe is None:
            return None
        sql, form = self.describe
        try:
            answer = self.connection.query(OURS + escaped(sql.decode("utf-8", "surrogateescape")), form, params=given)
        except Exception as error:  # noqa: BLE001 - told only if the statement itself runs: else its own error is the right one
            return error
        self.revised = blocks.Revised(blocks.header(bytes(answer.bytes() or b""), form), self.revision)
        return None

    @staticmethod
    def _known(unknown: Exception | None) -> None:
        if unknown is not None:
            raise unknown

    def _native(self, piece: bytes) -> bytes:
        return self.revised.feed(piece) if self.revised else piece

    def _prepare(self, sql: bytes, database: str, settings: Mapping[str, str], external: Mapping[str, tuple[str, ...]], role: str) -> None:
        if self.session:
            self._prepare_session(sql, database, settings, role)
        else:  # in one call: each costs 0.1 ms more
            once = [f"SET ROLE {name(role)}"] if role else []
            once += ["SET " + ", ".join(f"{k}={quote(v)}" for k, v in settings.items())] if settings else []
            once += [f"USE {name(database)}"] if database else []
            if once:
                self._ours(f"; {OURS}".join(once))
        for table, making in external.items():
            self._undo.insert(0, f"DROP TEMPORARY TABLE IF EXISTS {name(table)}")
            for statement in making:
                self._ours(statement)

    def _prepare_session(self, sql: bytes, database: str, settings: Mapping[str, str], role: str) -> None:
        if self.session is None:
            return
        own = statements.set_names(sql)
        kept = self._values(self.session.own & set(settings))
        back = [f"{k}={quote(kept[k]) if k in kept else quote(PINNED[k]) if k in PINNED else 'DEFAULT'}" for k in settings if k not in own]
        self._undo = [f"SET {', '.join(back)}"] if back else []
        becoming = f"SET ROLE {name(role)}; {OURS}" if role else ""
        self._ours(becoming + "SET " + ", ".join(f"{k}={quote(v)}" for k, v in settings.items()))
        if database:
            self._undo.append("")  # its place: the session's database is known only once the statement has run
            self._ours(f"USE {name(database)}")

    def _values(self, names: set[str]) -> dict[str, str]:
        if not names:
            return {}
        return {k: bytes(self._ours(f"SELECT toString(getSetting({quote(k)}))", "RawBLOB").bytes()).decode() for k in names}

    def _ours(self, sql: str, output: str = "TabSeparated") -> Any:
        return self.connection.query(OURS + sql, output)

    def _note(self, sql: bytes) -> None:
        """Remember what a session's own statement changed in it."""
        if not self.session:
            return
        names = statements.set_names(sql)
        self.session.own |= names
        for own in (n.removeprefix("param_") for n in names if n.startswith("param_")):
            value = bytes(self._ours(f"SELECT {{{own}:String}}", "TSVRaw").bytes()).decode().removesuffix("\n")
            self.session.parameters[own] = value.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")
        if statements.read(sql).kind == "USE":
            self.session.database = bytes(self._ours("SELECT currentDatabase()", "RawBLOB").bytes()).decode()

    def _progressed(self, event: Mapping[str, int]) -> None:
        if len(self.progress) >= PROGRESS_MAX:
            del self.progress[1::2]
        self.progress.append(event)

    def _count(self, result: Any) -> None:
        self.counts.read_rows += result.storage_rows_read()
        self.counts.read_bytes += result.storage_bytes_read()
        self.counts.result_rows += result.rows_read()
        self.counts.written_rows += result.rows_written()
        self.counts.written_bytes += result.bytes_written()
        self.counts.elapsed_s += result.elapsed()

    def read(self) -> bytes | None:
        """Return the next piece of the answer, or None at its end, when the connection has been given back.

        Raises:
            Failure: the statement failed; the connection has been given back.
        """
        if self._whole is not None:
            whole, self._whole = self._whole, None
            if whole:
                return whole
        if self._pieces is None:
            self.abandon()
            return None
        try:
            piece = self._pieces.fetch()
        except Exception as error:
            self._pieces = None
            self.abandon()
            raise self._failed(error) from error
        if piece is None:
            self._pieces, self.ended_well = None, True
            self.abandon()
            return None
        self._count(piece)
        return self._native(bytes(piece.bytes() or b""))

    def abandon(self) -> None:
        """Stop reading, undo what was set, and give the connection back; may be called twice."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._pieces is not None:
                with contextlib.suppress(Exception):
                    self._pieces.cancel()
                self._pieces = None
            if self.session:
                self._restore(self.session)
        finally:
            self.release()

    def _restore(self, session: Session) -> None:
        with contextlib.suppress(Exception):
            self.connection.set_progress_callback(None)
        for statement in self._undo:
            with contextlib.suppress(Exception):
                self._ours(statement or f"USE {name(session.database)}")

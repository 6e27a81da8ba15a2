"""Statements that take place together: one after another while nothing else writes, so that no insert sees some of them done and others not.

In: a JSON list of statements. Out: how many were run, and for how long writes were held. Keep: only DROP, EXCHANGE, RENAME, CREATE and ALTER, an INSERT … SELECT of the last rows,
and a SELECT whose throwIf() ends it, one each; all are looked at before the first is run; the one that the engine refuses ends it and is named, and those before it
stay done: whoever asks can look and go on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Final

from weir.gateway import statements
from weir.gateway.failures import Failure, failure, from_engine

MOST: Final = 100  # statements
_KINDS: Final = frozenset({"DROP", "EXCHANGE", "RENAME", "CREATE", "ALTER", "INSERT … SELECT", "SELECT throwIf"})
_ROWS: Final = frozenset({"UPDATE", "DELETE", "POPULATE", "MATERIALIZE", "INSERT"})  # words of what would take long, or write itself


def read(body: bytes) -> list[str]:
    """Return the statements of a request's body. Pure.

    Raises:
        Failure: it is no list of statements that may be run together.
    """
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if not isinstance(found, list) or not found or len(found) > MOST or not all(isinstance(s, str) for s in found):
        raise failure(36, "BAD_ARGUMENTS", f"The body is a JSON list of 1 to {MOST} statements")
    for number, text in enumerate(found, 1):
        sql = text.encode("utf-8", "surrogateescape")
        kind = _kind(sql)
        rows = {t.value.decode().upper() for t in statements.tokens(sql) if t.kind == "word"} & _ROWS if kind == "ALTER" or "POPULATE" in text.upper() else set()
        if kind not in _KINDS or rows:
            raise failure(36, "BAD_ARGUMENTS", f"Statement {number}: only {', '.join(sorted(_KINDS))} run together, without {', '.join(sorted(_ROWS))}")
        if why := statements.refusal(sql):
            raise failure(62, "SYNTAX_ERROR", f"Statement {number}: {why}")
    return found


def _kind(sql: bytes) -> str:
    """Return a statement's kind; of an INSERT and a SELECT the one of _KINDS that they are, if any."""
    told = statements.read(sql)
    words = {t.value for t in statements.tokens(sql) if t.kind == "word"}
    if told.kind == "INSERT" and told.insert_data_at < 0 and not told.has_values and b"SELECT" in {w.upper() for w in words}:
        return "INSERT … SELECT"
    return "SELECT throwIf" if told.kind == "SELECT" and b"throwIf" in words else told.kind


def replaces(wanted: Sequence[str]) -> bool:
    """Say whether a partition is put in another's place, which takes the names of parts from the rows of older tokens. Pure."""
    return any({b"REPLACE", b"PARTITION"} <= {t.value.upper() for t in statements.tokens(s.encode("utf-8", "surrogateescape")) if t.kind == "word"} for s in wanted)


def run(run_one: Callable[[str], object], wanted: Sequence[str], since_s: float) -> dict[str, float | int]:
    """Run the statements; return what to answer. `since_s`: since when writes have been held (time.monotonic).

    Raises:
        Failure: the engine refuses one; its text says which, and that those before it are done. Never 503, which says that none was begun.
    """
    for number, sql in enumerate(wanted, 1):
        try:
            run_one(sql)
        except Exception as error:
            found = from_engine(str(error))
            text = found.text.replace("DB::Exception: ", f"DB::Exception: Statement {number} of {len(wanted)} (those before it are done): ", 1)
            raise Failure(found.code, 500 if found.status == HTTPStatus.SERVICE_UNAVAILABLE else found.status, text) from error
    return {"statements": len(wanted), "held_ms": round((time.monotonic() - since_s) * 1000, 1)}

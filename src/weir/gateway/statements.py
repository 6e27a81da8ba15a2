r"""Reads just enough of a statement to route it: its kind, its FORMAT, and where an INSERT's data begins.

In: a statement as bytes (an INSERT's binary data may follow it). Out: `Statement`. Keep: pure; quotes, comments and heredocs hide keywords.
Grammar: ClickHouse's lexer (strings '…' with \ and doubled quotes; "…" and `…`; the curly quotes too; -- and // and # and nested /* */ comments; $tag$…$tag$).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

READING = frozenset({"SELECT", "FROM", "WITH", "SHOW", "DESCRIBE", "DESC", "EXISTS", "EXPLAIN", "CHECK", "USE", "("})

_TOKEN = re.compile(
    rb"""(?P<space>\s+|--[^\n]*|//[^\n]*|\#[!\ ][^\n]*)
       |(?P<comment>/\*)
       |(?P<heredoc>\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
       |(?P<text>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*"|`(?:[^`\\]|\\.|``)*`
                |\xe2\x80\x98.*?\xe2\x80\x99|\xe2\x80\x9c.*?\xe2\x80\x9d)
       |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
       |(?P<other>[0-9]+|.)""",
    re.DOTALL | re.VERBOSE,
)
VALUES_END = re.compile(rb"(?:\bFORMAT\s+)?\bVALUES\s*$", re.IGNORECASE)
_USER_EXACT = frozenset({b"currentUser", b"authenticatedUser", b"authUser"})  # these are case-sensitive (system.functions)
_USER = frozenset({b"user", b"current_user", b"session_user"})
_CALLS_USER = re.compile(rb"user\s*(?:/\*|--|\()", re.IGNORECASE)
_COMMENT = re.compile(rb"/\*|\*/")


class Token(NamedTuple):
    """A token that is not space: `kind` is word, text, heredoc or other (a sign, or digits: a list of many numbers is few tokens)."""

    kind: str
    value: bytes
    start: int
    end: int


def tokens(sql: bytes) -> Iterator[Token]:
    """Yield the tokens of `sql`, spaces and comments left out. Never raises: an open quote yields single characters."""
    at = 0
    while match := _TOKEN.match(sql, at):
        at = match.end()
        kind = match.lastgroup or "other"
        if kind == "comment":
            at = _comment_end(sql, at)
        elif kind != "space":
            yield Token("heredoc" if kind == "tag" else kind, match.group(), match.start(), at)


def _comment_end(sql: bytes, at: int) -> int:
    """Return where the comment ends that was opened before `at`: comments nest."""
    depth = 1
    for mark in _COMMENT.finditer(sql, at):
        depth += 1 if mark.group() == b"/*" else -1
        if not depth:
            return mark.end()
    return len(sql)


@dataclass(frozen=True, slots=True)
class Statement:
    """What routing needs.

    `kind`: first word, upper case. `format`: name after the last top-level FORMAT, or empty. `insert_data_at`: for an INSERT that takes data,
    where its data begins in the bytes, else -1. `clause_at`: where FROM INFILE belongs (before SETTINGS, FORMAT or VALUES), else -1.
    `has_values`: an INSERT … VALUES with the values in the statement itself. `input_at`: of an INSERT … SELECT … FROM input('structure') FORMAT …, where the
    function stands, from and to; `format_at`: where that FORMAT does. `outfile_at`: for a statement that reads, where INTO OUTFILE
    belongs (before FORMAT, else after the last token). `writes`: a WITH … INSERT. `has_totals`: WITH TOTALS stands somewhere in it.
    """

    kind: str
    format: str
    insert_data_at: int
    clause_at: int
    has_values: bool
    outfile_at: int = -1
    writes: bool = False
    has_totals: bool = False
    input_at: tuple[int, int] | None = None
    format_at: int = -1

    @property
    def reads(self) -> bool:
        """Whether it changes nothing: it may run by GET, be cancelled, and be run again."""
        return self.kind in READING and not self.writes

    @property
    def selects(self) -> bool:
        """Whether it is a query proper, whose answer the engine can give piece by piece."""
        return self.kind in {"SELECT", "FROM", "WITH", "("} and not self.writes


def refusal(sql: bytes) -> str:
    """Return why a statement that is no INSERT is not run, or an empty string: a second statement, or a file of the server's machine."""
    ended, last = False, ""
    for token in tokens(sql):
        if ended:
            return "Multi-statements are not allowed"
        word = _word(token)
        if (last, word) in {("INTO", "OUTFILE"), ("FROM", "INFILE")}:
            return f"{last} {word} is not allowed: it names a file of the server's machine"
        ended, last = token.value == b";", word
    return ""


def gives(sql: bytes, setting: bytes) -> bool:
    """Return whether a statement gives `setting` a value: in SET, or behind SETTINGS."""
    return setting in sql and any(a.value.strip(b'`"') == setting and b.value == b"=" for a, b in itertools.pairwise(tokens(sql)))


def _word(token: Token) -> str:
    return token.value.decode("ascii").upper() if token.kind == "word" else ""


def _name(token: Token) -> str:
    """Return the name that a token is, quoted or not, or an empty string."""
    if token.kind == "word":
        return token.value.decode()
    plain = token.value[1:-1]
    return plain.decode() if token.kind == "text" and token.value[:1] in {b'"', b"`"} and plain.isalnum() else ""


def _data_start(sql: bytes, end: int) -> int:
    """Return where data begins after the format's name: past blanks and one line end, as the server does."""
    while end < len(sql) and sql[end : end + 1] in {b" ", b"\t", b"\r"}:
        end += 1
    if sql[end : end + 1] == b";":
        end += 1
    return end + 1 if sql[end : end + 1] == b"\n" else end


def read(sql: bytes) -> Statement:
    """Return what routing needs to know of `sql`; for an INSERT reads no further than its FORMAT, so that data stays unread."""
    stream = tokens(sql)
    first = next(stream, None)
    if first is None:
        return Statement("", "", -1, -1, has_values=False)
    kind = _word(first) or first.value.decode("latin-1")
    if kind == "INSERT":
        return _read_insert(sql, stream)
    depth, name, expecting, format_at, end = int(kind == "("), "", False, -1, first.end
    words: set[str] = {kind}
    before: tuple[str | None, str] = (None, kind)
    for token in stream:
        if token.value in {b"(", b"["}:
            depth += 1
        elif token.value in {b")", b"]"}:
            depth -= 1
        word, behind = _word(token), before
        before = (behind[1], word)
        words.add(word)
        if expecting and (named := _name(token)):
            name, expecting = named, False
        elif word == "FORMAT" and depth == 0 and not _begins(*behind):
            expecting, format_at = True, token.start
        elif word == "SETTINGS" and name:
            break
        else:
            expecting = False
            if token.value != b";":  # more follows, so that FORMAT was a column's name or an alias
                name = ""
        end = end if token.value == b";" else token.end
    writes = kind in {"WITH", "("} and "INSERT" in words
    return Statement(kind, name, -1, -1, False, format_at if name else end, writes, "TOTALS" in words)


def _begins(before: str | None, word: str) -> bool:
    """Say whether an expression begins behind these two words (None: the start), so that FORMAT is a column's name there; `1 SELECT` is an alias."""
    return (word == "SELECT" and before in {None, "UNION", "ALL", "DISTINCT", "EXCEPT", "INTERSECT", "EXPLAIN"}) or (before, word) == ("SELECT", "DISTINCT")


def _read_insert(sql: bytes, stream: Iterator[Token]) -> Statement:  # noqa: C901 - a flat scanner: one branch a keyword
    depth, clause_at, expecting = 0, -1, False
    for token in stream:
        if token.value in {b"(", b"["}:
            depth += 1
            continue
        if token.value in {b")", b"]"}:
            depth -= 1
            continue
        if depth:
            continue
        word = _word(token)
        if expecting:
            if named := _name(token):
                return Statement("INSERT", named, _data_start(sql, token.end), clause_at, has_values=False)
            expecting = False
        if word in {"SELECT", "WITH", "WATCH", "FROM"}:
            return _read_insert_select(sql, stream)
        if word == "SETTINGS" and clause_at < 0:
            clause_at = token.start
        elif word == "FORMAT":
            clause_at = token.start if clause_at < 0 else clause_at
            expecting = True
        elif word == "VALUES":
            start = token.end
            values_inside = bool(sql[start:].strip(b"; \t\r\n"))
            return Statement("INSERT", "Values", start, token.start if clause_at < 0 else clause_at, has_values=values_inside)
    return Statement("INSERT", "", -1, len(sql) if clause_at < 0 else clause_at, has_values=False)


def _read_insert_select(sql: bytes, stream: Iterator[Token]) -> Statement:
    """Read an INSERT from its SELECT on: with `input('structure')` in it, data follows its FORMAT (ClickHouse, sql-reference/table-functions/input)."""
    depth, at, before = 0, None, None
    last: list[Token] = []
    for token in stream:
        last = [*last[-3:], token]
        if [t.value.lower() for t in last[:2]] == [b"input", b"("] and last[0].kind == "word" and len(last) == 4 and last[2].kind in {"text", "heredoc"} and token.value == b")":  # noqa: PLR2004 - input ( 'structure' )
            at = (last[0].start, token.end)
        depth += {b"(": 1, b"[": 1, b")": -1, b"]": -1}.get(token.value, 0)
        if at and depth == 0 and before is not None and _word(before) == "FORMAT" and (named := _name(token)):
            return Statement("INSERT", named, _data_start(sql, token.end), -1, has_values=False, input_at=at, format_at=before.start)
        before = token
    return Statement("INSERT", "", -1, -1, has_values=False)


def from_table(sql: bytes, statement: Statement, table: bytes) -> tuple[bytes, bytes]:
    """Return an INSERT that has `input('structure')`, with `table` in its place and without FORMAT and data, and the literal of the structure. Pure."""
    start, end = statement.input_at or (0, 0)
    structure = list(tokens(sql[start:end]))[2].value
    return sql[:start] + table + sql[end : statement.format_at], structure


def from_file(sql: bytes, statement: Statement, path: str) -> bytes:
    """Return the INSERT with its data taken from the file at `path` (an own, quote-free name)."""
    head, tail = sql[: statement.clause_at], sql[statement.clause_at : statement.insert_data_at if statement.insert_data_at >= 0 else None]
    clause = f" FROM INFILE '{path}' COMPRESSION 'none' ".encode()
    if statement.format == "Values":
        tail = VALUES_END.sub(b"FORMAT Values", tail)
    return head.rstrip() + clause + tail


def to_file(sql: bytes, statement: Statement, path: str, output: str) -> bytes:
    """Return the query with its answer written to the file at `path` (an own, quote-free name) in format `output`."""
    head, tail = sql[: statement.outfile_at], sql[statement.outfile_at :]
    clause = f" INTO OUTFILE '{path}' ".encode()
    return head + clause + (tail if statement.format else f"FORMAT {output} ".encode() + tail)


def rewrite_kill(sql: bytes, client_id: bytes) -> bytes:
    """Return a KILL QUERY whose query_id is the expression `client_id`, which gives the id that the client chose.

    Only the name itself is replaced, where the lexer sees a name: never inside literals, comments or quoted names of something else.
    """
    if [_word(t) for t in itertools.islice(tokens(sql), 2)] != ["KILL", "QUERY"]:
        return sql
    parts, at = [], 0
    for before, token in itertools.pairwise(tokens(sql)):
        if token.value in {b"query_id", b"`query_id`", b'"query_id"'} and before.value != b".":
            parts += [sql[at : token.start], client_id]
            at = token.end
    return b"".join([*parts, sql[at:]])


def rewrite_user(sql: bytes, name: bytes) -> bytes:
    """Return a statement with each call of `currentUser()`, by any of its names, as the expression `name`, under the name that its column would have.

    Only where the lexer sees a function's name with its empty parentheses: never inside literals, comments or quoted names.
    """
    if not _CALLS_USER.search(sql):
        return sql
    found, parts, at = list(tokens(sql)), [], 0  # type: list[Token], list[bytes], int
    selecting = not found or _word(found[0]) not in {"CREATE", "REPLACE", "ALTER"}  # a column's default may have no name in it
    for before, token, opened, closed in zip([Token("other", b"", 0, 0), *found], found, found[1:], found[2:], strict=False):
        if token.kind == "word" and (opened.value, closed.value) == (b"(", b")") and before.value != b"." and (token.value in _USER_EXACT or token.value.lower() in _USER):
            parts += [sql[at : token.start], b"(%b AS `%b()`)" % (name, token.value) if selecting else b"(%b)" % name]
            at = closed.end
        selecting = selecting or _word(token) == "SELECT"
    return b"".join([*parts, sql[at:]])


def set_names(sql: bytes) -> frozenset[str]:
    """Return the names that a SET statement sets; empty for anything else."""
    first = next(tokens(sql), None)
    if first is None or _word(first) != "SET":
        return frozenset()
    return frozenset(a.value.decode() for a, b in itertools.pairwise(tokens(sql)) if a.kind == "word" and b.value == b"=")

"""The one tree of errors.

Each class is something a caller can do differently. Retry asks the mark (`Transient` or `Terminal`), never the text.
Messages say what failed, of what, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class WeirError(Exception):
    """Root of every error raised on purpose.

    Args:
        message: what failed, of what.
        hint: what the reader can do about it; shown after the message.
        facts: values a caller or log may use (never row values).
    """

    def __init__(self, message: str, *, hint: str = "", **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.facts = facts

    def __str__(self) -> str:
        return f"{self.message}{' ' if self.message.endswith(('.', '?', '!', ';')) else '. '}{self.hint}" if self.hint else self.message


class Transient(WeirError):
    """May succeed when tried again unchanged (a timeout, a refused connection, a busy server)."""


class Terminal(WeirError):
    """Will fail again unchanged: the caller or the operator has to change something."""


class SettingsError(Terminal):
    """A settings file or environment variable is wrong; names the key."""


class UnknownName(Terminal):
    """A name that the user gave is not one of those that there are; the hint names them, the nearest first."""

    @classmethod
    def of(cls, kind: str, given: str, known: Iterable[str], more: str = "") -> UnknownName:
        """Return the error for `given`, which is no `kind` of `known`; `more` ends the hint."""
        names = list(known)
        near = difflib.get_close_matches(given, names, 1)
        return cls(f"no {kind} {given!r}", hint=f"{f'Did you mean {near[0]}? ' if near else ''}There are {', '.join(names)}{more}", given=given)


class DiskFull(Terminal):
    """There is too little room on a disk: that of WEIR_HOME, or ClickHouse's."""


class MissingTool(Terminal):
    """Something the machine must have is not there; the hint says how to get it."""


class PortTaken(Terminal):
    """A port that Weir needs is in use by another process."""


class ServiceFailed(Terminal):
    """A supervised service did not become ready or died at start."""


class Unavailable(Transient):
    """A service did not answer, or answered that it is busy."""


class NotBegun(Unavailable):
    """A service was busy and has done nothing of what it was asked."""


class NotYet(Transient):
    """What is asked for is still to be made by another part (a mart before its first build): wait, without alarm."""


class ContractViolation(Terminal):
    """Data or a setting differs from what a contract states; processing on would be unsafe."""


class Fenced(Terminal):
    """The process is no longer the owner (its group generation is over); it must drop its work and rejoin."""


class Undecided(WeirError):
    """A check could not be carried out. Never a pass: the verdict is unknown."""

"""How a command ends: an exit code, and for every failure one line that says what happened, to what, and what to do. No traceback meets a user.

In: a command to call. Out: its exit code (0 done, 1 failed, 2 used wrongly, 130 stopped). Keep: what nobody foresaw leaves its traceback in a file,
whose path the line tells.
"""

from __future__ import annotations

import errno
import inspect
import logging
import os
import re
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape

from weir.errors import Transient, Undecided, WeirError
from weir.stack import gone, usual

err = Console(stderr=True, highlight=False)
USED_WRONGLY: type[Exception] = typer.BadParameter.__mro__[2]  # click's ClickException, which typer brings along and does not name
UNKNOWN = 2
STOPPED = 130
REPORT_S = 2.0
STILL_S = 10.0
PIPED_COLUMNS = 250  # tables are cut to the width, which a pipe has none of
FULL = {errno.ENOSPC, errno.EDQUOT}
FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


BLAMES = re.compile(r"\./weir (?:logs (\w+)|status)|is the stack up")  # a hint that sends the reader to one service
DOWN = "the stack is down: ./weir up starts it"


def tell(error: WeirError) -> None:
    """Print the error's one line, however narrow the terminal and however many lines a server's message had."""
    err.print(f"weir: {line(error)}", markup=False, soft_wrap=True)


def line(error: WeirError) -> str:
    """Return the error's one line; what blames a service for not answering, when the whole stack is down or the service is external, says that instead."""
    text, blames = str(error), BLAMES.search(error.hint)
    if isinstance(error, Transient | Undecided) and blames and (cause := cause_of_silence(blames[1] or "")):
        text = f"{error.message.split(': ')[0]}: {cause}"
    return " ".join(text.split())


def cause_of_silence(service: str = "") -> str:
    """Return why a service may not answer that its log cannot tell: it is external, or no supervisor of this home runs; else nothing."""
    from weir.stack import external, settings, supervision

    try:
        found = settings.load()
    except WeirError:
        return ""
    if service in found.external:
        return f"it is external: ./weir status tells whether it answers; start it, or correct {external.KEYS[service]} in weir.toml"
    return "" if supervision.Control(found.home).alive() else DOWN


def _quiet_driver() -> None:
    """Keep the driver's own lines off the screen: what they tell is told by the error that it raises."""
    logging.getLogger("clickhouse_connect").addHandler(logging.NullHandler())


@contextmanager
def verdict() -> Iterator[None]:
    """Have a command whose exit code is a verdict (0 yes, 1 no, 2 unknown) end with 2 when it could not be told: an outage is no fault that was found."""
    try:
        yield
    except WeirError as error:
        tell(error)
        raise typer.Exit(UNKNOWN) from error


def teller(line: Callable[[Any], str]) -> Callable[[Any], None]:
    """Return what prints a line of progress on standard error, at most every REPORT_S seconds."""
    return usual.sparing(lambda at: err.print(f"  {line(at)}", markup=False, soft_wrap=True), REPORT_S)


def still(what: str, every_s: float = STILL_S) -> AbstractContextManager[None]:
    """Say now and then that `what` goes on, while it tells nothing itself."""
    return usual.now_and_then(lambda seconds: _still(what, usual.so_far(seconds, None)), every_s)


def usually(home: Path, name: str, what: str, every_s: float = STILL_S) -> AbstractContextManager[usual.Phase]:
    """Say the same, with the time to go by what `name` took the last time in this home."""
    return usual.phase(home, name, lambda line: _still(what, line), every_s)


def _still(what: str, line: str) -> None:
    err.print(f"  {what}, {line}", markup=False, soft_wrap=True)


def console() -> Console:
    """Return where results go: as wide as the terminal, and wide enough for every table where there is none."""
    return Console(highlight=False, width=None if sys.stdout.isatty() or os.environ.get("COLUMNS") else PIPED_COLUMNS)


def report(name: str, what: str) -> None:
    """Print what happens to a service."""
    err.print(f"  [bold]{name:<11}[/] {escape(what)}", soft_wrap=True)  # `what` may quote a log, brackets and all


def usage(error: Exception) -> str:
    """Return one line about a command that was used wrongly, with the help that shows how. Pure."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "./weir"
    message = " ".join(str(getattr(error, "format_message", lambda: str(error))()).split())
    return f"{message}{'' if message.endswith(('.', '?')) else '.'} {command} --help shows how, with examples"


def of_system(error: OSError) -> str:
    """Return one line about a refusal by the operating system. Pure."""
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in FULL:
        return f"no room is left on the disk{where}. Free some, ./weir clean deletes an old stack's data, or set WEIR_HOME to a larger disk"
    if error.errno in FORBIDDEN:
        return f"not allowed: {error.strerror}{where}. See that WEIR_HOME and what is in it is yours, or set WEIR_HOME to a folder that you own"
    return f"{error.strerror or error}{where}. ./weir doctor shows what is missing on this machine"


def unforeseen(error: Exception) -> str:
    """Return one line about an error that nobody foresaw; its traceback goes to a file."""
    text = "".join(traceback.format_exception(error))
    path = Path(os.environ.get("WEIR_HOME") or tempfile.gettempdir()) / "logs" / "unforeseen.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError:
        descriptor, name = tempfile.mkstemp(prefix="weir-", suffix=".log")
        os.write(descriptor, text.encode())
        os.close(descriptor)
        path = Path(name)
    said = " ".join(str(error).split())[:200]
    return f"something that nobody foresaw: {type(error).__name__}{f': {said}' if said else ''}. Please report it with {path}"


def run_app(command: Callable[..., object]) -> int:
    """Run the typer application; return its exit code."""
    _quiet_driver()
    try:
        code = command(standalone_mode=False, prog_name="./weir")
    except WeirError as error:
        tell(error)
        return 1
    except (KeyboardInterrupt, typer.Abort):
        code = STOPPED
    except BrokenPipeError:  # the reader (head, less) has gone: not our failure
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        err.print(f"weir: {of_system(error)}", markup=False, soft_wrap=True)
        return 1
    except USED_WRONGLY as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()  # type: ignore[attr-defined]  # (click) prints the help
        else:
            err.print(f"weir: {usage(error)}", markup=False, soft_wrap=True)
        return 2
    except Exception as error:  # noqa: BLE001 - the last resort before a user would see a traceback
        err.print(f"weir: {unforeseen(error)}", markup=False, soft_wrap=True)
        return 1
    if code == STOPPED:
        err.print("weir: stopped")
    return code if isinstance(code, int) else 0


def fold_helps(app: typer.Typer) -> None:
    """Have the helps of an application's commands told in whole paragraphs: typer keeps the line ends of all but the first."""
    for command in app.registered_commands:
        command.help = re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.cleandoc(command.help or (command.callback and command.callback.__doc__) or ""))
    for group in app.registered_groups:
        if group.typer_instance:
            fold_helps(group.typer_instance)


def _stop(number: int, _frame: FrameType | None) -> None:
    if number == signal.SIGHUP:  # the terminal is gone: what is said from here on, while all is ended, would fail
        gone.let_go()
    raise KeyboardInterrupt


def end_politely() -> None:
    """Have SIGTERM, and a terminal that is closed (SIGHUP, unless it is ignored as under nohup), end a command as Ctrl-C does: with what it started (`./weir test` but for the tests that run, which the same signal ends)."""
    signal.signal(signal.SIGTERM, _stop)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _stop)

"""What the story shows while it runs: on a terminal a live table of the path with the step below it; elsewhere plain lines, so that a log stays readable.

In: the story's steps, a function that asks for the report. Out: the console. Keep: the asking never holds the story up, and takes at most a quarter
of the time; a terminal is left as it was found, Ctrl-C included.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner

from weir.quality import terminal
from weir.quality.judge import Report
from weir.stack import usual

ASK_EVERY_S = 2.0
LINE_EVERY_S = 5.0


class Line(Protocol):
    """Where a step tells how far it is."""

    def update(self, text: str) -> None:
        """Show `text` as the newest."""


class Screen:
    """The console of one story; a context manager, between whose ends the table lives."""

    def __init__(self, console: Console, ask: Callable[[], Report], clock: Callable[[], float] = time.monotonic, every_s: float = LINE_EVERY_S) -> None:
        self.console, self._ask, self._clock, self._every_s = console, ask, clock, every_s
        self._reports: tuple[Report | None, Report | None] = (None, None)
        self._spinner = Spinner("dots", "")
        self._text = ""
        self._last_s: float | None = None
        self._own = False  # whether the step has told something itself
        self._told_at = self._began_at = clock()
        self._ended = threading.Event()
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=4, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
            threading.Thread(target=self._follow, name="screen", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._live is not None:
            self._live.stop()

    def print(self, text: str) -> None:
        """Print a line that stays (above the live table)."""
        self.console.print(text, markup=False)

    @contextmanager
    def step(self, name: str, last_s: float | None = None) -> Iterator[Line]:
        """Show a step while it runs: what runs, and for how long; while it tells nothing itself, also how long it has to go, when it took `last_s` the last time."""
        self._told_at = self._began_at = self._clock()
        self.update(f"{name} …", plain=False)
        self._last_s = last_s
        ended = threading.Event()
        if self._live is None:
            threading.Thread(target=self._say_so, args=(name, ended, last_s), name="step", daemon=True).start()
        try:
            yield self
        finally:
            ended.set()
            self._text = ""

    def _say_so(self, name: str, ended: threading.Event, last_s: float | None) -> None:
        """Tell where there is no terminal that a step still runs, and the newest that it told itself, whenever nothing was told for a while."""
        while not ended.wait(self._every_s):
            now = self._clock()
            if now - self._told_at >= self._every_s:
                self._told_at = now
                seconds = now - self._began_at
                told = f"{self._text} · {usual.so_far(seconds, None)}" if self._own else f"{name}: {usual.so_far(seconds, last_s)}"
                self.console.print(f"    {told}", markup=False, soft_wrap=True)

    def update(self, text: str, *, plain: bool = True) -> None:
        """Show how far the step is: at once on a terminal, else as a line each LINE_EVERY_S."""
        self._text, self._last_s, self._own = text, None, plain
        now = self._clock()
        if self._live is None and plain and now - self._told_at >= self._every_s:
            self._told_at = now
            self.console.print(f"    {text}", markup=False, soft_wrap=True)

    def _follow(self) -> None:
        while not self._ended.is_set():
            began = time.monotonic()
            self._reports = (self._reports[1], self._ask())
            self._ended.wait(max(ASK_EVERY_S, 3 * (time.monotonic() - began)))

    def _render(self) -> RenderableType:
        before, now = self._reports
        parts: list[RenderableType] = []
        if now is not None:
            parts += ["", terminal.tables(before, now)]
        if self._text:
            seconds = self._clock() - self._began_at
            self._spinner.update(text=f"{self._text} · {usual.so_far(seconds, self._last_s) if self._last_s else f'{seconds:.0f} s'}")
            parts.append(self._spinner)
        return Group(*parts)

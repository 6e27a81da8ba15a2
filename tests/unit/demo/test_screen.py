"""What a log gets where there is no terminal, and that a terminal is left as it was found."""
import io
import re
import threading

import pytest
from rich.console import Console

from weir.demo.screen import LINE_EVERY_S, Screen
from weir.quality.judge import judge


def _report():
    return judge((), (), (), None, cdc_topics={}, now_ms=1)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_log_gets_a_line_of_progress_now_and_then_and_no_control_characters():
    out, clock = io.StringIO(), Clock()
    asked = []
    with Screen(Console(file=out, width=40), lambda: asked.append(1), clock) as screen, screen.step("load") as line:
        line.update("10/s · 9 s to go")
        clock.now = LINE_EVERY_S
        line.update("20/s · a line that is much longer than the width of a log · 8 s to go")
        line.update("30/s · 7 s to go")
        screen.print("done [3]")
    assert out.getvalue().splitlines() == ["    20/s · a line that is much longer than the width of a log · 8 s to go", "done [3]"]
    assert asked == []


def test_a_step_that_tells_nothing_is_told_with_its_seconds():
    out, said = io.StringIO(), threading.Event()

    class Watched(Console):
        def print(self, *given, **named):
            super().print(*given, **named)
            said.set()

    with Screen(Watched(file=out, width=140), _report, every_s=0.01) as screen, screen.step("train and register"):
        assert said.wait(10)
    assert re.match(r"    train and register: \d+ s so far\n", out.getvalue())


def test_a_step_that_tells_nothing_is_told_with_its_time_to_go_by_the_last_time():
    out, said = io.StringIO(), threading.Event()

    class Watched(Console):
        def print(self, *given, **named):
            super().print(*given, **named)
            said.set()

    with Screen(Watched(file=out, width=140), _report, every_s=0.01) as screen, screen.step("feast apply", 90):
        assert said.wait(10)
    assert re.match(r"    feast apply: 0 s so far, about 90 s to go \(as the last time\)\n", out.getvalue())


def test_in_a_log_the_newest_that_a_step_told_is_told_again_when_it_tells_no_more():
    out, said, clock = io.StringIO(), threading.Event(), Clock()

    class Watched(Console):
        def print(self, *given, **named):
            super().print(*given, **named)
            said.set()

    with Screen(Watched(file=out, width=140), _report, clock, every_s=0.01) as screen:
        clock.now = -1
        with screen.step("dbt build", 90) as line:
            screen._told_at = 5
            line.update("3 of 4 nodes")
            clock.now = 6
            assert said.wait(10)
    assert out.getvalue() == "    3 of 4 nodes · 7 s so far\n"


def test_on_a_terminal_a_step_tells_its_time_to_go_by_the_last_time_until_it_tells_its_own():
    clock = Clock()
    screen = Screen(Console(file=io.StringIO(), width=140, force_terminal=True), _report, clock)
    with screen.step("feast apply", 90) as line:
        clock.now = 30
        screen._render()
        assert screen._spinner.text.plain == "feast apply … · 30 s so far, about 60 s to go (as the last time)"
        line.update("3 of 4")
        screen._render()
        assert screen._spinner.text.plain == "3 of 4 · 30 s"


def test_a_terminal_shows_the_table_and_the_step_and_gets_its_cursor_back():
    out = io.StringIO()
    console = Console(file=out, width=140, force_terminal=True)

    def interrupted_story():
        with Screen(console, _report) as screen, screen.step("load") as line:
            line.update("20/s · 8 s to go")
            for _ in range(200):
                if screen._reports[1] is not None:
                    break
                screen._ended.wait(0.02)
            screen._live.refresh()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted_story()
    text = out.getvalue()
    assert re.search(r"20/s · 8 s to go · \d+ s", text)
    assert "feature → served" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")

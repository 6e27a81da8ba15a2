"""One dbt process for builds that follow each other, which pays for its imports and for parsing the project once.

In: environment and arguments of each run. Out: how many nodes are done, then dbt's exit code and what it said. Keep: a run past its time ends the process; the next run starts another.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from weir.transform import build

END_S: Final = 10.0


class Session:
    """A context manager; `run` is a `weir.transform.build.Dbt`. The process (`weir.transform.host`) starts with the first run."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._process: subprocess.Popen[str] | None = None
        self._broken = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`; what a process says that cannot start, or dies

    def run(self, env: Mapping[str, str], arguments: Sequence[str], report: Callable[[int, int], None] = lambda _done, _total: None) -> build.Ran:
        """Run dbt. `report` is given the nodes that are done, and how many there are. Whatever ends the wait for it ends its process first, as `subprocess.run` does.

        Raises:
            subprocess.TimeoutExpired: it did not end within build.TIMEOUT_S.
        """
        process = self._process = self._process or subprocess.Popen([sys.executable, "-P", "-m", "weir.transform.host"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                                                    stderr=self._broken, text=True, cwd=build.ROOT)
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(build.TIMEOUT_S, end)
        timer.daemon = True
        try:
            timer.start()
            answer = _asked(process, json.dumps({"environment": dict(env), "arguments": list(arguments)}))
            while answer and "code" not in (told := json.loads(answer)):
                report(told["done"], told["total"])
                answer = _next(process)
        except BaseException:
            self._end()
            raise
        finally:
            timer.cancel()
        if late.is_set():
            self._end()
            raise subprocess.TimeoutExpired("dbt", build.TIMEOUT_S)
        if not answer:
            code = self._end()
            self._broken.seek(0)
            return code, self._broken.read().decode(errors="replace")
        return int(told["code"]), str(told["said"])

    def _end(self) -> int:
        """Kill the process; return its exit code."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.kill()
        code = process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                with suppress(OSError):  # what it was never given
                    pipe.close()
        return code

    def close(self) -> None:
        """End the process, which is idle between two runs, in END_S at most."""
        try:
            if self._process and self._process.stdin:
                self._process.stdin.close()
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(END_S)
        finally:
            self._end()
            self._broken.close()

    def __enter__(self) -> Self:
        """Return the session."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """End its process."""
        self.close()


def _asked(process: subprocess.Popen[str], line: str) -> str:
    """Return the first line of the answer; empty when the process has ended."""
    if process.stdin is None:
        return ""
    with suppress(BrokenPipeError):
        process.stdin.write(f"{line}\n")
        process.stdin.flush()
        return _next(process)
    return ""


def _next(process: subprocess.Popen[str]) -> str:
    """Return a whole line; empty when the process has ended."""
    answer = process.stdout.readline() if process.stdout else ""
    return answer if answer.endswith("\n") else ""

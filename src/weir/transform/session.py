"""One dbt process for builds that follow each other, which pays for its imports and for parsing the project once.

In: environment and arguments of each run. Out: dbt's exit code and what it said. Keep: a run past its time ends the process; the next run starts another.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
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

    def run(self, env: Mapping[str, str], arguments: Sequence[str]) -> build.Ran:
        """Run dbt.

        Raises:
            subprocess.TimeoutExpired: it did not end within build.TIMEOUT_S.
        """
        process = self._process = self._process or subprocess.Popen([sys.executable, "-P", "-m", "weir.transform.host"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                                                    cwd=build.ROOT)
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(build.TIMEOUT_S, end)
        timer.start()
        try:
            answer = _asked(process, json.dumps({"environment": dict(env), "arguments": list(arguments)}))
        finally:
            timer.cancel()
        if not answer:
            self.close()
            if late.is_set():
                raise subprocess.TimeoutExpired("dbt", build.TIMEOUT_S)
            return process.returncode, ""
        told = json.loads(answer)
        return int(told["code"]), str(told["said"])

    def close(self) -> None:
        """End the process, in END_S at most."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=END_S)
        process.kill()
        process.wait()

    def __enter__(self) -> Self:
        """Return the session."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """End its process."""
        self.close()


def _asked(process: subprocess.Popen[str], line: str) -> str:
    """Return the answer; empty when the process has ended."""
    if process.stdin is None or process.stdout is None:
        return ""
    with suppress(BrokenPipeError):
        process.stdin.write(f"{line}\n")
        process.stdin.flush()
        return process.stdout.readline()
    return ""

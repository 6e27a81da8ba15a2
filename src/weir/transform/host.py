"""A process that runs dbt again and again (dbt's programmatic invocations, https://docs.getdbt.com/reference/programmatic-invocations).

In: a JSON line for each run, its environment and arguments. Out: a JSON line for each node that is done, then one with dbt's exit code and what it said. Keep: what was parsed is used again only for the
same files, variables and environment of the project, without what a run has compiled into it; everything else is as in a process of its own.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

FAILED: Final = 1  # dbt's exit code where a node failed
BROKE: Final = 2  # and where it could not run
Stamp = tuple[tuple[str, int, int], ...]


def stamp(project: Path) -> Stamp:
    """Return path, time of change (ns) and size (bytes) of every file of a project."""
    found = ((path, path.lstat()) for folder, _, files in os.walk(project) for path in (Path(folder, name) for name in files))
    return tuple(sorted((str(path), s.st_mtime_ns, s.st_size) for path, s in found))


def _uncompiled(node: Any) -> None:
    """Take from a node what a run compiled into it: dbt puts no ephemeral model's CTE into one that says it has them (dbt.compilation, _recursively_prepend_ctes)."""
    if hasattr(node, "extra_ctes_injected"):
        node.compiled, node.compiled_code, node.extra_ctes_injected, node.extra_ctes = False, None, False, []


class Parsed:
    """The project as it was parsed last."""

    def __init__(self) -> None:
        """Start with none."""
        self._done: Any = None
        self._of: Stamp = ()

    def of(self, runner: Callable[[Any], Any], environment: Mapping[str, str]) -> Any:
        """Return dbt's result of parsing the project, its manifest where that went well: anew when a file or a variable that parsing read has changed, written where the environment says."""
        from dbt.constants import DEFAULT_ENV_PLACEHOLDER  # what dbt notes of a variable that is not set

        files, into = stamp(Path(environment["DBT_PROJECT_DIR"])), Path(environment["DBT_TARGET_PATH"]) / "manifest.json"
        done = self._done
        if done is None or not done.success or files != self._of or any(environment.get(k, DEFAULT_ENV_PLACEHOLDER) != v for k, v in done.result.env_vars.items()):
            self._done, self._of = runner(None).invoke(["--quiet", "parse"]), files
        else:
            for node in done.result.nodes.values():
                _uncompiled(node)
            if not into.exists():
                done.result.write(str(into))
        return self._done


class Nodes:
    """Counts by dbt's events (https://docs.getdbt.com/reference/events-logging) the nodes that are done; `tell` is given how many, of how many."""

    def __init__(self, tell: Callable[[int, int], None]) -> None:
        """Begin a run."""
        self._tell, self._done, self._total = tell, 0, 0
        self._turn = threading.Lock()  # each of dbt's threads calls

    def heard(self, event: Any) -> None:
        """Take an event: a node that begins is told with the number of all. What cannot be told is no trouble of dbt's."""
        with self._turn:
            if event.info.name == "LogStartLine":
                self._total = event.data.total
            elif event.info.name == "NodeFinished" and self._total:
                self._done += 1
                with suppress(OSError):
                    self._tell(min(self._done, self._total), self._total)


def run(parsed: Parsed, environment: Mapping[str, str], arguments: Sequence[str], tell: Callable[[int, int], None]) -> int:
    """Run dbt in this process; return its exit code, with all that it says on the descriptors 1 and 2. `tell` is given the nodes done, and how many there are."""
    from dbt.cli.main import dbtRunner

    os.environ.clear()
    os.environ.update(environment)
    done = parsed.of(dbtRunner, environment) if "--vars" not in arguments else None  # names of models depend on variables
    if done is None or done.success:
        done = dbtRunner(done and done.result, callbacks=[Nodes(tell).heard]).invoke(list(arguments))
    if done.exception is not None:
        sys.stdout.write(f"{done.exception}\n")
    sys.stdout.flush()
    return 0 if done.success else BROKE if done.exception is not None else FAILED


def main() -> None:
    """Answer each line of standard input; what dbt says goes with the answer. Ctrl-C ends a run, as it does dbt's own; between two it is the asker's."""
    parsed = Parsed()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    own = os.dup(2)
    with os.fdopen(os.dup(1), "w") as answers:

        def answer(told: dict[str, Any]) -> None:
            answers.write(json.dumps(told) + "\n")
            answers.flush()

        for line in sys.stdin:
            asked = json.loads(line)
            with tempfile.TemporaryFile() as said:
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                code = run(parsed, asked["environment"], asked["arguments"], lambda done, total: answer({"done": done, "total": total}))
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                os.dup2(own, 2)
                said.seek(0)
                answer({"code": code, "said": said.read().decode(errors="replace")})


if __name__ == "__main__":
    main()

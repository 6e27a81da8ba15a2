"""The services that `./weir bench ingest` measures, as children of the benchmark; and what a process has used.

In: the environment of a home and ports of its own. Out: each service that the path needs, ready. Keep: `down` ends them all.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from startup import own_home

from weir.errors import WeirError

NEEDED = ("kafka", "clickhouse", "otlp")


@dataclass
class Stack:
    """The services the path needs, as children of this process."""

    home: Path
    env: dict[str, str]
    children: dict[str, psutil.Popen] = field(default_factory=dict)

    def up(self) -> None:
        """Start them by the commands of the product and wait until each answers."""
        from weir.connect import register
        from weir.ingest import schema
        from weir.stack import probe, services, settings

        found = settings.load(self.env)
        for spec in services.build(found):
            if spec.name in NEEDED and spec.prepare is not None:
                spec.prepare()
        for spec in services.build(found):
            if spec.name not in NEEDED:
                continue
            if spec.first is not None:
                spec.first()
            self.env |= services.environment(found)
            log = (self.home / f"{spec.name}.log").open("w")
            self.children[spec.name] = psutil.Popen(list(spec.command.argv), env={**self.env, **spec.command.env}, stdout=log, stderr=log, cwd=spec.command.cwd)
            deadline = time.monotonic() + spec.slow_s
            while not probe.ready(spec.probe, 0.5):
                if time.monotonic() > deadline or self.children[spec.name].poll() is not None:
                    raise SystemExit(f"{spec.name} did not become ready: see {log.name}")
                time.sleep(0.1)
            if spec.name == "kafka":
                register.ensure_topics(found.endpoints)
            if spec.name == "clickhouse":
                schema.apply(found.endpoints.clickhouse_url)

    def down(self) -> None:
        """End them, the newest first."""
        for child in reversed(list(self.children.values())):
            try:
                child.terminate()
                child.wait(25)
            except psutil.NoSuchProcess:
                continue
            except psutil.TimeoutExpired:
                child.kill()


def report_on_own_stack(name: str, port_shift: int, measure: Callable[[Stack], dict[str, Any]]) -> None:
    """Measure on services of the benchmark's own, print the document, and leave nothing behind."""
    home, env = own_home(name, port_shift)
    stack = Stack(home, env)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the services are ended too
    try:
        document = measure(stack)
    except WeirError as error:
        raise SystemExit(str(error)) from error
    finally:
        stack.down()
        shutil.rmtree(home, ignore_errors=True)
    print(json.dumps(document, indent=2))


def cpu_s(pid: int) -> float:
    """Return user and system seconds of a process (/proc/PID/stat fields 14 and 15)."""
    text = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(text[11]) + int(text[12])) / os.sysconf("SC_CLK_TCK")


def peak_mib(pid: int) -> int:
    """Return the highest resident memory so far, in MiB (VmHWM)."""
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found.group(1)) // 1024 if found else 0

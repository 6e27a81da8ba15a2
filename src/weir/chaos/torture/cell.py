"""A stack of its own for torture: Kafka and the gateway as children of this process, workers one by one.

In: settings of a state folder and ports that nobody else has. Out: running processes. Keep: what was started ends with this process, also when that is killed; the gateway and the
workers run by the commands of the product, so what is killed is what is shipped; nobody listens to their telemetry.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from weir.connect import register
from weir.errors import PortTaken, ServiceFailed
from weir.ingest import schema
from weir.ingest.kafka_log import SESSION_VARIABLE
from weir.stack import child, lifecycle, probe, services
from weir.stack.services import ServiceSpec
from weir.stack.settings import StackSettings

NEEDED: Final = ("kafka", "clickhouse")
FIRST_WORKER: Final = 13  # ports above the services': a health port each
SESSION_MS: Final = 3000  # for 10,000: a killed worker's partitions are free sooner, so that more kills fit in a minute
END_S: Final = 25.0
VIEWS: Final = ("int_user_events", "int_item_events", "int_active_users")  # what dbt feeds from the landing table of events

Process = subprocess.Popen[bytes]


@dataclass
class Cell:
    """The processes. `up` first; `down` always."""

    settings: StackSettings
    running: dict[str, Process] = field(default_factory=dict)
    workers: list[Process] = field(default_factory=list)
    _gateway: threading.Lock = field(default_factory=threading.Lock)
    _starter: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "starter"))  # a child's death signal comes when the thread that started it ends (prctl(2))

    def up(self) -> None:
        """Start Kafka and the gateway, and make topics, tables and views.

        Raises:
            PortTaken: somebody listens there. ServiceFailed: one did not become ready, or dbt failed.
        """
        from weir.transform import build

        specs = self._specs()
        for spec in specs.values():
            for port in lifecycle.ports(spec):
                if probe.port_taken(f"127.0.0.1:{port}"):
                    raise PortTaken(f"{spec.name}'s port {port} is taken by {probe.holder(port)}", hint="set WEIR_PORT_BASE to another free range", port=port)
            for act in (spec.prepare, spec.first):
                if act is not None:
                    act()
        for spec in self._specs().values():  # again: a class path is known only once its jars are there
            self._start(spec)
        register.ensure_topics(self.settings.endpoints)
        schema.apply(self.settings.endpoints.clickhouse_url)
        build.build({**os.environ, **services.environment(self.settings)}, ["--select", *VIEWS, "--resource-type", "model"])

    def _specs(self) -> dict[str, ServiceSpec]:
        return {s.name: s for s in services.build(self.settings) if s.name in NEEDED}

    def _start(self, spec: ServiceSpec) -> None:
        self.running[spec.name] = process = self._spawn(spec.name, list(spec.command.argv), spec.command.env, spec.command.cwd)
        deadline = time.monotonic() + spec.slow_s
        while not probe.ready(spec.probe, 0.5):
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServiceFailed(f"{spec.name} did not become ready", hint=f"its log is {services.log_path(self.settings.home, spec.name)}", service=spec.name)
            time.sleep(0.05)

    def _spawn(self, name: str, argv: list[str], env: Mapping[str, str], cwd: Path | None) -> Process:
        log = services.log_path(self.settings.home, name)
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-I", str(Path(child.__file__)), "-", "SIGKILL", "--", *argv]

        def start() -> Process:
            with log.open("ab") as file:
                return subprocess.Popen(command, env={**os.environ, **env}, stdout=file, stderr=file, stdin=subprocess.DEVNULL, cwd=cwd, start_new_session=True)

        return self._starter.submit(start).result()

    def worker(self, slot: int, more: Mapping[str, str]) -> Process:
        """Start an ingest worker; `more` is its hooks' environment."""
        env = {**services.environment(self.settings, "ingest"), SESSION_VARIABLE: str(SESSION_MS),
               "WEIR_INGEST_URL": f"http://127.0.0.1:{self.settings.port_base + FIRST_WORKER + slot}", **more}
        process = self._spawn(f"worker-{slot}", [sys.executable, "-m", "weir.ingest"], env, self.settings.root)
        self.workers.append(process)
        return process

    def kill_gateway(self) -> bool:
        """Kill the gateway and start it again on its folder; say whether it was our signal that ended it."""
        with self._gateway:
            process = self.running["clickhouse"]
            process.send_signal(signal.SIGKILL)
            hit = process.wait(END_S) == -signal.SIGKILL
            self._start(self._specs()["clickhouse"])
            return hit

    def down(self) -> None:
        """End everything, the newest first; workers politely, so that they leave the group."""
        for process in [*reversed(self.workers), *reversed(self.running.values())]:
            end(process)
        self._starter.shutdown()


def end(process: Process) -> None:
    """Ask a process to end, and kill it when it does not."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(END_S)

"""One real stack for the stack tests: its own home and ports, started by the command a user types."""
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import psutil
import pytest

from weir.contracts.endpoints import Endpoints

ROOT = Path(__file__).resolve().parents[2]
SETTLED_S = 20
OWN_STACKS = {"test_kills.py", "test_refusals.py"}
LAST = "test_recovery.py"
PORT_BASE = int(os.environ.get("WEIR_TEST_PORT_BASE", "31000"))


def listening():
    """The ports of this stack that something listens on."""
    return {c.laddr.port for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and PORT_BASE <= c.laddr.port < PORT_BASE + 20}


@dataclass
class Stack:
    home: Path
    env: dict
    broken: bool = False
    root: Path = ROOT

    def weir(self, *arguments, timeout=400, check=True):
        """Run a command from a folder that is not the checkout's: each works from anywhere."""
        done = subprocess.run(
            [sys.executable, "-m", "weir.cli", *arguments], env=self.env, capture_output=True, text=True, timeout=timeout, check=False, cwd=self.home
        )
        if check and done.returncode:
            raise AssertionError(f"weir {' '.join(arguments)} exited {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
        return done

    def status(self):
        return json.loads(self.weir("status", "--json", check=False).stdout)

    @cached_property
    def endpoints(self):
        """What `./weir status` says that the parts' addresses are: asked once, since a status costs seconds of a core and they stay what they are."""
        return self.status()["endpoints"]

    @cached_property
    def story(self):
        """What the demo told, once for all tests, and the ports that it left open. A demo that failed fails what needs it at once."""
        assert not self.broken, "the demo failed before"
        self.broken = True
        told = json.loads(self.weir("demo", "--json", timeout=900).stdout)  # past what test_demo.py calls hopeless
        self.broken = False
        return told, listening()

    def at_rest(self):
        """Whether every process of the supervisor has run for a while: a look at it costs milliseconds, a `./weir status` seconds of a core."""
        from weir.errors import Unavailable
        from weir.stack.supervision import Control

        try:
            states = Control(self.home).states().values()
        except Unavailable:
            return False
        return all(s.state == "RUNNING" and time.time() - s.started_at_s > SETTLED_S for s in states)

    def clickhouse(self, sql):
        import clickhouse_connect

        with clickhouse_connect.get_client(dsn=self.endpoints["clickhouse_url"]) as client:
            return client.query(sql).result_rows

    def clickhouse_command(self, sql):
        import clickhouse_connect

        with clickhouse_connect.get_client(dsn=self.endpoints["clickhouse_url"]) as client:
            client.command(sql)


def _turn(item):
    if item.path.parent != Path(__file__).parent:
        return 0
    if item.path.name in OWN_STACKS and "running" not in item.fixturenames:
        return 1
    return 3 if item.path.name == LAST else 2


def pytest_collection_modifyitems(items):
    """First the tests that need no running stack, while there is none to share two cores with; last those that kill it; the others keep their order."""
    items.sort(key=_turn)


@pytest.fixture(scope="session")
def stack():
    outer = Path(os.environ["WEIR_HOME"])
    home = outer / "stack-test"
    if (home / "run").exists():  # of a run that was killed: what may run of it still goes before its folder does
        subprocess.run([sys.executable, "-m", "weir.cli", "down"], env={**os.environ, "WEIR_HOME": str(home), "WEIR_ROOT": str(ROOT), "WEIR_PORT_BASE": str(PORT_BASE), "PYTHONPATH": str(ROOT / "src")},
                       capture_output=True, check=False)
    subprocess.run(["rm", "-rf", str(home)], check=True)
    home.mkdir(parents=True)
    (outer / "jars").mkdir(exist_ok=True)
    (home / "jars").symlink_to(outer / "jars")  # fetched once for both
    env = {**os.environ, "WEIR_HOME": str(home), "WEIR_ROOT": str(ROOT), "WEIR_PORT_BASE": str(PORT_BASE), "PYTHONPATH": str(ROOT / "src")}
    env.pop("WEIR_STARTED_AT", None)
    made = Stack(home, env)
    yield made
    made.weir("down", check=False)


@pytest.fixture
def running(stack):
    """The stack, up and loaded, whichever test file runs first."""
    assert stack.story
    if not stack.at_rest() and {s["state"] for s in stack.status()["services"]} != {"ready"}:
        stack.weir("up")
    return stack


@pytest.fixture
def no_companion(running):
    """Continuous reconciliation is stopped: what a test plants is found by what it runs, and by nothing else."""
    from weir.stack.supervision import Control

    control = Control(running.home)
    control.stop("reconcile")
    yield
    control.start("reconcile")


@pytest.fixture
def endpoints(running):
    """Where the running stack's parts are."""
    return replace(Endpoints.local(PORT_BASE), **running.endpoints)

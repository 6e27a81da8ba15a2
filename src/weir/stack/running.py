"""What the stack of a home was started with, so that a command with other settings is told instead of believed.

In: settings. Out: run/port-base and run/endpoints.json, or a refusal. Keep: of an endpoint, which may hold a password, only a digest is written, for its owner
alone to read (run/supervisord.conf beside it is as closed).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from weir.errors import SettingsError
from weir.stack.settings import StackSettings

REMEDY = "./weir down first, then ./weir up"


def _ports(home: Path) -> Path:
    return home / "run" / "port-base"


def _endpoints(home: Path) -> Path:
    return home / "run" / "endpoints.json"


def digests(settings: StackSettings) -> dict[str, str]:
    """Return the SHA-256 of each endpoint by its name. Pure."""
    return {name: hashlib.sha256(str(url).encode()).hexdigest() for name, url in asdict(settings.endpoints).items()}


def note(settings: StackSettings) -> None:
    """Write down what the services are about to be started with."""
    _ports(settings.home).write_text(f"{settings.port_base}\n")
    path = _endpoints(settings.home)
    path.touch(mode=0o600)
    path.write_text(json.dumps(digests(settings)))


def forget(home: Path) -> None:
    """Remove what was written down: nothing runs any more."""
    for path in (_ports(home), _endpoints(home)):
        path.unlink(missing_ok=True)


def changed(settings: StackSettings) -> list[str]:
    """Return the endpoints that are not those which the running services were started with; none when nothing was written down."""
    try:
        before = json.loads(_endpoints(settings.home).read_text())
    except (OSError, ValueError):
        return []
    nothing = hashlib.sha256(b"").hexdigest()  # as of an endpoint that an older version did not know
    return sorted(name for name, digest in digests(settings).items() if before.get(name, nothing) != digest)


def check(settings: StackSettings) -> None:
    """See that a stack which runs has the ports and endpoints that are asked for.

    Raises:
        SettingsError: it has others; names which.
    """
    path = _ports(settings.home)
    runs_at = path.read_text().strip() if path.exists() else ""
    if runs_at and runs_at != str(settings.port_base):
        raise SettingsError(
            f"the stack at {settings.home} runs already, with WEIR_PORT_BASE {runs_at} instead of {settings.port_base}",
            hint=f"./weir down first, or set WEIR_PORT_BASE={runs_at}, or another WEIR_HOME for a second stack", key="WEIR_PORT_BASE",
        )
    if others := changed(settings):
        raise SettingsError(f"the stack at {settings.home} runs already, started with another {', '.join(others)} than weir.toml names now", hint=REMEDY, key=others[0])

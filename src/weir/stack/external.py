"""Services that the settings file points elsewhere: where they are, and whether they answer.

In: settings. Out: a row each for showing, or a refusal after a bounded wait. Keep: nothing of ours is started before they answer; passwords are not shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from weir.contracts.clickhouse import parse
from weir.contracts.names import EXTERNAL_ANSWERS, EXTERNAL_SILENT
from weir.errors import SettingsError, Unavailable
from weir.stack import probe
from weir.stack.settings import EXTERNAL, StackSettings
from weir.stack.states import ServiceState, masked
from weir.topics import client

WAIT_S = 15.0  # for one that is being started at the same time; a wrong address is told soon
PROBE_S: Final = 1.0  # so that the wait is told within two seconds
EVERY_S: Final = 0.5
ANSWERS: Final = EXTERNAL_ANSWERS
SILENT: Final = EXTERNAL_SILENT
KEYS: Final = {service: key for key, service in EXTERNAL.items()}


def where(settings: StackSettings, name: str) -> str:
    """Return the endpoint of an external service as the settings name it."""
    return str(getattr(settings.endpoints, KEYS[name]))


def probes(name: str, endpoint: str) -> list[str]:
    """Return the URLs to ask (see weir.stack.probe); one that answers will do. Pure."""
    if name == "kafka":
        return [f"kafka://{address.strip()}" for address in endpoint.split(",")]
    if name == "clickhouse":
        return [f"{parse(endpoint).base_url}/ping"]
    if name == "connect":
        return [f"{masked(endpoint).rstrip('/')}/connectors"]
    return [endpoint.replace("postgres://", "postgresql://", 1) if endpoint.startswith("postgres://") else endpoint]


def answers(settings: StackSettings, name: str) -> bool:
    """Return whether an external service answers now.

    Raises:
        SettingsError: Kafka and the client that `kafka_client` describes refuse each other.
    """
    if name == "kafka" and settings.endpoints.kafka_client:
        return client.answers(settings.endpoints.kafka_bootstrap)
    return any(probe.answers(url, PROBE_S) for url in probes(name, where(settings, name)))


def remedy(settings: StackSettings, name: str) -> str:
    """Return what to do about one that does not answer. Pure. Of brokers that want another protocol, or a client's certificate, nothing is heard but that they hang up."""
    spoken = ", or security.protocol or the client's certificate in the file of kafka_client" if name == "kafka" and settings.endpoints.kafka_client else ""
    return f"start it, or correct {KEYS[name]} in weir.toml{spoken}; without that key Weir runs its own"


def _row(settings: StackSettings, name: str) -> ServiceState:
    try:
        state, why = ANSWERS if answers(settings, name) else SILENT, ""
    except SettingsError as error:
        state, why = SILENT, str(error)
    return ServiceState(name, state, 0, masked(where(settings, name)), why)


def rows(settings: StackSettings) -> list[ServiceState]:
    """Return a row for each external service, its password left out."""
    with ThreadPoolExecutor(max_workers=len(EXTERNAL)) as pool:
        return list(pool.map(lambda name: _row(settings, name), sorted(settings.external)))


def wait(settings: StackSettings, report: Callable[[str, str], None]) -> None:
    """Wait until every external service answers, telling of it.

    Raises:
        Unavailable: one did not within WAIT_S. SettingsError: as `answers`, at once.
    """
    deadline, told = time.monotonic() + WAIT_S, set()
    for name in sorted(settings.external):
        shown = masked(where(settings, name))
        while not answers(settings, name):
            if time.monotonic() > deadline:
                raise Unavailable(f"the external {name} at {shown} does not answer", hint=remedy(settings, name))
            if name not in told:
                told.add(name)
                report(name, f"external, at {shown}: no answer yet, waiting at most {WAIT_S:.0f} s for it")
            time.sleep(EVERY_S)

"""What would change in the connector, and the change: its configuration as files and register say it against Connect's live one.

In: endpoints, the tables to capture. Out: a `Plan`. Keep: planning writes nothing; a table is in the list when the shop's contract or the register says so.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from weir.connect import register
from weir.contracts import cdc, tls
from weir.contracts.endpoints import Endpoints
from weir.errors import ServiceFailed, Unavailable

WAIT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting that differs; None: not there."""

    key: str
    live: str | None
    wanted: str | None

    def __str__(self) -> str:
        left, right = ("(none)" if v is None else v for v in (self.live, self.wanted))
        return f"{self.key}: {left} -> {right}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What would change. `registered`: Connect knows the connector; `task`: its state there."""

    connector: str
    registered: bool
    task: str
    settings: tuple[Setting, ...]

    @property
    def changes(self) -> bool:
        """Say whether anything would."""
        return not self.registered or bool(self.settings)


def wanted(endpoints: Endpoints, home: Path, more: Sequence[str] = ()) -> dict[str, str]:
    """Return the configuration with these tables in its list too."""
    base = register.configuration(endpoints, home)
    return register.keeping(base, {register.LIST: ",".join(more)})


def differences(live: dict[str, str], target: dict[str, str]) -> tuple[Setting, ...]:
    """Return the settings that differ, by name. Pure."""
    return tuple(Setting(k, live.get(k), target.get(k)) for k in sorted(live.keys() | target.keys()) if live.get(k) != target.get(k))


def plan(endpoints: Endpoints, target: dict[str, str]) -> Plan:
    """Compare with the live configuration.

    Raises:
        Unavailable: Connect does not answer.
    """
    try:
        with httpx.Client(base_url=endpoints.connect_url, timeout=10, verify=tls.context()) as client:
            found = client.get(f"/connectors/{cdc.CONNECTOR}/config")
            status = client.get(f"/connectors/{cdc.CONNECTOR}/status")
            if found.status_code == httpx.codes.NOT_FOUND:
                return Plan(cdc.CONNECTOR, registered=False, task="NONE", settings=differences({}, target))
            live = {str(k): str(v) for k, v in found.raise_for_status().json().items() if k != "name"}
            task = register.state(status.json())[0] if status.is_success else "STARTING"
    except (httpx.HTTPError, ValueError) as error:
        raise Unavailable(f"Kafka Connect does not tell the connector's configuration: {error}", hint="./weir logs connect shows why") from error
    return Plan(cdc.CONNECTOR, registered=True, task=task, settings=differences(live, target))


def reader(dsn: str) -> int | None:
    """Return the process that reads the slot (pg_replication_slots.active_pid); None: nobody does, or PostgreSQL does not say."""
    import psycopg

    try:
        with psycopg.connect(dsn, connect_timeout=5, autocommit=True) as c:
            row = c.execute("SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s", (cdc.SLOT,)).fetchone()
    except psycopg.Error:
        return None
    return row[0] if row else None


def apply(endpoints: Endpoints, target: dict[str, str]) -> Plan:
    """Put the configuration where it differs and wait until a task that was started with it reads the slot; return what was changed.

    Connect says RUNNING of the task before, too, until that has ended: what it still reads it drops, by the list that it was started with.

    Raises:
        ServiceFailed: the task failed, or did not run in time. Unavailable: Connect does not answer.
    """
    made = plan(endpoints, target)
    if not made.changes:
        return made
    deadline, why = time.monotonic() + WAIT_S, "no answer"
    before = reader(endpoints.postgres_dsn)
    with httpx.Client(base_url=endpoints.connect_url, timeout=20, verify=tls.context()) as client:
        put = False
        while time.monotonic() < deadline:
            try:
                answer = client.put(f"/connectors/{cdc.CONNECTOR}/config", json=target) if not put else None
                if answer is not None:
                    put, why = answer.is_success, answer.text[:300]  # 409 while Connect rebalances
                    time.sleep(1.0)  # FAILED may be said of the task before for a moment
                status = client.get(f"/connectors/{cdc.CONNECTOR}/status")
                found, trace = register.state(status.json()) if status.is_success else ("STARTING", "")
            except httpx.HTTPError as error:
                found, why = "STARTING", str(error)
            if put and found == "RUNNING":
                if reader(endpoints.postgres_dsn) not in {None, before}:
                    return made
                why = "no task that was started with it reads the slot yet"
            if put and found == "FAILED":
                raise ServiceFailed(f"connector {cdc.CONNECTOR} does not run with its new configuration: {trace}", hint="./weir logs connect shows more")
            time.sleep(0.2)
    raise ServiceFailed(f"connector {cdc.CONNECTOR} does not run with its new configuration: {why}", hint="./weir logs connect shows more")

"""A service's state as it is shown: by `./weir status`, in services.json, on the page."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServiceState:
    """One row of services.json.

    `state`: ready, degraded, starting, unhealthy, failed or stopped; of an external service one of the two words of `weir.stack.external`.
    A degraded service answers and is not restarted; a part of it has stopped for a reason that somebody must mend, which `why` names. Of a ready
    one `why` is what it says of parts that are well, such as a lane that is slowed.
    """

    name: str
    state: str
    pid: int
    endpoint: str
    why: str = ""


def masked(endpoint: str) -> str:
    """Return an endpoint without its user and password. Pure."""
    head, at, tail = endpoint.rpartition("@")
    return f"{head.split('//')[0]}//{tail}" if at else endpoint

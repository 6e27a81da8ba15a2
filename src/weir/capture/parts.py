"""What a copy is built with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from weir.capture.register import Register
from weir.contracts.endpoints import Endpoints
from weir.reconcile.sink import Sink
from weir.reconcile.source import Source

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Parts:
    """What a resync touches."""

    endpoints: Endpoints
    sink: Sink
    source: Source
    register: Register

"""OpenTelemetry for every Python room: names from the registry, recorded per batch, exported by OTLP over HTTP.

In: WEIR_OTLP_URL (absent: nothing is exported), a service name. Out: spans, metrics, logs. Keep: no row values; bounded labels; an
exporter that cannot reach the receiver never slows or fails the caller.
"""

from __future__ import annotations

from weir.telemetry.sampling import LINKS, RECORD_SPANS, sampled
from weir.telemetry.setup import Telemetry, setup

__all__ = ["LINKS", "RECORD_SPANS", "Telemetry", "sampled", "setup"]

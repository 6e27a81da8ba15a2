"""Set-up of the SDK for one process, and the small interface the rooms use."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.propagate import extract, inject
from opentelemetry.trace import Link, Span, SpanKind

Attributes = Mapping[str, str | int | float | bool]

# The SDK's own buckets start at 5, which says nothing of seconds: names that end in _s get these.
SECONDS_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass
class Telemetry:
    """Handles of one process. Instruments are created once per name; see telemetry/registry.yaml for the names."""

    service: str
    _tracer: trace.Tracer
    _meter: metrics.Meter
    _instruments: dict[str, Any] = field(default_factory=dict)
    _shutdown: list[Any] = field(default_factory=list)

    def count(self, name: str, value: int = 1, attributes: Attributes | None = None) -> None:
        """Add `value` to the counter `name`."""
        instrument = self._instruments.get(name)
        if instrument is None:
            instrument = self._instruments[name] = self._meter.create_counter(name)
        instrument.add(value, attributes)

    def gauge(self, name: str, value: float, attributes: Attributes | None = None) -> None:
        """Set the gauge `name` to `value`."""
        instrument = self._instruments.get(name)
        if instrument is None:
            instrument = self._instruments[name] = self._meter.create_gauge(name)
        instrument.set(value, attributes)

    def record(self, name: str, value: float, attributes: Attributes | None = None) -> None:
        """Record `value` in the histogram `name` (unit is the name's last word)."""
        instrument = self._instruments.get(name)
        if instrument is None:
            instrument = self._instruments[name] = self._meter.create_histogram(
                name, explicit_bucket_boundaries_advisory=SECONDS_BUCKETS if name.endswith("_s") else None
            )
        instrument.record(value, attributes)

    @contextmanager
    def timed(self, name: str, labels: dict[str, str]) -> Iterator[dict[str, str]]:
        """Record in the histogram `name` the milliseconds that the block takes, also when it raises; it may add to the labels, which are given to it."""
        began = time.perf_counter()
        try:
            yield labels
        finally:
            self.record(name, (time.perf_counter() - began) * 1000, labels)

    @contextmanager
    def span(
        self,
        name: str,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        parent: str = "",
        links: Sequence[str] = (),
        attributes: Attributes | None = None,
    ) -> Iterator[Span]:
        """Open a span; `parent` and `links` are W3C traceparent strings. At most 128 links are kept (the SDK's limit)."""
        context = extract({"traceparent": parent}) if parent else None
        spans = [trace.get_current_span(extract({"traceparent": link})).get_span_context() for link in links[:128]]
        with self._tracer.start_as_current_span(
            name, context=context, kind=kind, links=[Link(s) for s in spans], attributes=dict(attributes or {})
        ) as span:
            yield span

    @staticmethod
    def traceparent() -> str:
        """Return the current span's W3C traceparent, or an empty string."""
        carrier: dict[str, str] = {}
        inject(carrier)
        return carrier.get("traceparent", "")

    def shutdown(self) -> None:
        """Flush and stop the exporters; waits at most a few seconds."""
        for provider in self._shutdown:
            try:
                provider.shutdown()
            except Exception:
                logging.getLogger(__name__).debug("telemetry shutdown failed", exc_info=True)


def setup(service: str, *, otlp_url: str | None = None, interval_s: float = 10.0) -> Telemetry:
    """Return the process's telemetry, exporting to `otlp_url` or WEIR_OTLP_URL; with neither, instruments are no-ops.

    Args:
        service: the service.name resource attribute.
        otlp_url: base URL of an OTLP/HTTP receiver.
        interval_s: seconds between metric exports.
    """
    url = otlp_url if otlp_url is not None else os.environ.get("WEIR_OTLP_URL", "")
    if not url:
        return Telemetry(service, trace.get_tracer(service), metrics.get_meter(service))
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.name": service, "service.namespace": "weir", "process.pid": os.getpid()})
    traces = TracerProvider(resource=resource)
    traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{url}/v1/traces", timeout=3)))
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{url}/v1/metrics", timeout=3), interval_s * 1000)
    meters = MeterProvider(resource=resource, metric_readers=[reader])
    logs = LoggerProvider(resource=resource)
    logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(f"{url}/v1/logs", timeout=3)))
    logging.getLogger().addHandler(LoggingHandler(level=logging.INFO, logger_provider=logs))
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # an unreachable receiver is the receiver's alarm, not ours
    return Telemetry(
        service, traces.get_tracer(service), meters.get_meter(service), _shutdown=[traces, meters, logs]
    )

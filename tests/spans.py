"""Telemetry whose spans a test can look at."""
from opentelemetry import metrics
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from weir.telemetry import Telemetry


def kept():
    """Return telemetry that keeps its spans, and how to get those that have ended."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Telemetry("test", provider.get_tracer("test"), metrics.get_meter("test")), exporter.get_finished_spans


def traceparent(number, flags="01"):
    """Return a W3C context whose trace and span have this number."""
    return f"00-{number:032x}-{number:016x}-{flags}"

"""OTLP requests to rows of the standard otel_* tables. Pure.

In: decoded OTLP export requests. Out: (table, row) pairs, rows as JSONEachRow takes them. Keep: ids are lower-case hex, times keep their
nanoseconds, and a span keeps its own kind (Consumer stays Consumer).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

Row = dict[str, Any]
Tabled = tuple[str, Row]

TRACES: Final = "otel_traces"
LOGS: Final = "otel_logs"
GAUGE: Final = "otel_metrics_gauge"
SUM: Final = "otel_metrics_sum"
HISTOGRAM: Final = "otel_metrics_histogram"
TABLES: Final = (TRACES, LOGS, GAUGE, SUM, HISTOGRAM)
UNSUPPORTED: Final = ""  # the table of a point that no table holds (summary, exponential histogram): counted as dropped

# Indexed by the protocol's enum numbers; the words are the contrib exporter's.
SPAN_KINDS: Final = ("Unspecified", "Internal", "Server", "Client", "Producer", "Consumer")
STATUS_CODES: Final = ("Unset", "Ok", "Error")
_NANOS: Final = 1_000_000_000


def timestamp(nanos: int) -> str:
    """Return nanoseconds since the epoch as DateTime64(9) text in UTC."""
    seconds, rest = divmod(nanos, _NANOS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{rest:09d}"


def _word(words: tuple[str, ...], number: int) -> str:
    return words[number] if 0 <= number < len(words) else words[0]


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(v) for v in value.array_value.values]
    if kind == "kvlist_value":
        return {p.key: _plain(p.value) for p in value.kvlist_value.values}
    if kind == "bytes_value":
        return value.bytes_value.hex()
    return getattr(value, kind) if kind else ""


def text(value: Any) -> str:
    """Return an AnyValue as text: strings as they are, the rest as JSON."""
    plain = _plain(value)
    return plain if isinstance(plain, str) else json.dumps(plain)


def attributes(pairs: Iterable[Any]) -> dict[str, str]:
    """Return OTLP key-values as a map of text."""
    return {pair.key: text(pair.value) for pair in pairs}


def _service(resource: dict[str, str]) -> str:
    return resource.get("service.name", "")


def spans(request: Any) -> Iterator[Tabled]:
    """Yield a row a span of an ExportTraceServiceRequest."""
    for of_resource in request.resource_spans:
        resource = attributes(of_resource.resource.attributes)
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                yield TRACES, _span(span, of_scope.scope, resource)


def _span(span: Any, scope: Any, resource: dict[str, str]) -> Row:
    return {
        "Timestamp": timestamp(span.start_time_unix_nano),
        "TraceId": span.trace_id.hex(),
        "SpanId": span.span_id.hex(),
        "ParentSpanId": span.parent_span_id.hex(),
        "TraceState": span.trace_state,
        "SpanName": span.name,
        "SpanKind": _word(SPAN_KINDS, span.kind),
        "ServiceName": _service(resource),
        "ResourceAttributes": resource,
        "ScopeName": scope.name,
        "ScopeVersion": scope.version,
        "SpanAttributes": attributes(span.attributes),
        "Duration": max(0, span.end_time_unix_nano - span.start_time_unix_nano),
        "StatusCode": _word(STATUS_CODES, span.status.code),
        "StatusMessage": span.status.message,
        "Events.Timestamp": [timestamp(e.time_unix_nano) for e in span.events],
        "Events.Name": [e.name for e in span.events],
        "Events.Attributes": [attributes(e.attributes) for e in span.events],
        "Links.TraceId": [x.trace_id.hex() for x in span.links],
        "Links.SpanId": [x.span_id.hex() for x in span.links],
        "Links.TraceState": [x.trace_state for x in span.links],
        "Links.Attributes": [attributes(x.attributes) for x in span.links],
    }


def logs(request: Any) -> Iterator[Tabled]:
    """Yield a row a record of an ExportLogsServiceRequest."""
    for of_resource in request.resource_logs:
        resource = attributes(of_resource.resource.attributes)
        for of_scope in of_resource.scope_logs:
            for record in of_scope.log_records:
                yield LOGS, {
                    "Timestamp": timestamp(record.time_unix_nano or record.observed_time_unix_nano),
                    "TraceId": record.trace_id.hex(),
                    "SpanId": record.span_id.hex(),
                    "TraceFlags": record.flags & 0xFF,
                    "SeverityText": record.severity_text,
                    "SeverityNumber": record.severity_number,
                    "ServiceName": _service(resource),
                    "Body": text(record.body),
                    "ResourceSchemaUrl": of_resource.schema_url,
                    "ResourceAttributes": resource,
                    "ScopeSchemaUrl": of_scope.schema_url,
                    "ScopeName": of_scope.scope.name,
                    "ScopeVersion": of_scope.scope.version,
                    "ScopeAttributes": attributes(of_scope.scope.attributes),
                    "LogAttributes": attributes(record.attributes),
                    "EventName": record.event_name,
                }


def metrics(request: Any) -> Iterator[Tabled]:
    """Yield a row a data point of an ExportMetricsServiceRequest; points that no table holds come under UNSUPPORTED."""
    for of_resource in request.resource_metrics:
        resource = attributes(of_resource.resource.attributes)
        for of_scope in of_resource.scope_metrics:
            head = {
                "ResourceAttributes": resource,
                "ResourceSchemaUrl": of_resource.schema_url,
                "ScopeName": of_scope.scope.name,
                "ScopeVersion": of_scope.scope.version,
                "ScopeAttributes": attributes(of_scope.scope.attributes),
                "ScopeDroppedAttrCount": of_scope.scope.dropped_attributes_count,
                "ScopeSchemaUrl": of_scope.schema_url,
                "ServiceName": _service(resource),
            }
            for metric in of_scope.metrics:
                yield from _points(metric, head)


def _points(metric: Any, head: Row) -> Iterator[Tabled]:
    kind = metric.WhichOneof("data")
    head = head | {"MetricName": metric.name, "MetricDescription": metric.description, "MetricUnit": metric.unit}
    if kind is None:
        return
    data = getattr(metric, kind)
    for point in data.data_points:
        row = head | _point(point) if kind in {"gauge", "sum", "histogram"} else {}
        if kind == "gauge":
            yield GAUGE, row | {"Value": _number(point)}
        elif kind == "sum":
            more = {"AggregationTemporality": data.aggregation_temporality, "IsMonotonic": data.is_monotonic}
            yield SUM, row | {"Value": _number(point)} | more
        elif kind == "histogram":
            yield HISTOGRAM, row | {
                "Count": point.count,
                "Sum": point.sum,
                "BucketCounts": list(point.bucket_counts),
                "ExplicitBounds": list(point.explicit_bounds),
                "Min": point.min,
                "Max": point.max,
                "AggregationTemporality": data.aggregation_temporality,
            }
        else:
            yield UNSUPPORTED, {}


def _number(point: Any) -> float:
    return float(point.as_int) if point.WhichOneof("value") == "as_int" else float(point.as_double)


def _point(point: Any) -> Row:
    return {
        "Attributes": attributes(point.attributes),
        "StartTimeUnix": timestamp(point.start_time_unix_nano),
        "TimeUnix": timestamp(point.time_unix_nano),
        "Flags": point.flags,
        "Exemplars.FilteredAttributes": [attributes(e.filtered_attributes) for e in point.exemplars],
        "Exemplars.TimeUnix": [timestamp(e.time_unix_nano) for e in point.exemplars],
        "Exemplars.Value": [_number(e) for e in point.exemplars],
        "Exemplars.SpanId": [e.span_id.hex() for e in point.exemplars],
        "Exemplars.TraceId": [e.trace_id.hex() for e in point.exemplars],
    }

"""OTLP conversion keeps kinds, ids and nanoseconds."""
import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from weir.telemetry import convert
from weir.telemetry.receiver import Receiver, TooLarge, inflate
from weir.telemetry.store import Store


def _request(**span):
    request = trace_service_pb2.ExportTraceServiceRequest()
    of = request.resource_spans.add()
    of.resource.attributes.add(key="service.name").value.string_value = "s"
    of.scope_spans.add().spans.add(**span)
    return request


@given(kind=st.sampled_from(trace_pb2.Span.SpanKind.keys()))
def test_a_span_keeps_its_kind(kind):
    ((_, row),) = convert.spans(_request(kind=trace_pb2.Span.SpanKind.Value(kind)))
    assert row["SpanKind"].upper() == kind.removeprefix("SPAN_KIND_")


@given(trace=st.binary(min_size=16, max_size=16), span=st.binary(min_size=8, max_size=8), start=st.integers(0, 4_000_000_000 * 10**9),
       took=st.integers(0, 10**15))
def test_ids_are_hex_and_times_keep_their_nanoseconds(trace, span, start, took):
    ((table, row),) = convert.spans(_request(trace_id=trace, span_id=span, start_time_unix_nano=start, end_time_unix_nano=start + took))
    assert (table, row["ServiceName"], row["Duration"]) == ("otel_traces", "s", took)
    assert bytes.fromhex(row["TraceId"]) == trace
    assert row["TraceId"] == row["TraceId"].lower()
    assert bytes.fromhex(row["SpanId"]) == span
    whole, fraction = row["Timestamp"].split(".")
    assert (len(whole), len(fraction), int(fraction)) == (19, 9, start % 10**9)


def test_a_kind_of_metric_without_a_table_is_counted_as_dropped():
    request = metrics_service_pb2.ExportMetricsServiceRequest()
    request.resource_metrics.add().scope_metrics.add().metrics.add(name="m").summary.data_points.add(count=1)
    store = Store(sink=None)
    assert store.offer(convert.metrics(request)) == (0, 1)
    assert store.health()["dropped"] == {"unsupported": 1}


def test_gzip_is_undone_and_a_bomb_is_refused():
    assert inflate(gzip.compress(b"x"), "gzip") == b"x"
    with pytest.raises(TooLarge):
        inflate(gzip.compress(b"\0" * 5000), "gzip", limit=1000)
    with pytest.raises(ValueError, match="cut short"):
        inflate(gzip.compress(b"x" * 100)[:-9], "gzip")


def test_a_full_queue_is_told_to_the_sender_and_at_health():
    store = Store(sink=None, queue_rows=1)
    receiver, body = Receiver(store), _request(name="a").SerializeToString()
    assert receiver.take("/v1/traces", body, "") == (200, b"")
    status, answer = receiver.take("/v1/traces", gzip.compress(body), "gzip")
    assert status == 200
    assert trace_service_pb2.ExportTraceServiceResponse.FromString(answer).partial_success.rejected_spans == 1
    assert store.health()["dropped"] == {"otel_traces": 1}


def test_what_is_not_protobuf_is_refused():
    assert Receiver(Store(sink=None)).take("/v1/traces", b"\xff\xff", "")[0] == 400

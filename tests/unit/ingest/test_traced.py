"""The trace of each sampled record goes on through ingest, whatever else is in its batch; what is spent on it is bounded."""
import pytest
from tests.spans import kept, traceparent
from tests.unit.ingest.test_worker import TOPIC, World

from weir.ingest.intent import of
from weir.ingest.record import Record
from weir.telemetry import LINKS, RECORD_SPANS, sampled


def record(offset, trace=""):
    return Record(TOPIC, 0, offset, 0, None, b"x", trace)


def spans_of(*records):
    telemetry, spans = kept()
    World(None, list(records), telemetry=telemetry).lane.run()
    return spans()


def traces(spans, name):
    return [s.context.trace_id for s in spans if s.name == name]


def test_two_sampled_records_of_one_batch_each_have_a_span_in_their_own_trace():
    found = spans_of(record(1, traceparent(7)), record(2), record(3, traceparent(9)))
    assert sorted(traces(found, "weir.ingest.record")) == [7, 9]
    batch = next(s for s in found if s.name == "weir.ingest.batch")
    assert [link.context.trace_id for link in batch.links] == [7, 9]
    for span in (s for s in found if s.name == "weir.ingest.record"):
        assert span.parent.span_id == span.context.trace_id, "the parent is the record's own context"
        assert [link.context.span_id for link in span.links] == [batch.context.span_id]


def test_where_nothing_is_sampled_a_batch_has_one_span():
    found = spans_of(record(1), record(2, traceparent(7, flags="00")))
    assert [(s.name, len(s.links)) for s in found] == [("weir.ingest.batch", 0)]


def test_past_the_bound_a_record_has_a_link_of_its_batch_alone():
    many = RECORD_SPANS + 3
    found = spans_of(*(record(n, traceparent(n)) for n in range(many, 0, -1)))
    batch = next(s for s in found if s.name == "weir.ingest.batch")
    assert traces(found, "weir.ingest.record") == list(range(1, RECORD_SPANS + 1))
    assert [link.context.trace_id for link in batch.links] == list(range(1, many + 1))


@pytest.mark.parametrize("parts", [2, 3, 5])
def test_what_is_chosen_of_a_batch_is_chosen_of_each_part_of_it(parts):
    all_of_them = [traceparent(n * 7919 % 1009 + 1) for n in range(400)]
    chosen = set(sampled(all_of_them)[:RECORD_SPANS])
    assert chosen <= {t for n in range(parts) for t in sampled(reversed(all_of_them[n::parts]))[:RECORD_SPANS]}
    assert len(sampled(all_of_them)) == LINKS


def test_a_batch_that_is_replayed_has_the_spans_that_its_first_process_did_not_live_to_give():
    records = [record(1, traceparent(7)), record(2, traceparent(9))]
    telemetry, spans = kept()

    class Died(World):
        def committed(self, partitions):
            return dict.fromkeys(partitions, (1, of(records).encode()))

        def read(self, _ranges):
            return records

        def execute(self, _sql, **_parameters):
            return str(len(records))

    Died(None, telemetry=telemetry).lane.run()
    found = spans()
    assert sorted(traces(found, "weir.ingest.record")) == [7, 9]
    assert {s.attributes["replay"] for s in found} == {True}
    assert [s.attributes["rows"] for s in found if s.name == "weir.ingest.batch"] == [2]

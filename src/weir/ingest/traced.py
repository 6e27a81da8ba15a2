"""The spans of one lane's batches: one a batch, and one in the trace of each of its first sampled records.

In: the records of a batch as they are decoded, and what became of it. Out: spans. Keep: a record's span has that record's own context as its parent, so
that its trace goes on (OpenTelemetry's messaging conventions: one process span a message, a link to the batch's); where nothing is sampled there is one span a batch.
"""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.trace import SpanKind

from weir.ingest.batch import Batch
from weir.ingest.intent import Intent
from weir.ingest.record import Record
from weir.telemetry import RECORD_SPANS, Telemetry, sampled


class Traced:
    """One lane's; `table`: its landing table."""

    def __init__(self, table: str, telemetry: Telemetry) -> None:
        self._labels, self._telemetry = {"table": table}, telemetry
        self._traces: list[str] = []

    def decoded(self, records: Sequence[Record]) -> None:
        """Keep the contexts of the sampled records of the batch that is decoded."""
        self._traces = sampled(Batch.of(records).traces.values())

    def landed(self, intent: Intent, seconds: float, *, replay: bool = False) -> None:
        """Tell of a batch whose insert took `seconds`; `replay`: it was declared by an earlier membership.

        The batch's span is the root of a trace of its own and has links to its sampled records; past the first RECORD_SPANS these links are all that a record gets.
        """
        rows = sum(r.count for r in intent.ranges)
        with self._telemetry.span("weir.ingest.batch", kind=SpanKind.CONSUMER, links=self._traces,
                                  attributes={**self._labels, "rows": rows, "insert_s": seconds, "replay": replay}):
            batch = self._telemetry.traceparent() if self._traces else ""
            for parent in self._traces[:RECORD_SPANS]:
                with self._telemetry.span("weir.ingest.record", kind=SpanKind.CONSUMER, parent=parent, links=[batch], attributes={**self._labels, "replay": replay}):
                    pass

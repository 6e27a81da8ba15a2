"""Quix Streams with a sink for ClickHouse, at least once. Run by `./weir bench race`.

In: WEIR_KAFKA_BOOTSTRAP, WEIR_CLICKHOUSE_URL; the form. Out: rows in the landing table. Keep: `flush` is called by the checkpoint before it commits the
offsets, so a kill repeats a batch and loses none. The sink is one of all partitions (a BaseSink, as its documentation's 'Creating a Custom Sink' shows), since
the library's BatchingSink would make twelve inserts of each checkpoint.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any

from peers.plain import BATCH_ROWS, BYTES_TABLE, CONSUMER, ENVELOPE, FIELDS, TABLE, TOPIC, client
from peers.told import Told

COMMIT_S = 2.0  # the default, 5 s, left the last batch waiting for longer
FORMS = {
    "json": "value_deserializer='json' (orjson), one list a column, insert(column_oriented=True) with a kept insert context",
    "raw": "value_deserializer='bytes', raw_insert of the joined values as JSONEachRow, as the plain loop's; the engine parses; topic, partition and offset are not kept",
}
SETTINGS = {"commit_every": BATCH_ROWS, "commit_interval_s": COMMIT_S, "processing_guarantee": "at-least-once", "consumer_extra_config": {
    k: v for k, v in CONSUMER.items() if k.startswith(("fetch", "queued"))}, "use_changelog_topics": False, "clickhouse_connect": {"compress": False}}


def _sink(form: str, told: Told) -> Any:
    from quixstreams.sinks.base import BaseSink

    there = client()
    context = there.create_insert_context(TABLE, [*FIELDS, *ENVELOPE], column_oriented=True)

    class ClickHouseSink(BaseSink):  # type: ignore[misc]  # (dyn) Quix Streams has no types
        def __init__(self) -> None:
            super().__init__(on_client_connect_success=lambda: None)
            self.rows: list[Any] = []

        def add(self, value: Any, key: Any, timestamp: int, headers: Any, topic: str, partition: int, offset: int) -> None:
            del key, headers
            self.rows.append((value, topic, partition, offset, timestamp))

        def flush(self) -> None:
            rows, self.rows = self.rows, []
            if not rows:
                return
            values = [r[0] for r in rows]
            if form == "raw":
                there.raw_insert(BYTES_TABLE, FIELDS, b"\n".join(values), fmt="JSONEachRow")
            else:
                context.data = [*([v.get(field) for v in values] for field in FIELDS), *([r[n] for r in rows] for n in range(1, len(ENVELOPE) + 1))]
                there.insert(context=context)
            told.landed(len(rows))

    return ClickHouseSink()


def main(form: str, group: str) -> None:
    """Run until the race is over."""
    from quixstreams import Application

    told = Told()
    app = Application(
        broker_address=os.environ["WEIR_KAFKA_BOOTSTRAP"], consumer_group=group, auto_offset_reset="earliest", commit_every=BATCH_ROWS, commit_interval=COMMIT_S,
        consumer_extra_config=SETTINGS["consumer_extra_config"], use_changelog_topics=False, auto_create_topics=False, loglevel="WARNING",
        state_dir=f"state-{group}-{os.getpid()}")  # its own: two processes of a group that make one folder at once trip over each other
    sink = _sink(form, told)
    frame = app.dataframe(app.topic(TOPIC, value_deserializer="bytes" if form == "raw" else "json", key_deserializer="bytes"))
    first, add = True, sink.add

    def noted(*row: Any, **named: Any) -> None:
        nonlocal first
        if first:
            told.fetched(time.time())
            first, sink.add = False, add
        add(*row, **named)

    sink.add = noted
    frame.sink(sink)
    told.wait_for_go()
    threading.Thread(target=lambda: (told.ended.wait(), app.stop()), daemon=True).start()
    app.run()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])

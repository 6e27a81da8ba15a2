"""The plain loop: confluent-kafka and clickhouse-connect, at least once, as one writes it in an afternoon. Run by `./weir bench race`.

In: WEIR_KAFKA_BOOTSTRAP, WEIR_CLICKHOUSE_URL; the form. Out: rows in the landing table. Keep: offsets are committed after the insert was acknowledged, so a
kill repeats a batch and loses none. No validation, no quarantine, no dedup: a bad record ends it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from peers.told import Told

TOPIC, TABLE = "user-events", "landing.user_events"
# Where the bytes go as they are. The events' time is in milliseconds, and JSONEachRow reads a number for a DateTime64 as seconds, so the usual way is taken: a table
# that keeps nothing, of the types of the JSON, and a materialized view into the table. It knows no topic, partition, offset or Kafka timestamp.
BYTES_TABLE = "landing.user_events_bytes"
BYTES_DDL = (
    (f"CREATE TABLE IF NOT EXISTS {BYTES_TABLE} (schema_version UInt8, event_id String, user_id Int64, item_id Int64, event_type LowCardinality(String), "
    "session_id String, country LowCardinality(String), occurred_at Int64, rating Nullable(Float32)) ENGINE = Null"),
    (f"CREATE MATERIALIZED VIEW IF NOT EXISTS {BYTES_TABLE}_to_user_events TO {TABLE} AS SELECT schema_version, event_id, user_id, item_id, event_type, session_id, "
    f"country, fromUnixTimestamp64Milli(occurred_at, 'UTC') AS occurred_at, rating, now64(3, 'UTC') AS produced_at FROM {BYTES_TABLE}"),
)
BATCH_ROWS = 200_000  # as many as Weir's worker inserts at once
FETCH_ROWS, FETCH_S = 50_000, 0.1
FIELDS = ("schema_version", "event_id", "user_id", "item_id", "event_type", "session_id", "country", "occurred_at", "rating")
ENVELOPE = ("topic", "partition", "offset", "produced_at")
CONSUMER = {"enable.auto.commit": False, "auto.offset.reset": "earliest", "fetch.min.bytes": 1, "fetch.wait.max.ms": 50, "queued.max.messages.kbytes": 65536}
FORMS = {
    "json": "a msgspec struct a record, one list a column, insert(column_oriented=True) with a kept insert context",
    "arrow": "polars.read_ndjson of the joined values, insert_arrow",
    "raw": f"raw_insert of the joined values as JSONEachRow into {BYTES_TABLE}, a Null table with a view into {TABLE}; the engine parses; topic, partition and "
           "offset are not kept, produced_at is the server's now64(3)",
}
SETTINGS = {"consumer": CONSUMER, "batch_rows": BATCH_ROWS, "consume": [FETCH_ROWS, FETCH_S], "clickhouse_connect": {"compress": False}, "commit": "synchronous, after the insert",
            "assignment": "by hand, half of the partitions each: a rebalance would make this loop repeat rows"}

Insert = Callable[[Sequence[Any]], None]


def client() -> Any:
    """Return a client of the engine, without compression: it is on this machine."""
    import clickhouse_connect

    return clickhouse_connect.get_client(dsn=os.environ["WEIR_CLICKHOUSE_URL"], compress=False, autogenerate_session_id=False)


def _json() -> Insert:
    import msgspec

    class Event(msgspec.Struct, gc=False):
        schema_version: int
        event_id: str
        user_id: int
        item_id: int
        event_type: str
        session_id: str
        country: str
        occurred_at: int
        rating: float | None = None

    decode, there = msgspec.json.Decoder(Event).decode, client()
    context = there.create_insert_context(TABLE, [*FIELDS, *ENVELOPE], column_oriented=True)

    def insert(messages: Sequence[Any]) -> None:
        events = [decode(m.value()) for m in messages]
        context.data = [
            [e.schema_version for e in events], [e.event_id for e in events], [e.user_id for e in events], [e.item_id for e in events],
            [e.event_type for e in events], [e.session_id for e in events], [e.country for e in events], [e.occurred_at for e in events],
            [e.rating for e in events], [TOPIC] * len(events), [m.partition() for m in messages], [m.offset() for m in messages],
            [m.timestamp()[1] for m in messages],
        ]
        there.insert(context=context)

    return insert


def _arrow() -> Insert:
    import polars as pl

    kinds = {"schema_version": pl.Int64, "event_id": pl.String, "user_id": pl.Int64, "item_id": pl.Int64, "event_type": pl.String, "session_id": pl.String,
             "country": pl.String, "occurred_at": pl.Int64, "rating": pl.Float64}
    there, at = client(), pl.Datetime("ms", "UTC")

    def insert(messages: Sequence[Any]) -> None:
        frame = pl.read_ndjson(b"\n".join([m.value() for m in messages]), schema=kinds).with_columns(
            pl.col("schema_version").cast(pl.UInt8), pl.col("rating").cast(pl.Float32), pl.col("occurred_at").cast(at), pl.lit(TOPIC).alias("topic"),
            pl.Series("partition", [m.partition() for m in messages], pl.UInt16), pl.Series("offset", [m.offset() for m in messages], pl.UInt64),
            pl.Series("produced_at", [m.timestamp()[1] for m in messages], pl.Int64).cast(at))
        there.insert_arrow(TABLE, frame.to_arrow(compat_level=pl.CompatLevel.oldest()))

    return insert


def _raw() -> Insert:
    there = client()

    def insert(messages: Sequence[Any]) -> None:
        there.raw_insert(BYTES_TABLE, FIELDS, b"\n".join([m.value() for m in messages]), fmt="JSONEachRow")

    return insert


def main(form: str, group: str, share: int, shares: int) -> None:
    """Run until the race is over, on every `shares`-th partition, the `share`-th first."""
    from confluent_kafka import OFFSET_STORED, Consumer, TopicPartition

    told, insert = Told(), {"json": _json, "arrow": _arrow, "raw": _raw}[form]()
    consumer = Consumer({"bootstrap.servers": os.environ["WEIR_KAFKA_BOOTSTRAP"], "group.id": group, **CONSUMER})
    told.wait_for_go()
    partitions = sorted(consumer.list_topics(TOPIC, 30).topics[TOPIC].partitions)[share::shares]
    consumer.assign([TopicPartition(TOPIC, n, OFFSET_STORED) for n in partitions])
    messages: list[Any] = []
    while not told.ended.is_set():
        began = time.time()
        found = consumer.consume(FETCH_ROWS, FETCH_S)
        failed = [m.error() for m in found if m.error() is not None]
        if failed:
            raise SystemExit(f"Kafka: {failed[0]}")
        if found:
            told.fetched(began)
        messages += found
        if messages and (len(messages) >= BATCH_ROWS or not found):
            insert(messages)
            consumer.commit(asynchronous=False)
            told.landed(len(messages))
            messages = []
    consumer.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))

"""Spark Structured Streaming, from Kafka to ClickHouse, at least once. Run by `./weir bench race`.

In: WEIR_KAFKA_BOOTSTRAP, WEIR_CLICKHOUSE_URL, the form, a checkpoint folder, JAVA_HOME, the Kafka package's jars. Out: rows in the landing table. Keep: foreachBatch's
guarantee is at least once: the trigger's offsets are committed to the checkpoint after its write returned. ClickHouse's own Spark connector is not served by the
registries this was written against; `mapInArrow` and clickhouse-connect hand over columns, where the JDBC source builds a VALUES text.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from peers.plain import BYTES_TABLE, FIELDS, TABLE, TOPIC
from peers.told import Told

PER_TRIGGER, CORES = 400_000, 2
WARMED = 200_000  # records parsed and thrown away before the race, for the just-in-time compiler
FORMS = {
    "json": "from_json and the columns in the JVM, mapInArrow, insert_arrow by the Python workers, one insert a task",
    "raw": "the values by mapInArrow, raw_insert as JSONEachRow by the Python workers, as the plain loop's, one insert a task; the engine parses; topic, partition and offset are not kept",
}
SETTINGS = {
    "master": f"local[{CORES}]", "maxOffsetsPerTrigger": PER_TRIGGER, "spark.driver.memory": "3g", "spark.sql.shuffle.partitions": CORES,
    "spark.sql.execution.arrow.maxRecordsPerBatch": PER_TRIGGER, "spark.sql.adaptive.enabled": "false", "spark.ui.enabled": "false",
    "spark.sql.streaming.numRecentProgressUpdates": 1, "spark.sql.session.timeZone": "UTC", "coalesce": CORES, "trigger": "as soon as the last one is done",
    "warmed_by_records": WARMED,
}
SCHEMA = ("schema_version TINYINT, event_id STRING, user_id BIGINT, item_id BIGINT, event_type STRING, session_id STRING, country STRING, occurred_at BIGINT, "
          "rating FLOAT")


def _columns(frame: Any) -> Any:
    from pyspark.sql import functions as F  # noqa: N812 - Spark's own name for it

    event = F.from_json(F.col("value").cast("string"), SCHEMA).alias("e")
    return frame.select(event, "topic", F.col("partition").cast("int"), "offset", F.col("timestamp").alias("produced_at")).select(
        *[F.timestamp_millis("e.occurred_at").alias(f) if f == "occurred_at" else f"e.{f}" for f in FIELDS], "topic", "partition", "offset", "produced_at")


def _writer(url: str, form: str) -> Any:
    table, bytes_table, fields = TABLE, BYTES_TABLE, FIELDS

    def write(batches: Iterator[Any]) -> Iterator[Any]:
        import clickhouse_connect
        import pyarrow as pa

        found = [b for b in batches if b.num_rows]
        rows = sum(b.num_rows for b in found)
        if found:
            there = clickhouse_connect.get_client(dsn=url, compress=False, autogenerate_session_id=False)
            if form == "raw":
                there.raw_insert(bytes_table, fields, b"\n".join(v for b in found for v in b.column(0).to_pylist()), fmt="JSONEachRow")
            else:
                there.insert_arrow(table, pa.Table.from_batches(found))
            there.close()
        yield pa.RecordBatch.from_pydict({"rows": pa.array([rows], pa.int64())})

    return write


def main(form: str, checkpoint: str, jars: str) -> None:
    """Run until the race is over."""
    from pyspark.sql import SparkSession

    told = Told()
    builder = SparkSession.builder.master(SETTINGS["master"]).appName("race").config("spark.jars", jars)
    for name, value in SETTINGS.items():
        if name.startswith("spark."):
            builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    source = {"kafka.bootstrap.servers": os.environ["WEIR_KAFKA_BOOTSTRAP"], "subscribe": TOPIC, "startingOffsets": "earliest", "maxOffsetsPerTrigger": PER_TRIGGER}

    def shaped(frame: Any) -> Any:
        return (_columns(frame) if form == "json" else frame.select("value")).coalesce(CORES)

    def count(batches: Iterator[Any]) -> Iterator[Any]:
        import clickhouse_connect  # noqa: F401 - loaded before the race
        import pyarrow as pa

        yield pa.RecordBatch.from_pydict({"rows": pa.array([sum(b.num_rows for b in batches)], pa.int64())})

    few = {k: v for k, v in source.items() if k != "maxOffsetsPerTrigger"}
    shaped(spark.read.format("kafka").options(**few).load().limit(WARMED)).mapInArrow(count, "rows BIGINT").collect()
    write = _writer(os.environ["WEIR_CLICKHOUSE_URL"], form)

    def land(frame: Any, _number: int) -> None:
        told.fetched(time.time())
        rows = sum(r.rows for r in frame.mapInArrow(write, "rows BIGINT").collect())
        if rows:
            told.landed(rows)

    told.wait_for_go()
    query = shaped(spark.readStream.format("kafka").options(**source).load()).writeStream.foreachBatch(land).option("checkpointLocation", checkpoint).start()
    while not told.ended.wait(0.2) and query.isActive:
        pass
    if query.exception():
        raise SystemExit(str(query.exception()))
    query.stop()
    spark.stop()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3])

-- Ranges of offsets whose landed rows were checked against Kafka and the ledger (docs/decisions/0017-marks.md). The windows of a topic partition follow
-- one another without a hole; the end of its last one is its mark. Written by `python -m weir.quality.advance` alone.
CREATE TABLE IF NOT EXISTS ops.checked_windows
(
    topic LowCardinality(String),
    partition UInt16,
    first UInt64,
    next UInt64 COMMENT 'the offset after the last one of the window',
    days Map(Date, UInt64) COMMENT 'its rows by day of produced_at, as the landing table is partitioned',
    newest_at DateTime64(3, 'UTC') COMMENT 'newest produced_at of its rows; the time of the check where it has none',
    occurred_at DateTime64(3, 'UTC') COMMENT 'newest event time (events) or commit time (changes) of its rows; 1970 where it has none',
    checked_at DateTime64(3, 'UTC') COMMENT 'the oldest of the last checks of its parts',
    fault String COMMENT 'what is wrong with it; empty: nothing',
    written_at DateTime64(6, 'UTC')
)
ENGINE = ReplacingMergeTree(written_at)
ORDER BY (topic, partition, first)
TTL toDateTime(newest_at) + INTERVAL ${landing_days} DAY;

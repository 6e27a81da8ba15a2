-- Marks of a restore, one at each restore and one when a data folder is new, and which partitions have been compared with Kafka's commits since
-- (src/weir/ingest/rejoin.py). They outlast every record that Kafka holds, and so all that there is to compare.
CREATE TABLE IF NOT EXISTS landing.restores
(
    id String,
    at DateTime64(6, 'UTC'),
    kind Enum8('restored' = 1, 'rejoined' = 2),
    landing LowCardinality(String) COMMENT 'empty for restored',
    topic LowCardinality(String),
    partition UInt16,
    committed Int64 COMMENT 'what the group said',
    offset Int64 COMMENT 'where reading went on'
)
ENGINE = MergeTree
ORDER BY (id, landing, topic, partition)
TTL toDateTime(at) + INTERVAL ${landing_days} DAY
SETTINGS non_replicated_deduplication_window = 10000;

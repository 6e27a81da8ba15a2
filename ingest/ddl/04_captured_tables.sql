-- The register of captured tables (weir.contracts.captured): the newest document of a name counts. `captured_holds`: where ingest stopped a table, and why.
CREATE TABLE IF NOT EXISTS ops.captured_tables
(
    name String,
    at DateTime64(6, 'UTC'),
    document String
)
ENGINE = ReplacingMergeTree(at)
ORDER BY name;

CREATE TABLE IF NOT EXISTS ops.captured_holds
(
    topic String,
    partition UInt16,
    offset UInt64,
    at DateTime64(6, 'UTC'),
    why String
)
ENGINE = MergeTree
ORDER BY (topic, at)
TTL toDateTime(at) + INTERVAL ${landing_days} DAY;

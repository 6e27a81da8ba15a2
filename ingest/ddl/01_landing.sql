-- Landing tables. One insert of a batch is one block in one ClickHouse partition: the day of the record's Kafka timestamp, a function of the
-- record. The window makes a repeated token count once; it must be on every view's target too.
-- Bounded: each row goes after ${landing_days} days (src/weir/contracts/retention.py); what is worth keeping is in dbt's keyed tables by then.
CREATE TABLE IF NOT EXISTS landing.user_events
(
    topic LowCardinality(String),
    partition UInt16,
    offset UInt64,
    batch String,
    produced_at DateTime64(3, 'UTC'),
    event_id String,
    user_id Int64,
    item_id Int64,
    event_type LowCardinality(String),
    rating Nullable(Float32),
    session_id String,
    country LowCardinality(String),
    occurred_at DateTime64(3, 'UTC'),
    schema_version UInt8,
    traceparent String,
    reject_reason LowCardinality(String) COMMENT 'empty: accepted; else why it is in the quarantine, and the event columns are zero values',
    raw String COMMENT 'empty when accepted'
)
ENGINE = MergeTree
PARTITION BY toDate(produced_at)
ORDER BY (topic, partition, offset)
TTL toDateTime(produced_at) + INTERVAL ${landing_days} DAY
SETTINGS non_replicated_deduplication_window = 10000, ttl_only_drop_parts = 1;

CREATE TABLE IF NOT EXISTS landing.cdc_changes
(
    topic LowCardinality(String),
    partition UInt16,
    offset UInt64,
    batch String,
    produced_at DateTime64(3, 'UTC'),
    op LowCardinality(String),
    key String,
    before String,
    after String,
    source_lsn Nullable(UInt64),
    source_at Nullable(DateTime64(3, 'UTC')),
    tx_id Nullable(UInt64),
    snapshot LowCardinality(String),
    version UInt64 COMMENT 'orders every change of a key: topic epoch << 48 | offset in the key''s partition; above any bulk load',
    is_deleted UInt8,
    traceparent String,
    reject_reason LowCardinality(String),
    raw String
)
ENGINE = MergeTree
PARTITION BY toDate(produced_at)
ORDER BY (topic, partition, offset)
TTL toDateTime(produced_at) + INTERVAL ${landing_days} DAY
SETTINGS non_replicated_deduplication_window = 10000, ttl_only_drop_parts = 1;

CREATE TABLE IF NOT EXISTS landing.catalogue_items
(
    topic LowCardinality(String),
    partition UInt16,
    offset UInt64,
    batch String,
    produced_at DateTime64(3, 'UTC'),
    item_id Int64,
    title String,
    genres Array(String),
    release_year Int32,
    is_active UInt8,
    catalogue_version UInt64,
    updated_at DateTime64(3, 'UTC'),
    version UInt64,
    traceparent String,
    reject_reason LowCardinality(String),
    raw String
)
ENGINE = MergeTree
PARTITION BY toDate(produced_at)
ORDER BY (topic, partition, offset)
TTL toDateTime(produced_at) + INTERVAL ${landing_days} DAY
SETTINGS non_replicated_deduplication_window = 10000, ttl_only_drop_parts = 1;

CREATE TABLE IF NOT EXISTS landing.user_profile_exports
(
    export_id String,
    as_of DateTime64(3, 'UTC'),
    user_id Int64,
    age Int32,
    gender String,
    occupation String,
    zip_code String,
    country String,
    preferred_genre String,
    version UInt64 COMMENT 'as_of in ms: below every CDC version, so a CDC change wins',
    loaded_at DateTime('UTC') DEFAULT now('UTC') COMMENT 'for the TTL alone, since an export may be as of long ago; no view reads it'
)
ENGINE = MergeTree
ORDER BY (export_id, user_id)
TTL loaded_at + INTERVAL ${landing_days} DAY
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS landing.quarantine
(
    topic LowCardinality(String),
    partition UInt16,
    offset UInt64,
    batch String,
    produced_at DateTime64(3, 'UTC'),
    reject_reason LowCardinality(String),
    raw String,
    traceparent String,
    contract_version UInt8 DEFAULT if(topic = 'user-events', 1, 0) COMMENT 'of the contract that it was judged by (ingest/contracts); 0: its topic has no versions'
)
ENGINE = MergeTree
PARTITION BY toDate(produced_at)
ORDER BY (topic, partition, offset)
TTL toDateTime(produced_at) + INTERVAL ${quarantine_days} DAY
SETTINGS non_replicated_deduplication_window = 10000, ttl_only_drop_parts = 1;

-- A table that stood before quarantine rows had a version: its rows are of version 1, the only one that there was. Whoever raises the version writes the old
-- rows' one down first (ALTER TABLE landing.quarantine MATERIALIZE COLUMN contract_version), then changes the default here and in the standing table.
ALTER TABLE landing.quarantine ADD COLUMN IF NOT EXISTS contract_version UInt8 DEFAULT if(topic = 'user-events', 1, 0) COMMENT 'of the contract that it was judged by (ingest/contracts); 0: its topic has no versions';

CREATE TABLE IF NOT EXISTS landing.ingest_ledger
(
    topic LowCardinality(String),
    partition UInt16,
    batch String,
    first_offset UInt64,
    last_offset UInt64,
    rows UInt64,
    rejected UInt64,
    max_produced_at DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (topic, partition, last_offset)
TTL toDateTime(max_produced_at) + INTERVAL ${landing_days} DAY
SETTINGS non_replicated_deduplication_window = 10000;

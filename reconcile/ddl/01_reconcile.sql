-- One row a cycle and table (kind `table`), mart (`mart`) or feature view (`view`): what was compared, up to which LSN it was verified, what was found.
CREATE TABLE IF NOT EXISTS ops.reconcile_cycles
(
    cycle String,
    at DateTime64(3, 'UTC'),
    kind LowCardinality(String),
    name LowCardinality(String),
    outcome Enum8('yes' = 1, 'no' = 2, 'unknown' = 3) COMMENT 'yes: the same, or repaired and seen to be the same',
    reason String,
    verified_lsn UInt64 COMMENT 'the source''s snapshot that was compared; 0 when not verified',
    verified_at DateTime64(3, 'UTC') COMMENT 'when that snapshot was taken; the epoch when not verified',
    rows_checked UInt64,
    missing UInt64,
    extra UInt64,
    doubled UInt64,
    different UInt64,
    stale UInt64,
    repaired UInt64,
    left UInt64 COMMENT 'keys that changed all the while; the next cycle checks them',
    seconds Float64
)
ENGINE = MergeTree
ORDER BY (kind, name, at)
TTL toDateTime(at) + INTERVAL 90 DAY;

ALTER TABLE ops.reconcile_cycles ADD COLUMN IF NOT EXISTS cost_s Float64 COMMENT 'of one core: own CPU and how long PostgreSQL and ClickHouse worked; 0 for a cycle by command';

-- One row a finding: the key, what was wrong, both hashes, and then what became of it. No other values of the row.
CREATE TABLE IF NOT EXISTS ops.reconcile_findings
(
    cycle String,
    at DateTime64(3, 'UTC'),
    name LowCardinality(String) COMMENT 'table, mart or feature view',
    key String,
    kind Enum8('missing' = 1, 'extra' = 2, 'doubled' = 3, 'different' = 4, 'stale' = 5),
    source_hash Nullable(UInt64),
    sink_hash Nullable(UInt64),
    verified_lsn UInt64 COMMENT 'the source''s snapshot that showed it',
    state Enum8('found' = 1, 'repaired' = 2, 'not repaired' = 3) COMMENT 'a row when it is found, and another when a repair was tried'
)
ENGINE = MergeTree
ORDER BY (name, at, key)
TTL toDateTime(at) + INTERVAL 90 DAY;

-- What was done about records in the quarantine: an audit row each, never changed. `value` is the corrected record (fix); `low` where a
-- replay's record can stand at the earliest (replay_requested); `to_offset` where it stands (replayed). They outlast
-- the record (src/weir/contracts/retention.py): without them it would be open again, and could be replayed again.
CREATE TABLE IF NOT EXISTS landing.quarantine_actions
(
    topic LowCardinality(String),
    partition UInt16,
    offset UInt64,
    at DateTime64(6, 'UTC'),
    action Enum8('fix' = 1, 'replay_requested' = 2, 'replayed' = 3, 'discard' = 4),
    who String,
    why String,
    value String,
    low UInt64,
    to_offset UInt64
)
ENGINE = MergeTree
ORDER BY (topic, partition, offset, at)
TTL toDateTime(at) + INTERVAL ${audit_days} DAY
SETTINGS non_replicated_deduplication_window = 10000;

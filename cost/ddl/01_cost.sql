-- One row a part and sample: what it used since the sample before, and what that costs an hour. Kept for thirty days.
CREATE TABLE IF NOT EXISTS ops.cost_samples
(
    sampled_at DateTime64(3, 'UTC'),
    part LowCardinality(String),
    seconds Float64 COMMENT 'length of the interval that cpu_seconds covers',
    cpu_seconds Float64,
    memory_bytes UInt64,
    memory_kind LowCardinality(String) COMMENT 'pss, or rss where the kernel does not tell the proportional set size',
    disk_bytes UInt64,
    cpu_usd_per_hour Float64,
    memory_usd_per_hour Float64,
    disk_usd_per_hour Float64,
    usd_per_hour Float64
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(sampled_at)
ORDER BY (part, sampled_at)
TTL toDateTime(sampled_at) + INTERVAL 30 DAY;

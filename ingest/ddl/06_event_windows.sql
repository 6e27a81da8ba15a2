-- What was found late, repeated or in conflict among the events of a walk below the marks (docs/decisions/0019-duplicates-and-late-events.md).
-- A window is a range of offsets in each partition; its `first` are the `next` of the window before. Written by `python -m weir.quality.advance` alone.
CREATE TABLE IF NOT EXISTS ops.event_windows
(
    topic LowCardinality(String),
    number UInt64 COMMENT 'counts the windows of the topic from 1',
    first Map(UInt16, UInt64) COMMENT 'by partition: the first offset that it looked at',
    next Map(UInt16, UInt64) COMMENT 'by partition: the offset after the last one',
    rows UInt64 COMMENT 'accepted events in it',
    oldest_at DateTime64(3, 'UTC') COMMENT 'Kafka timestamp of its oldest record, rejected ones too; 1970 where it has none',
    newest_at DateTime64(3, 'UTC'),
    late_1h UInt64 COMMENT 'events that happened more than an hour before their Kafka timestamp',
    late_1d UInt64 COMMENT 'more than a day; these are no part of one-hour windows (staging.int_item_events)',
    late_ms_max Int64,
    hours Map(DateTime('UTC'), UInt64) COMMENT 'hours restated: the hour of the event had closed at its Kafka timestamp; with how many events',
    days Map(Date, UInt64) COMMENT 'days (UTC) restated, likewise',
    back_to DateTime64(3, 'UTC') COMMENT 'repeats were sought among records from this Kafka timestamp on; 1970: the window alone',
    back_rows UInt64 COMMENT 'accepted events before the window among which repeats were sought',
    repeated UInt64 COMMENT 'events whose event_id was met before: `repeated - conflicting` of them with the same contents',
    conflicting UInt64 COMMENT 'contents under an event_id that was met before with other contents',
    again_by_user UInt64 COMMENT 'of the conflicting: other user or time, so staging.int_user_events counts the event_id once more',
    again_by_item UInt64 COMMENT 'of the conflicting: other item or minute, so staging.int_item_events counts the event_id once more',
    places Array(String) COMMENT 'partition/offset of some conflicting events',
    cost_s Float64 COMMENT 'seconds that looking took',
    checked_at DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(checked_at)
ORDER BY (topic, number)
TTL toDateTime(checked_at) + INTERVAL ${landing_days} DAY;

{{ config(
    materialized='materialized_view',
    engine='ReplacingMergeTree()',
    order_by=key_of('int_item_events'),
    partition_by='toDate(minute)',
    ttl='toDateTime(minute) + INTERVAL 2 DAY',
    settings={'non_replicated_deduplication_window': '10000', 'ttl_only_drop_parts': '1'},
    catchup=false,
    post_hook="{{ catch_up('event_id', kept='minute > now() - INTERVAL 2 DAY') }}",
) }}

SELECT
    toStartOfMinute(occurred_at) AS minute,
    item_id,
    event_id,
    occurred_at,
    event_type,
    country
FROM {{ source('landing', 'user_events') }}
-- A load of history is not for the last hour; a day each would be more partitions than one insert may touch (100), and stop ingest.
-- The bound is of the row alone, so a replay gives the same rows.
WHERE reject_reason = '' AND occurred_at > produced_at - INTERVAL 1 DAY

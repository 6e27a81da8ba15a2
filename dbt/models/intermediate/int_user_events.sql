{{ config(
    materialized='materialized_view',
    engine='ReplacingMergeTree()',
    order_by=key_of('int_user_events'),
    partition_by='toYYYYMM(occurred_at)',
    ttl=history_ttl('toDateTime(produced_at)'),
    settings={'non_replicated_deduplication_window': '10000', 'ttl_only_drop_parts': '1'},
    catchup=false,
    post_hook=["{{ bounded() }}", "{{ catch_up('event_id') }}"],
) }}

SELECT
    user_id,
    occurred_at,
    event_id,
    item_id,
    event_type,
    rating,
    session_id,
    country,
    produced_at
FROM {{ source('landing', 'user_events') }}
WHERE reject_reason = ''

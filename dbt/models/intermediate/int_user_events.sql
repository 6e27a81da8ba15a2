{{ config(
    materialized='materialized_view',
    engine='ReplacingMergeTree()',
    order_by=key_of('int_user_events'),
    partition_by='toYYYYMM(occurred_at)',
    settings={'non_replicated_deduplication_window': '10000'},
    catchup=false,
    post_hook="{{ catch_up('event_id') }}",
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

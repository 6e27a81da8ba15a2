{{ config(
    materialized='materialized_view',
    engine='AggregatingMergeTree()',
    order_by='day, country',
    partition_by='toYYYYMM(day)',
    ttl=history_ttl('day'),
    settings={'non_replicated_deduplication_window': '10000', 'ttl_only_drop_parts': '1'},
    catchup=false,
    post_hook=["{{ bounded() }}", "{{ catch_up_states() }}"],
) }}

SELECT
    toDate(occurred_at) AS day,
    CAST(country AS String) AS country,
    groupBitmapState(toUInt64(user_id)) AS users
FROM {{ source('landing', 'user_events') }}
WHERE reject_reason = ''
GROUP BY day, country

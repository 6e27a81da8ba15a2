{{ config(
    materialized='materialized_view',
    engine='ReplacingMergeTree()',
    order_by=key_of('stg_truncates'),
    settings={'non_replicated_deduplication_window': '10000'},
    catchup=false,
    post_hook="{{ catch_up(key_of('stg_truncates')) }}",
) }}

SELECT
    topic,
    version,
    ifNull(source_lsn, 0) AS source_lsn,
    coalesce(source_at, produced_at) AS changed_at,
    produced_at
FROM {{ source('landing', 'cdc_changes') }}
WHERE op = 't' AND reject_reason = ''

{{ config(
    materialized='materialized_view',
    engine='ReplacingMergeTree(version)',
    order_by=key_of('stg_catalogue_items'),
    settings={'non_replicated_deduplication_window': '10000'},
    catchup=false,
    post_hook="{{ catch_up('item_id', version='version') }}",
) }}

SELECT
    item_id,
    title,
    genres,
    release_year,
    is_active,
    catalogue_version,
    updated_at,
    version
FROM {{ source('landing', 'catalogue_items') }}
WHERE reject_reason = ''

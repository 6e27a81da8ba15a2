{{ config(
    materialized='materialized_view',
    engine='ReplacingMergeTree(version, is_deleted)',
    order_by=key_of('stg_items'),
    settings={'non_replicated_deduplication_window': '10000'},
    on_schema_change='append_new_columns',
    catchup=false,
    post_hook="{{ catch_up('item_id', version='version') }}",
) }}

WITH if(is_deleted = 1, before, after) AS doc
SELECT
    JSONExtract(key, 'item_id', 'Int64') AS item_id,
    JSONExtract(doc, 'title', 'String') AS title,
    ifNull(JSONExtract(doc, 'release_year', 'Nullable(Int32)'), 0) AS release_year,
    JSONExtract(doc, 'genres', 'Array(String)') AS genres,
    JSONExtract(doc, 'is_active', 'Bool') AS is_active,
    coalesce(source_at, produced_at) AS changed_at,
    version,
    is_deleted,
    source_lsn,
    produced_at
FROM {{ source('landing', 'cdc_changes') }}
WHERE topic = 'shop.public.items' AND op IN ('c', 'u', 'd', 'r') AND reject_reason = ''

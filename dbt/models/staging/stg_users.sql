{{ config(
    materialized='materialized_view',
    engine='ReplacingMergeTree(version, is_deleted)',
    order_by=key_of('stg_users'),
    settings={'non_replicated_deduplication_window': '10000'},
    on_schema_change='append_new_columns',
    catchup=false,
    post_hook="{{ catch_up('user_id', version='version') }}",
) }}

-- cdc:begin
WITH if(is_deleted = 1, before, after) AS doc
SELECT
    JSONExtract(key, 'user_id', 'Int64') AS user_id,
    JSONExtract(doc, 'age', 'Int32') AS age,
    JSONExtract(doc, 'gender', 'String') AS gender,
    JSONExtract(doc, 'occupation', 'String') AS occupation,
    JSONExtract(doc, 'zip_code', 'String') AS zip_code,
    JSONExtract(doc, 'country', 'String') AS country,
    ifNull(JSONExtract(doc, 'preferred_genre', 'Nullable(String)'), '') AS preferred_genre,
    coalesce(source_at, produced_at) AS changed_at,
    version,
    is_deleted,
    source_lsn,
    produced_at
FROM {{ source('landing', 'cdc_changes') }}
WHERE topic = 'shop.public.users' AND op IN ('c', 'u', 'd', 'r') AND reject_reason = ''
-- cdc:end
UNION ALL

-- bulk:begin
SELECT
    user_id,
    age,
    gender,
    occupation,
    zip_code,
    country,
    preferred_genre,
    as_of AS changed_at,
    version,
    toUInt8(0) AS is_deleted,
    CAST(NULL AS Nullable(UInt64)) AS source_lsn,
    as_of AS produced_at
FROM {{ source('landing', 'user_profile_exports') }}
-- bulk:end

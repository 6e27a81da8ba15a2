{{ config(materialized='view') }}

SELECT *
FROM {{ current(ref('stg_items'), versioned=true) }}
WHERE {{ after_truncate(ref('stg_truncates'), 'shop.public.items') }}

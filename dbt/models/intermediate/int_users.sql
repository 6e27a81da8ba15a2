{{ config(materialized='view') }}

SELECT *
FROM {{ current(ref('stg_users'), versioned=true) }}
WHERE {{ after_truncate(ref('stg_truncates'), 'shop.public.users') }}

{{ config(materialized='view') }}

SELECT
    day,
    country,
    toInt64(groupBitmapMerge(users)) AS users
FROM {{ ref('int_active_users') }}
GROUP BY day, country

{{ config(materialized='table', order_by='day, country', settings={'non_replicated_deduplication_window': '0'}) }}

SELECT
    toDate(occurred_at) AS day,
    toString(country) AS country,
    toInt64(uniqExact(user_id)) AS users
FROM {{ ref('int_user_events') }} FINAL
GROUP BY day, country

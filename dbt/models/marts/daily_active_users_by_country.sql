{{ config(materialized='table', order_by='day, country', settings={'non_replicated_deduplication_window': '0'}) }}

SELECT
    toDate(occurred_at) AS day,
    CAST(country, 'String') AS country,
    toInt64(uniqExact(user_id)) AS users
FROM {{ final(ref('int_user_events')) }}
GROUP BY day, country

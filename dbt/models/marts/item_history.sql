{{ config(materialized='table', order_by='item_id', settings={'non_replicated_deduplication_window': '0'}) }}

SELECT
    item_id,
    toInt64(count()) AS interactions,
    toInt64(uniqExact(user_id)) AS unique_users,
    ifNull(toFloat64(avg(rating)), 0.) AS rating_avg,
    ifNull(toFloat64(quantileExactInclusive(0.5)(rating)), 0.) AS rating_median,
    max(occurred_at) AS event_timestamp
FROM {{ current(ref('int_user_events')) }}
GROUP BY item_id

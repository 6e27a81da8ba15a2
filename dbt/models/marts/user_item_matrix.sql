{{ config(materialized='table', order_by='user_id, item_id', settings={'non_replicated_deduplication_window': '0'}) }}

SELECT
    user_id,
    item_id,
    toInt64(count()) AS interactions,
    ifNull(toFloat64(avg(rating)), 0.) AS rating_avg,
    toFloat64(sum({{ confidence('event_type', 'rating') }})) AS weight,
    max(occurred_at) AS last_at
FROM {{ current(ref('int_user_events')) }}
GROUP BY user_id, item_id

{{ config(materialized='table', order_by='user_id', settings={'non_replicated_deduplication_window': '0'}) }}

SELECT
    user_id,
    toInt64(count()) AS interactions,
    toInt64(uniqExact(item_id)) AS unique_items,
    ifNull(toFloat64(avg(rating)), 0.) AS rating_avg,
    ifNull(toFloat64(stddevPop(rating)), 0.) AS rating_stddev,
    ifNull(toFloat64(quantileExactInclusive(0.5)(rating)), 0.) AS rating_median,
    toUnixTimestamp64Milli(max(occurred_at)) AS last_interaction_at_ms,
    max(occurred_at) AS event_timestamp
FROM {{ current(ref('int_user_events')) }}
GROUP BY user_id

{{ config(materialized='view') }}

SELECT
    item_id,
    toInt64(count()) AS interactions_1h,
    sum({{ event_weight('event_type') }} * {{ decay('occurred_at') }}) AS trending_score,
    max(occurred_at) AS event_timestamp
FROM {{ ref('int_item_events') }} FINAL
WHERE minute >= toStartOfMinute(now('UTC') - INTERVAL 1 HOUR) AND occurred_at > now64(3, 'UTC') - INTERVAL 1 HOUR
GROUP BY item_id

{{ config(materialized='view') }}

SELECT
    item_id,
    toInt64(count()) AS interactions_1h,
    sum({{ event_weight('event_type') }} * {{ decay('occurred_at') }}) AS trending_score,
    max(occurred_at) AS event_timestamp
FROM {{ final(ref('int_item_events')) }}
WHERE minute >= toStartOfMinute({{ moment() }} - INTERVAL 1 HOUR) AND occurred_at > {{ moment() }} - INTERVAL 1 HOUR
GROUP BY item_id

{{ config(materialized='view') }}

SELECT
    item_id,
    toInt64(count()) AS interactions_1h,
    sum({{ event_weight('event_type') }} * {{ decay('occurred_at') }}) AS trending_score,
    max(occurred_at) AS event_timestamp
FROM {{ current(ref('int_item_events')) }}
WHERE {{ in_the_last_hour() }}
GROUP BY item_id

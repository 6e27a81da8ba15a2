{{ config(materialized='view') }}

SELECT
    user_id,
    groupArray(item_id) AS item_ids,
    max(newest) AS event_timestamp
FROM (
    SELECT
        user_id,
        item_id,
        max(occurred_at) AS newest
    FROM {{ current(ref('int_user_events')) }}
    GROUP BY user_id, item_id
    ORDER BY user_id, newest DESC, item_id
    LIMIT 2000 BY user_id
)
GROUP BY user_id

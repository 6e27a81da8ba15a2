{{ config(materialized='view') }}

WITH last_events AS (
    SELECT user_id, occurred_at, event_id, item_id, event_type, session_id
    FROM {{ current(ref('int_user_events')) }}
    ORDER BY user_id, occurred_at DESC, event_id DESC
    LIMIT 100 BY user_id
)
SELECT
    user_id,
    arrayMap(x -> x.3, recent) AS recent_item_ids,
    arrayMap(x -> x.4, recent) AS recent_event_types,
    recent[1].5 AS session_id,
    toInt64(latest.2) AS session_events,
    toInt64(latest.3) AS session_items,
    (toUnixTimestamp64Milli(recent[1].1) - toUnixTimestamp64Milli(latest.4)) / 1000. AS session_duration_s,
    toUnixTimestamp64Milli(recent[1].1) AS last_event_at_ms,
    newest AS event_timestamp
FROM (
    SELECT
        user_id,
        arrayReverseSort(x -> (x.1, x.2), groupArrayArray(events)) AS recent,
        arrayFirst(x -> x.1 = recent[1].5, groupArrayArray(sessions)) AS latest,
        max(at) AS newest
    FROM (
        SELECT
            user_id,
            max(occurred_at) AS at,
            groupArray((occurred_at, event_id, item_id, toString(event_type), session_id)) AS events,
            [] AS sessions
        FROM last_events
        GROUP BY user_id
        UNION ALL
        SELECT user_id, max(began) AS at, [] AS events, groupArray((session_id, session_events, items, began)) AS sessions
        FROM (
            SELECT user_id, session_id, count() AS session_events, uniqExact(item_id) AS items, min(occurred_at) AS began
            FROM {{ current(ref('int_user_events')) }}
            GROUP BY user_id, session_id
        )
        GROUP BY user_id
    )
    GROUP BY user_id
)

{{ config(materialized='view') }}

WITH last_events AS (
    SELECT user_id, occurred_at, event_id, item_id, event_type, session_id, produced_at
    FROM {{ current(ref('int_user_events')) }}
    ORDER BY user_id, occurred_at DESC, event_id DESC
    LIMIT 100 BY user_id
)
SELECT
    user_id,
    arrayMap(x -> x.3, sorted) AS recent_item_ids,
    arrayMap(x -> x.4, sorted) AS recent_event_types,
    sorted[1].5 AS session_id,
    toInt64(length(session)) AS session_events,
    toInt64(length(arrayDistinct(arrayMap(x -> x.3, session)))) AS session_items,
    (toUnixTimestamp64Milli(session[1].1) - toUnixTimestamp64Milli(session[-1].1)) / 1000. AS session_duration_s,
    toUnixTimestamp64Milli(sorted[1].1) AS last_event_at_ms,
    newest AS event_timestamp
FROM (
    SELECT
        user_id,
        arrayReverseSort(x -> (x.1, x.2), groupArray((occurred_at, event_id, item_id, toString(event_type), session_id))) AS sorted,
        arrayFilter(x -> x.5 = sorted[1].5, sorted) AS session,
        max(occurred_at) AS newest
    FROM last_events
    GROUP BY user_id
)

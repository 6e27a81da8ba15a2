{{ config(materialized='view') }}

SELECT
    user_id,
    arrayMap(x -> x.3, recent) AS recent_item_ids,
    arrayMap(x -> x.4, recent) AS recent_event_types,
    latest.1 AS session_id,
    toInt64(latest.2) AS session_events,
    toInt64(latest.3) AS session_items,
    (toUnixTimestamp64Milli(newest) - toUnixTimestamp64Milli(latest.4)) / 1000. AS session_duration_s,
    toUnixTimestamp64Milli(newest) AS last_event_at_ms,
    newest AS event_timestamp
FROM (
    SELECT
        user_id,
        arraySlice(arrayReverseSort(x -> (x.1, x.2), arrayFlatten(groupArray(events))), 1, 100) AS recent,
        argMax((session_id, session_events, session_items, began), ended) AS latest,
        max(ended).1 AS newest
    FROM (
        SELECT
            user_id,
            session_id,
            count() AS session_events,
            uniqExact(item_id) AS session_items,
            min(occurred_at) AS began,
            max((occurred_at, event_id)) AS ended,
            arraySlice(arrayReverseSort(x -> (x.1, x.2), groupArray((occurred_at, event_id, item_id, toString(event_type)))), 1, 100) AS events
        FROM {{ current(ref('int_user_events')) }}
        GROUP BY user_id, session_id
    )
    GROUP BY user_id
)

{{ config(materialized='view') }}

WITH scored AS (
    SELECT
        arrayJoin([country, 'ALL']) AS place,
        item_id,
        sum({{ event_weight('event_type') }} * {{ decay('occurred_at') }}) AS score,
        max(occurred_at) AS newest
    FROM {{ current(ref('int_item_events')) }}
    WHERE {{ in_the_last_hour() }}
    GROUP BY place, item_id
)
SELECT
    place AS country,
    arrayMap(x -> x.2, top) AS item_ids,
    arrayMap(x -> x.1, top) AS scores,
    newest AS event_timestamp
FROM (
    SELECT place, arraySlice(arrayReverseSort(groupArray((score, item_id))), 1, 100) AS top, max(newest) AS newest
    FROM scored
    GROUP BY place
)

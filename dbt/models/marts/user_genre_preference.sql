{{ config(materialized='table', order_by='user_id', settings={'non_replicated_deduplication_window': '0'}) }}

SELECT
    user_id,
    arrayMap(x -> x.1, sorted) AS genres,
    arrayMap(x -> x.2, sorted) AS scores,
    newest AS event_timestamp
FROM (
    SELECT
        user_id,
        arrayReverseSort(x -> (x.2, x.1), groupArray((genre, share))) AS sorted,
        max(last_at) AS newest
    FROM (
        SELECT
            m.user_id AS user_id,
            genre,
            sum(m.weight) / sum(sum(m.weight)) OVER (PARTITION BY m.user_id) AS share,
            max(m.last_at) AS last_at
        FROM {{ ref('user_item_matrix') }} AS m
        INNER JOIN {{ ref('item_catalogue') }} AS c ON m.item_id = c.item_id
        ARRAY JOIN c.genres AS genre
        GROUP BY m.user_id, genre
    )
    GROUP BY user_id
)

{{ config(materialized='table', order_by='item_id, score', settings={'non_replicated_deduplication_window': '0'}) }}

WITH likes AS (
    SELECT user_id, item_id
    FROM {{ ref('user_item_matrix') }}
    WHERE rating_avg >= 4
),
counts AS (SELECT item_id, count() AS users FROM likes GROUP BY item_id)
SELECT
    pairs.item_id AS item_id,
    pairs.similar_item_id AS similar_item_id,
    pairs.together / sqrt(a.users * b.users) AS score
FROM (
    SELECT x.item_id AS item_id, y.item_id AS similar_item_id, count() AS together
    FROM likes AS x
    INNER JOIN likes AS y ON x.user_id = y.user_id
    WHERE x.item_id != y.item_id
    GROUP BY item_id, similar_item_id
    HAVING together >= 5
) AS pairs
INNER JOIN counts AS a ON pairs.item_id = a.item_id
INNER JOIN counts AS b ON pairs.similar_item_id = b.item_id
ORDER BY item_id, score DESC
LIMIT 50 BY item_id

{{ config(materialized='view') }}

SELECT
    i.item_id AS item_id,
    i.title AS title,
    if(notEmpty(c.genres), c.genres, i.genres) AS genres,
    toInt64(if(c.release_year != 0, c.release_year, i.release_year)) AS release_year,
    i.is_active AS is_active,
    greatest(i.changed_at, c.updated_at) AS event_timestamp
FROM {{ ref('int_items') }} AS i
LEFT JOIN (SELECT * FROM {{ current(ref('stg_catalogue_items'), versioned=true, deletable=false) }}) AS c ON i.item_id = c.item_id
SETTINGS join_use_nulls = 0

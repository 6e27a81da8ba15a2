{{ config(materialized='view') }}

SELECT
    user_id,
    toInt64(age) AS age,
    gender,
    occupation,
    country,
    preferred_genre,
    changed_at AS event_timestamp
FROM {{ ref('int_users') }}

{#- No two rows have the same values in all of `columns`: the grain of a mart with more than one key. -#}
{% test unique_combination(model, columns) %}
SELECT {{ columns | join(', ') }}
FROM {{ model }}
GROUP BY {{ columns | join(', ') }}
HAVING count() > 1
{% endtest %}

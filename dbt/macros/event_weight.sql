{#- Confidence of an interaction; the weights are vars and equal weir.contracts.events.EVENT_WEIGHT (a contract test compares). -#}
{% macro event_weight(column) -%}
    multiIf({{ column }} = 'rate', {{ var('weight_rate') }}, {{ column }} = 'click', {{ var('weight_click') }}, {{ var('weight_view') }})
{%- endmacro %}

{#- What one event adds to a user's and an item's weight, which the model is trained on: a rating counts by its share of five. What judges a model says the same
    (weir.training.source.events_sql; tests/oracle/test_marts.py compares their sums). -#}
{% macro confidence(column, rating) -%}
    {{ event_weight(column) }} * ifNull({{ rating }} / 5, 1.)
{%- endmacro %}

{#- Time decay of one interaction: halves every trending_half_life_s seconds. -#}
{% macro decay(column) -%}
    exp2(-(toUnixTimestamp64Milli({{ moment() }}) - toUnixTimestamp64Milli({{ column }})) / 1000. / {{ var('trending_half_life_s') }})
{%- endmacro %}

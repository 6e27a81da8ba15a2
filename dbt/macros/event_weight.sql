{#- Confidence of an interaction; the weights are vars and equal weir.contracts.events.EVENT_WEIGHT (a contract test compares). -#}
{% macro event_weight(column) -%}
    multiIf({{ column }} = 'rate', {{ var('weight_rate') }}, {{ column }} = 'click', {{ var('weight_click') }}, {{ var('weight_view') }})
{%- endmacro %}

{#- Time decay of one interaction: halves every trending_half_life_s seconds. -#}
{% macro decay(column) -%}
    exp2(-(toUnixTimestamp64Milli({{ moment() }}) - toUnixTimestamp64Milli({{ column }})) / 1000. / {{ var('trending_half_life_s') }})
{%- endmacro %}

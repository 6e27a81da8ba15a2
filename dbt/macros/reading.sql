{#- A keyed table as its keys stand now: its newest versions alone. A unit test gives rows in place of the table, which have no versions. -#}
{% macro final(relation) -%}
    {{ relation }}{{ "" if model.resource_type == "unit_test" else " FINAL" }}
{%- endmacro %}

{#- The clock of windowed marts; a unit test sets it. -#}
{% macro moment() -%}
    now64(3, 'UTC')
{%- endmacro %}

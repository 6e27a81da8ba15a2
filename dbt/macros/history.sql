{#- The TTL of a table of events: WEIR_RETENTION_HISTORY_DAYS after `moment`, never less than the landing tables' days (docs/decisions/0004). -#}
{% macro history_ttl(moment) -%}
    {%- set days = env_var("WEIR_RETENTION_HISTORY_DAYS", "730") -%}
    {%- set least = [17, env_var("WEIR_RETENTION_LANDING_DAYS", "30") | int] | max -%}
    {%- if days | int < least -%}
        {{ exceptions.raise_compiler_error("WEIR_RETENTION_HISTORY_DAYS is '" ~ days ~ "': set it to a number of days from " ~ least ~ " on, or unset it") }}
    {%- endif -%}
    {{ return(moment ~ " + INTERVAL " ~ (days | int) ~ " DAY") }}
{%- endmacro %}

{#- Bring a table that an earlier version or another retention made to the model's TTL, by whole parts; the adapter sets both at creation alone. -#}
{% macro bounded() -%}
{%- if execute -%}
    {%- set wanted = config.get("ttl") | replace("INTERVAL ", "toIntervalDay(") | replace(" DAY", ")") -%}
    {%- set engine = one_value("SELECT engine_full FROM system.tables WHERE database = '" ~ this.schema ~ "' AND name = '" ~ this.identifier ~ "'") -%}
    {%- if ("TTL " ~ wanted) not in engine -%}
        {%- call statement("lose whole parts") -%} ALTER TABLE {{ this }} MODIFY SETTING ttl_only_drop_parts = 1 {%- endcall -%}
        {%- call statement("set the retention") -%} ALTER TABLE {{ this }} MODIFY TTL {{ config.get("ttl") }} {%- endcall -%}
    {%- endif -%}
{%- endif -%}
{%- endmacro %}

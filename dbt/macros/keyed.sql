{#- What makes a row one row in each keyed table: its ORDER BY, said once for the table, its readers and its catch-up. -#}
{% macro key_of(name) -%}
    {{ return({
        "int_user_events": "user_id, occurred_at, event_id",
        "int_item_events": "minute, item_id, event_id",
        "stg_users": "user_id",
        "stg_items": "item_id",
        "stg_catalogue_items": "item_id",
        "stg_truncates": "topic, version",
    }[name]) }}
{%- endmacro %}

{#-
  A keyed table as it is now: each key once, its newest version, deleted keys left out. FINAL reads tables only, so for the fixture of a unit
  test the same rule is written in plain SQL. `versioned`: the table has `version` and `is_deleted`; `deletable` false: only `version`.
-#}
{% macro current(relation, versioned=false, deletable=true) -%}
    {%- if not relation.is_cte -%} {{ relation }} FINAL
    {%- else -%}
        {%- set key = key_of(relation.identifier | replace("__dbt__cte__", "")) -%}
        (
            SELECT * FROM (SELECT * FROM {{ relation }} {% if versioned %} ORDER BY version DESC {% endif %} LIMIT 1 BY {{ key }}) AS newest
            {% if versioned and deletable %} WHERE is_deleted = 0 {% endif %}
        ) AS kept
    {%- endif -%}
{%- endmacro %}

{#- The clock of the one-hour windows; a macro, so that a unit test can hold it still (overrides). -#}
{% macro moment() -%} now64(3, 'UTC') {%- endmacro %}

{#- In the last hour: by the key's minute, then to the millisecond. -#}
{% macro in_the_last_hour() -%}
    minute >= toStartOfMinute({{ moment() }} - INTERVAL 1 HOUR) AND occurred_at > {{ moment() }} - INTERVAL 1 HOUR
{%- endmacro %}

{#-
  Whether a row of a CDC table came after the table's last TRUNCATE. The truncate's record has no key and lies on any partition, so offsets say
  nothing; its LSN does: TRUNCATE locks the table until its commit, so every change of the table has an LSN below it or above it. A row without
  an LSN (incremental snapshot) is judged by when Connect sent it, which is one producer's clock; a bulk row by its as-of time against the commit.
-#}
{% macro after_truncate(truncates, topic) -%}
    multiIf(
        version < bitShiftLeft(toUInt64(1), 48), changed_at > (SELECT max(changed_at) FROM {{ truncates }} WHERE topic = '{{ topic }}'),
        source_lsn IS NOT NULL, (bitShiftRight(version, 48), assumeNotNull(source_lsn)) > (SELECT max((bitShiftRight(version, 48), source_lsn)) FROM {{ truncates }} WHERE topic = '{{ topic }}'),
        produced_at > (SELECT max(produced_at) FROM {{ truncates }} WHERE topic = '{{ topic }}')
    )
{%- endmacro %}

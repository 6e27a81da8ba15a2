{#-
  Fill a keyed target with what landed before its view stood. The view is made first (catchup=false), then this runs: rows whose key is not in
  the target are inserted. When nothing is missing it inserts nothing, so it is safe in every build. A batch whose landing part is visible a moment
  before its view's may be inserted by both: the same key, which FINAL reads once. `key`: the columns that make a row one row; `kept`: a
  condition for what the target's TTL keeps.
-#}
{% macro catch_up(key, kept="1") -%}
    INSERT INTO {{ this }}
    SELECT * FROM (
        {{ model.compiled_code or model.raw_code }}
    ) AS landed
    WHERE {{ kept }} AND ({{ key }}) NOT IN (SELECT {{ key }} FROM {{ this }})
    SETTINGS deduplicate_insert = 'disable', insert_deduplicate = 0
{%- endmacro %}

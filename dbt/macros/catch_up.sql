{#-
  Fill a keyed target with what landed before its view stood. The view is made first (catchup=false), then this runs, once for each view: the
  target's comment keeps which views and which query it was caught up behind, so a later build, or one beside live traffic, inserts nothing.

  Exact beside live traffic, without a guess at time:
  1. wait for the inserts that run now: one that began before the view stood will not reach it, so its rows must be seen by 2;
  2. note the landed rows that the target lacks;
  3. wait again: a row may be visible in the landing table a moment before it is in the target;
  4. insert the noted rows that the target still lacks. Killed before the comment is set, the next build does it again.

  `key`: the columns that make a row one row. `version`: of a versioned target, of which only each key's newest row is owed: older ones are
  merged away there, and would look missing for ever. `kept`: a condition for what the target's TTL keeps.
-#}
{% macro catch_up(key, version=none, kept="1") -%}
{%- if execute -%}
    {%- set identity = key if version is none else key ~ ", " ~ version -%}
    {%- set mark = caught_up_mark() -%}
    {%- if comment_of_this() != mark -%}
        {%- set missing = this.incorporate(path={"identifier": this.identifier ~ "__missing"}) -%}
        {%- do settle() -%}
        {%- call statement("forget an unfinished catch-up") -%} DROP TABLE IF EXISTS {{ missing }} {%- endcall -%}
        {%- call statement("note what is missing") -%}
            CREATE TABLE {{ missing }} ENGINE = MergeTree ORDER BY tuple() AS
            SELECT * FROM (
                SELECT * FROM (
                    {{ model.compiled_code }}
                ) AS landed
                WHERE {{ kept }}
                {% if version is not none %} ORDER BY {{ version }} DESC LIMIT 1 BY {{ key }} {% endif %}
            )
            WHERE ({{ identity }}) NOT IN (SELECT {{ identity }} FROM {{ this }})
        {%- endcall -%}
        {%- if one_value("SELECT count() FROM " ~ missing) | int > 0 -%}
            {%- do settle() -%}
            {%- call statement("insert what is missing") -%}
                INSERT INTO {{ this }} SELECT * FROM {{ missing }}
                WHERE ({{ identity }}) NOT IN (SELECT {{ identity }} FROM {{ this }})
                SETTINGS insert_deduplicate = 0
            {%- endcall -%}
        {%- endif -%}
        {%- call statement("forget what was missing") -%} DROP TABLE {{ missing }} {%- endcall -%}
        {%- call statement("mark as caught up") -%} ALTER TABLE {{ this }} MODIFY COMMENT '{{ mark }}' {%- endcall -%}
    {%- endif -%}
{%- endif -%}
{%- endmacro %}

{#-
  The same for a table of states whose merge takes repeats (a set or bitmap of users, a maximum): all that landed is merged in once more, which
  changes no value that was there. Never for sums or counts. Once more under another TTL, since a longer one keeps days again that it had taken and
  that landed rows may still be of.
-#}
{% macro catch_up_states() -%}
{%- if execute -%}
    {%- set mark = caught_up_mark(config.get("ttl", "")) -%}
    {%- if comment_of_this() != mark -%}
        {%- do settle() -%}
        {%- call statement("merge in what landed") -%}
            INSERT INTO {{ this }} {{ model.compiled_code }} SETTINGS insert_deduplicate = 0
        {%- endcall -%}
        {%- call statement("mark as caught up") -%} ALTER TABLE {{ this }} MODIFY COMMENT '{{ mark }}' {%- endcall -%}
    {%- endif -%}
{%- endif -%}
{%- endmacro %}

{#- Which views fill this table and with which query: what a finished catch-up leaves as the table's comment. -#}
{% macro caught_up_mark(kept="") -%}
    {%- set views = one_value("SELECT toString(arraySort(groupArray(uuid))) FROM system.tables WHERE engine = 'MaterializedView' AND database = '"
        ~ this.schema ~ "' AND startsWith(name, '" ~ this.identifier ~ "_')") -%}
    {{ return("caught up " ~ local_md5(views ~ model.compiled_code ~ kept)) }}
{%- endmacro %}

{% macro comment_of_this() -%}
    {{ return(one_value("SELECT comment FROM system.tables WHERE database = '" ~ this.schema ~ "' AND name = '" ~ this.identifier ~ "'")) }}
{%- endmacro %}

{#-
  Wait until every insert into a landing table that runs now is over; at most a minute (an insert of ingest has a time limit of 30 s).
  One value a query: the adapter gives an answer without rows no columns either.
-#}
{% macro settle() -%}
    {%- set running = one_value("SELECT toString(groupArray(query_id)) FROM system.processes WHERE query_kind = 'Insert' AND query ILIKE '%landing%'") -%}
    {%- set state = namespace(left=0 if running == "[]" else 1) -%}
    {%- for _ in range(600) if state.left > 0 -%}
        {%- do run_query("SELECT sleep(0.1)") -%}
        {%- set state.left = one_value("SELECT count() FROM system.processes WHERE has(" ~ running ~ ", query_id)") | int -%}
    {%- endfor -%}
    {%- if state.left > 0 -%}
        {{ exceptions.raise_compiler_error("an insert into a landing table has run for more than a minute, so " ~ this ~ " can't be caught up; run dbt build again") }}
    {%- endif -%}
{%- endmacro %}

{% macro one_value(sql) -%}
    {{ return(run_query(sql).columns[0].values()[0]) }}
{%- endmacro %}

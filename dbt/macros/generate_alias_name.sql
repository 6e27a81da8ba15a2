{#-
  A table has its model's name; the model that `./weir deploy` builds beside (var `shadow`) has another, so that the standing one serves until both are exchanged.
  `shadow__` is names.SHADOW_PREFIX; it begins the name, so that no pattern of a standing table's views (`<model>_…`) takes one of those beside.
-#}
{% macro generate_alias_name(custom_alias_name=none, node=none) -%}
    {%- set own = custom_alias_name | trim if custom_alias_name else node.name -%}
    {{ "shadow__" ~ own if node.name == var("shadow", "") else own }}
{%- endmacro %}

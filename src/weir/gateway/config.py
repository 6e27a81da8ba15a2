"""What the engine is told when it opens: settings that are pinned, memory, durability, and its logs with their retention.

In: the data folder, the most bytes the engine may use, and users' roles. Out: two XML files of ClickHouse's own configuration. Keep: nothing that the
exactly-once claim rests on is inherited, since defaults changed between releases.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from weir.gateway.access import USER_TAG
from weir.gateway.accounts import ENGINE_ROLE, Accounts

# Pinned, never inherited: defaults changed between releases, and the exactly-once claim rests on these.
PINNED = {
    "async_insert": "0",
    "deduplicate_blocks_in_dependent_materialized_views": "1",
    "implicit_select": "0",
    "max_memory_usage": str(2 << 30),
    "log_queries": "1",
}

# A part is on the disk, and its name in the folder, before an insert is acknowledged; so is a merged part, since its sources are deleted
# minutes later. The engine's own logs are left out: to lose their last seconds with the power is no harm, and a sync each flush is waste.
DURABLE = {
    "fsync_after_insert": "1",
    "fsync_part_directory": "1",
    "min_rows_to_fsync_after_merge": "1",
}

# With users: settings that name a file, a URL or another parser, or hold code in a string. No right covers them, so nobody may set them.
LOCKED = (
    "additional_result_filter", "additional_table_filters", "ai_function_embedding_default_credentials", "ai_function_text_default_credentials",
    "allow_experimental_eval_table_function", "dialect", "filter", "format_avro_schema_registry_url", "format_schema", "format_schema_source",
    "format_template_resultset", "format_template_row", "input_format_record_errors_file_path", "log_queries", "order", "output_format_schema",
    "parallel_replicas_custom_key", "polyglot_dialect", "rename_files_after_processing", "s3_base", "schema_inference_hints", "select", "sort", "url_base",
)  # fmt: skip

# Tables of the engine's own that hold the text of everybody's queries, or of their errors.
PRIVATE = ("processes", "query_log", "engine_query_log", "query_views_log", "part_log", "errors", "stack_trace", "asynchronous_inserts", "warnings")

QUERY_LOG = "engine_query_log"  # behind the view system.query_log, which has the query ids that clients chose
LOGS = {QUERY_LOG: "query_log", "part_log": "part_log", "query_views_log": "query_views_log"}  # tables of `system` and the engine's sections that fill them
_RETENTION_DAYS = 3

_SERVER = """<clickhouse>
  <logger><level>none</level></logger>
  <timezone>UTC</timezone>
  <users_config>{users}</users_config>
  <max_server_memory_usage>{memory}</max_server_memory_usage>
  <mark_cache_size>67108864</mark_cache_size>
  <uncompressed_cache_size>0</uncompressed_cache_size>
  <background_pool_size>2</background_pool_size>
  <backups><allowed_path>{path}/backups/</allowed_path></backups>
  <merge_tree>{durable}</merge_tree>
{logs}
</clickhouse>
"""

_LOG = """  <{section}><database>system</database><table>{table}</table><flush_interval_milliseconds>5000</flush_interval_milliseconds>
    <ttl>event_date + INTERVAL {days} DAY DELETE</ttl><settings>fsync_after_insert=0, fsync_part_directory=0, min_rows_to_fsync_after_merge=0</settings></{section}>"""

_USERS = """<clickhouse>
  <profiles><default>{pinned}
    <constraints><max_memory_usage><max>{memory}</max></max_memory_usage>{locked}</constraints>
  </default></profiles>
  {roles}
  <users><default><password></password><profile>default</profile><quota>default</quota><networks><ip>::/0</ip></networks>{default}</default>{definer}</users>
  <quotas><default></default></quotas>
</clickhouse>
"""
_DEFINER = "<{name}><no_password/><profile>default</profile><quota>default</quota><networks><ip>::1</ip></networks><grants><query>GRANT {name}</query></grants></{name}>"


def _elements(pairs: dict[str, str]) -> str:
    return "".join(f"<{name}>{value}</{name}>" for name, value in pairs.items())


def users_xml(accounts: Accounts | None, memory_bytes: int) -> str:
    """Return the engine's users: one, under which every connection is opened, with each role granted for the gateway to choose from. Pure.

    A role that defines views is a user too, as whom the engine runs them.
    """
    if accounts is None:
        return _USERS.format(pinned=_elements(PINNED), memory=memory_bytes, locked="", roles="", default="", definer="")
    grants: dict[str, tuple[str, ...]] = {ENGINE_ROLE: ("ALL ON *.* WITH GRANT OPTION",)}
    grants |= {r.name: ("ALL ON *.* WITH GRANT OPTION",) if r.admin else r.grants for r in accounts.roles.values()}
    definer = next((r.name for r in accounts.roles.values() if r.defines_views), "")
    if definer:
        grants[definer] += (f"SET DEFINER ON {definer}",)
    roles = "".join(f"<{name}><grants>{_queries(given)}</grants></{name}>" for name, given in grants.items())
    seers = [ENGINE_ROLE, *(r.name for r in accounts.roles.values() if r.admin or r.sees_queries)]
    seen = f"hasAny(currentRoles(), {seers!r})"
    own = f"(getSetting('{USER_TAG}') != '' AND Settings['{USER_TAG}'] = getSetting('{USER_TAG}'))"  # one's own queries that run: what KILL QUERY finds
    policies = "".join(f"<{table}><filter>{seen}{f' OR {own}' if table == 'processes' else ''}</filter></{table}>" for table in PRIVATE)
    return _USERS.format(
        pinned=_elements(PINNED | ({"default_view_definer": definer} if definer else {})), memory=memory_bytes,
        locked="".join(f"<{name}><readonly/></{name}>" for name in (*LOCKED, "default_view_definer")),
        roles=f"<roles>{roles}</roles>",
        default=f"<grants>{_queries([', '.join(grants)])}</grants><databases><system>{policies}</system></databases>",
        definer=_DEFINER.format(name=definer) if definer else "",
    )  # fmt: skip


def _queries(grants: Iterable[str]) -> str:
    return "".join(f"<query>GRANT {grant}</query>" for grant in grants)


def write(path: Path, memory_bytes: int, accounts: Accounts | None = None) -> Path:
    """Write the engine's configuration into `path` and return the file to open it with."""
    users, server = path / "users.xml", path / "engine.xml"
    users.write_text(users_xml(accounts, memory_bytes))
    logs = "\n".join(_LOG.format(section=section, table=table, days=_RETENTION_DAYS) for table, section in LOGS.items())
    server.write_text(_SERVER.format(users=users.resolve(), memory=memory_bytes, path=path.resolve(), durable=_elements(DURABLE), logs=logs))
    return server

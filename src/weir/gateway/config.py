"""What the engine is told when it opens: settings that are pinned, memory, durability, and its logs with their retention.

In: the data folder, and the most bytes the engine may use. Out: two XML files of ClickHouse's own configuration. Keep: nothing that the
exactly-once claim rests on is inherited, since defaults changed between releases.
"""

from __future__ import annotations

from pathlib import Path

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

QUERY_LOG = "engine_query_log"  # behind the view system.query_log, which has the query ids that clients chose
_LOGS = ((QUERY_LOG, "query_log"), ("part_log", "part_log"), ("query_views_log", "query_views_log"))
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
    <constraints><max_memory_usage><max>{memory}</max></max_memory_usage></constraints>
  </default></profiles>
  <users><default><password></password><profile>default</profile><quota>default</quota><networks><ip>::/0</ip></networks></default></users>
  <quotas><default></default></quotas>
</clickhouse>
"""


def _elements(pairs: dict[str, str]) -> str:
    return "".join(f"<{name}>{value}</{name}>" for name, value in pairs.items())


def write(path: Path, memory_bytes: int) -> Path:
    """Write the engine's configuration into `path` and return the file to open it with."""
    users, server = path / "users.xml", path / "engine.xml"
    users.write_text(_USERS.format(pinned=_elements(PINNED), memory=memory_bytes))
    logs = "\n".join(_LOG.format(section=section, table=table, days=_RETENTION_DAYS) for table, section in _LOGS)
    server.write_text(_SERVER.format(users=users.resolve(), memory=memory_bytes, path=path.resolve(), durable=_elements(DURABLE), logs=logs))
    return server

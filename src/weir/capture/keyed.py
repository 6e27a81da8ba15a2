"""The DDL of a keyed table that `./weir table add` makes: the table, the view that feeds it from the landing table, the view its readers read. Pure.

Keep: each generation has a feed of its own, so that a new one is filled beside the one that is read, whose columns may be others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from weir.contracts import names, source_types
from weir.contracts.captured import KEYED, TRUNCATES, Captured, newest
from weir.contracts.clickhouse import literal, quoted
from weir.contracts.schema import SourceColumn
from weir.errors import ContractViolation

OURS: Final = ("version", "is_deleted", "weir_lsn", "weir_produced_at")  # columns that the keyed table adds


def check(source: str, columns: Sequence[SourceColumn], key: Sequence[str]) -> None:
    """See that a keyed table can be made.

    Raises:
        ContractViolation: a column bears the name of one of ours, or there is no key.
    """
    taken = [c.name for c in columns if c.name in OURS]
    if taken:
        raise ContractViolation(f"{source} has a column {taken[0]}, which keyed tables use themselves", hint=f"ALTER TABLE {source} RENAME COLUMN {taken[0]} TO …;")
    if not key:
        raise ContractViolation(f"{source} has no primary key", hint=f"ALTER TABLE {source} ADD PRIMARY KEY (…);")


def reads(entry: Captured, key: Sequence[str], document: str, key_document: str) -> list[str]:
    """Return the SQL of each column that the keyed table has, read from a row's document, or its key's."""
    return [source_types.read(c.name, c.type, nullable=c.nullable and c.name not in key, document=key_document if c.name in key else document) for c in entry.read]


def create(entry: Captured, key: Sequence[str]) -> list[str]:
    """Return the statements that make the keyed table and its feed, of the entry's generation and columns."""
    nullable = {c.name: c.nullable and c.name not in key for c in entry.read}
    kinds = ", ".join(f"{quoted(c.name)} {source_types.sink_type(c.type, nullable=nullable[c.name])}" for c in entry.read)
    listed = ", ".join(f"{sql} AS {quoted(c.name)}" for c, sql in zip(entry.read, reads(entry, key, "weir_doc", "weir_key"), strict=True))
    order = ", ".join(quoted(k) for k in key)
    table = (
        f"CREATE TABLE {entry.keyed} ({kinds}, version UInt64, is_deleted UInt8, weir_lsn Nullable(UInt64), weir_produced_at DateTime64(3, 'UTC')) ENGINE = ReplacingMergeTree(version, is_deleted) ORDER BY ({order})"
        f" SETTINGS non_replicated_deduplication_window = 10000 COMMENT {literal(f'keyed copy of {entry.source}; read {entry.view}')}"
    )
    feed = (
        f"CREATE MATERIALIZED VIEW {entry.keyed}_feed TO {entry.keyed} AS SELECT {listed}, weir_version AS version, weir_deleted AS is_deleted, weir_lsn, weir_produced_at FROM"
        f" (SELECT if(is_deleted = 1, before, after) AS weir_doc, key AS weir_key, version AS weir_version, is_deleted AS weir_deleted, source_lsn AS weir_lsn, produced_at AS weir_produced_at FROM {names.LANDING_CDC}"
        f" WHERE topic = {literal(entry.topic)} AND op IN ('c', 'u', 'd', 'r') AND reject_reason = '')"
    )
    return [*_TRUNCATES, table, feed]


_TRUNCATES: Final = (
    (f"CREATE TABLE IF NOT EXISTS {TRUNCATES} (topic LowCardinality(String), version UInt64, source_lsn UInt64, produced_at DateTime64(3, 'UTC'))"
     " ENGINE = ReplacingMergeTree ORDER BY (topic, version) SETTINGS non_replicated_deduplication_window = 10000"),
    (f"CREATE MATERIALIZED VIEW IF NOT EXISTS {TRUNCATES}_feed TO {TRUNCATES} AS SELECT topic, version, ifNull(source_lsn, 0) AS source_lsn, produced_at"
     f" FROM {names.LANDING_CDC} WHERE op = 't' AND reject_reason = ''"),
)


def show(entry: Captured) -> str:
    """Return the statement that has readers read the entry's generation, in one step."""
    columns = ", ".join(quoted(c.name) for c in entry.read)
    return f"CREATE OR REPLACE VIEW {entry.view} AS SELECT {columns}, version FROM {newest(entry.keyed, entry.topic if entry.barrier else '')}"


def shown(entry: Captured) -> str:
    """Return the SELECT of a row if readers read the entry's generation, of none if they read another or nothing."""
    reads = literal(f"FROM {entry.keyed} FINAL")
    return f"SELECT 1 FROM system.tables WHERE database = {literal(KEYED)} AND name = {literal(entry.name)} AND position(create_table_query, {reads}) > 0"


def generations(entry: Captured) -> str:
    """Return the SELECT of the entry's keyed tables, database.table, of whatever generation; `orders__archive__1` is none of `orders`."""
    return f"SELECT concat(database, '.', name) FROM system.tables WHERE database = {literal(KEYED)} AND match(name, {literal(f'^{re.escape(entry.name)}__[0-9]+$')})"


def drop(table: str) -> list[str]:
    """Return the statements that remove a generation, its feed first, so that nothing is written into what is gone."""
    return [f"DROP TABLE IF EXISTS {table}_feed SYNC", f"DROP TABLE IF EXISTS {table} SYNC"]

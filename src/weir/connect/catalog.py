"""PostgreSQL's catalogues: the columns of a table and its key.

In: a connection, a table's name. Out: values of `contracts.schema`. Keep: only catalogues are read.

Source: PostgreSQL's manual, 52.7 (pg_attribute) and 52.64 (pg_type).
"""

from __future__ import annotations

from typing import Any

from weir.contracts.schema import SourceColumn

_COLUMNS = """
SELECT a.attname,
  CASE WHEN coalesce(b.typtype, t.typtype) = 'e' THEN 'enum' WHEN e.typtype = 'e' THEN 'enum[]'
    WHEN b.oid IS NOT NULL THEN format_type(b.oid, t.typtypmod) ELSE format_type(a.atttypid, a.atttypmod) END,
  NOT a.attnotnull, a.attnum, CASE WHEN a.attgenerated = '' THEN coalesce(pg_get_expr(d.adbin, d.adrelid), '') ELSE '' END, a.attgenerated::text
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_type b ON b.oid = nullif(t.typbasetype, 0)
  LEFT JOIN pg_type e ON e.oid = nullif(t.typelem, 0) AND t.typcategory = 'A' LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_KEY = """
SELECT a.attname FROM pg_index i, unnest(i.indkey) WITH ORDINALITY AS k(n, o) JOIN pg_attribute a ON a.attnum = k.n
WHERE i.indrelid = to_regclass(%s) AND i.indisprimary AND a.attrelid = i.indrelid ORDER BY k.o
"""


def columns(connection: Any, table: str) -> tuple[SourceColumn, ...]:
    """Return a table's columns in order; none when there is no such table."""
    return tuple(SourceColumn(*row) for row in connection.execute(_COLUMNS, (table,)))


def key(connection: Any, table: str) -> tuple[str, ...]:
    """Return the names of the primary key's columns in the key's order."""
    return tuple(name for (name,) in connection.execute(_KEY, (table,)))

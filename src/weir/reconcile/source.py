"""PostgreSQL as reconciliation reads it: one snapshot with its LSN, buckets and rows in it, and how far the slot is.

Keep: read-only but for the signal table; a snapshot is held for a minute at most, since it holds vacuum back; every statement has a time limit.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from weir.contracts import cdc, wayback
from weir.errors import Unavailable, Undecided
from weir.reconcile.meter import Meter
from weir.reconcile.plan import KEYS, Bucket, Key, Rows, TablePlan

STATEMENT_TIMEOUT: Final = "60s"
MASK64: Final = (1 << 64) - 1

_COLUMNS = """
SELECT a.attname, CASE WHEN coalesce(b.typtype, t.typtype) = 'e' THEN 'enum'
  ELSE format_type(coalesce(nullif(t.typbasetype, 0), a.atttypid), CASE WHEN t.typbasetype = 0 THEN a.atttypmod END) END, NOT a.attnotnull
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_type b ON b.oid = nullif(t.typbasetype, 0)
WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_KEY = """
SELECT a.attname FROM pg_index i, unnest(i.indkey) WITH ORDINALITY AS k(n, o) JOIN pg_attribute a ON a.attnum = k.n
WHERE i.indrelid = %s::regclass AND i.indisprimary AND a.attrelid = i.indrelid ORDER BY k.o
"""

_WRITERS = """
SELECT virtualtransaction FROM pg_locks WHERE relation = %s::regclass AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND granted
AND mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
"""


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Turn the driver's errors into ours."""
    try:
        yield
    except psycopg.Error as error:
        raise Unavailable(f"PostgreSQL could not be asked for {what}: {str(error).strip().splitlines()[0] if str(error).strip() else error!r}",
                          hint="./weir logs postgres shows why") from error


def _bound(sql: str) -> bytes:
    """Return the plan's SQL with its keys as the driver's parameter; its own percent signs are doubled for the driver."""
    return sql.replace("%", "%%").replace(KEYS, "%(keys)s").encode()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One REPEATABLE READ snapshot. Every transaction that it sees has committed at or before `lsn`."""

    connection: Any
    lsn: int
    at_ms: int
    visible: str  # pg_snapshot as text
    meter: Meter

    def buckets(self, sql: str, keys: Sequence[str]) -> dict[int, Bucket]:
        """Return rows and sum of hashes by bucket."""
        with _told("its buckets"), self.meter.postgres():
            return {int(b): (int(n), int(h) & MASK64) for b, n, h in self.connection.execute(_bound(sql), {"keys": list(keys)})}

    def rows(self, sql: str, keys: Sequence[str]) -> Rows:
        """Return the hashes by key."""
        found: Rows = {}
        with _told("its rows"), self.meter.postgres():
            for _, key, row_hash in self.connection.execute(_bound(sql), {"keys": list(keys)}):
                found.setdefault(tuple(key), []).append(int(row_hash) & MASK64)
        return found

    def lsn_now(self) -> int:
        """Return the insert LSN of now, which is past the snapshot's."""
        with _told("its LSN"), self.meter.postgres():
            return int(self.connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()[0])

    def copied(self, sql: str) -> Iterator[Any]:
        """Yield the rows of a COPY … TO STDOUT as they come, in bytes; it may take as long as it takes."""
        with _told("its rows"), self.meter.postgres():
            self.connection.execute("SET LOCAL statement_timeout = 0")
            with self.connection.cursor().copy(sql.encode()) as lines:
                yield from lines


def text_of(lsn: int) -> str:
    """Return an LSN as PostgreSQL writes it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


class Source:
    """One database."""

    def __init__(self, dsn: str, meter: Meter | None = None) -> None:
        self._dsn, self._meter = dsn, meter or Meter()

    def _connect(self, **options: Any) -> Any:
        with _told("a connection"), self._meter.postgres():
            return psycopg.connect(self._dsn, connect_timeout=5, options=f"-c statement_timeout={STATEMENT_TIMEOUT} -c TimeZone=UTC -c application_name=weir-reconcile", **options)

    def columns(self, table: str) -> tuple[list[tuple[str, str, bool]], list[str]]:
        """Return ((name, type, nullable) of each column, names of the key's columns); enum types are `enum`, domains their base type."""
        with self._connect(autocommit=True) as c, _told(f"the columns of {table}"):
            return [(n, k, bool(null)) for n, k, null in c.execute(_COLUMNS, (table,))], [n for (n,) in c.execute(_KEY, (table,))]

    def bound(self, plan: TablePlan, low: int | None, rows: int) -> int | None:
        """Return the first key column's value of the row that is `rows` past `low`; None: there are no more than that. By the key's index."""
        name = plan.key[0].name
        past = "" if low is None else f'WHERE "{name}" > {low} '
        with self._connect(autocommit=True) as c, _told(f"the keys of {plan.table.source}"), self._meter.postgres():
            row = c.execute(f'SELECT "{name}" FROM {plan.table.source} {past}ORDER BY "{name}" OFFSET {rows - 1} LIMIT 1').fetchone()
            return None if row is None else int(row[0])

    def about(self, table: str) -> int:
        """Return about how many rows a table has, as PostgreSQL's planner estimates it; nothing of the table is read.

        Source: PostgreSQL's manual, EXPLAIN; before the first ANALYZE the planner goes by the table's pages.
        """
        with self._connect(autocommit=True) as c, _told(f"the size of {table}"), self._meter.postgres():
            return int(c.execute(f"EXPLAIN (FORMAT JSON) SELECT 1 FROM {table}").fetchone()[0][0]["Plan"]["Plan Rows"])

    def writers(self, table: str) -> set[str]:
        """Return the virtual ids of the transactions that may have written to a table and have not ended: they hold its lock until they do."""
        with self._connect(autocommit=True) as c, _told(f"who writes to {table}"), self._meter.postgres():
            return {v for (v,) in c.execute(_WRITERS, (table,))}

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Open a snapshot. The insert LSN is read after it: a commit may be seen before its record is written out."""
        with self._connect() as c:
            with _told("a snapshot"):
                c.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                seen = c.execute("SELECT pg_current_snapshot()::text").fetchone()[0]
                lsn, at_ms = c.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn, (extract(epoch FROM clock_timestamp()) * 1000)::bigint").fetchone()
            yield Snapshot(c, int(lsn), int(at_ms), seen, self._meter)

    def wait_published(self, lsn: int, deadline: float) -> None:
        """Wait until the slot is confirmed up to `lsn`: Debezium confirms what it has committed to Kafka, transaction by transaction in commit order.

        Raises:
            Undecided: the slot is gone or lost, or this took too long.
        """
        with self._connect(autocommit=True) as c, _told("the slot"):
            while True:
                row = c.execute("SELECT confirmed_flush_lsn - '0/0'::pg_lsn, wal_status FROM pg_replication_slots WHERE slot_name = %s", (cdc.SLOT,)).fetchone()
                if row is None or row[1] == "lost":
                    raise Undecided(f"replication slot {cdc.SLOT} is {'gone' if row is None else 'lost'}", hint=f"changes since then do not come by themselves: {wayback.COMMAND} brings them")
                if row[0] is not None and int(row[0]) >= lsn:
                    return
                if time.monotonic() > deadline:
                    raise Undecided(f"Debezium had not published up to {text_of(lsn)} in time", hint="./weir status shows the connector's task and the slot")
                time.sleep(0.1)

    def signal(self, identifier: str, data: str) -> None:
        """Write one execute-snapshot signal."""
        with self._connect(autocommit=True) as c, _told("the signal table"):
            c.execute(f"INSERT INTO {cdc.SIGNAL_TABLE} (id, type, data) VALUES (%s, 'execute-snapshot', %s)", (identifier, data))

    def forget_signals(self, prefix: str) -> None:
        """Delete the signals whose id begins so: they have been read."""
        with self._connect(autocommit=True) as c, _told("the signal table"):
            c.execute(f"DELETE FROM {cdc.SIGNAL_TABLE} WHERE starts_with(id, %s)", (prefix,))


def keys_of(plan: TablePlan, keys: Sequence[Key]) -> list[str]:
    """Return keys as the plan's SQL compares them."""
    return [plan.framed(k) for k in keys]

"""ClickHouse as reconciliation reads it: buckets and rows of the keyed table, keys that changed meanwhile, rows stored twice; and its evidence.

Keep: two threads and a memory limit a query, so that checking never starves serving; evidence holds keys, hashes and positions, no other values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any, Final

from weir.contracts import names
from weir.contracts.clickhouse import literal, parse, statements
from weir.contracts.events import RejectReason
from weir.errors import Unavailable
from weir.reconcile.meter import Meter
from weir.reconcile.plan import KEYS, Bucket, Key, Rows, TablePlan, visible

DDL: Final = Path(__file__).resolve().parents[3] / "reconcile" / "ddl"
LIMITS: Final = {"max_threads": 2, "max_memory_usage": 1_000_000_000, "max_execution_time": 60, "output_format_decimal_trailing_zeros": 0,
                 "max_query_size": 8_000_000}  # keys are listed in the query: CHANGED_MAX of them fit
CHANGED_MAX: Final = 20_000  # keys that changed during a cycle; more cannot be told apart from losses
DOUBLED_MAX: Final = 1_000
_CDC_OPS = "op IN ('c', 'u', 'd', 'r') AND reject_reason = ''"


def listed(keys: Sequence[str]) -> str:
    """Return framed keys as SQL literals; the first is no key, so that the list is never empty."""
    return ", ".join(literal(k) for k in ("-", *keys))


class Sink:
    """One ClickHouse."""

    def __init__(self, url: str, meter: Meter | None = None, threads: int = LIMITS["max_threads"]) -> None:
        import clickhouse_connect

        self._meter, self._limits = meter or Meter(), LIMITS | {"max_threads": threads}

        try:
            self._client: Any = clickhouse_connect.get_client(**parse(url).arguments, autogenerate_session_id=False, send_receive_timeout=90)
        except Exception as error:
            raise Unavailable(f"ClickHouse does not answer: {shorten(str(error), 200, placeholder=' …')}", hint="./weir logs clickhouse shows why") from error

    def query(self, sql: str, **parameters: Any) -> list[Sequence[Any]]:
        """Return the rows of a SELECT.

        Raises:
            Unavailable: it was refused or not answered.
        """
        try:
            with self._meter.clickhouse():
                return list(self._client.query(sql, parameters=parameters, settings=self._limits).result_rows)
        except Exception as error:
            raise Unavailable(f"ClickHouse refused or did not answer: {shorten(str(error), 300, placeholder=' …')}", hint="./weir logs clickhouse shows why") from error

    def command(self, sql: str) -> None:
        """Run a statement."""
        try:
            with self._meter.clickhouse():
                self._client.command(sql)
        except Exception as error:
            raise Unavailable(f"ClickHouse refused or did not answer: {shorten(str(error), 300, placeholder=' …')}", hint="./weir logs clickhouse shows why") from error

    def columns(self, table: str) -> dict[str, str]:
        """Return the types by column name; empty when there is no such table."""
        database, name = table.split(".")
        return dict(self.query("SELECT name, type FROM system.columns WHERE database = {d:String} AND table = {t:String}", d=database, t=name))  # type: ignore[arg-type]  # (pairs) two columns

    def buckets(self, sql: str, keys: Sequence[str]) -> dict[int, Bucket]:
        """Return rows and sum of hashes by bucket."""
        return {int(b): (int(n), int(h)) for b, n, h in self.query(sql.replace(KEYS, listed(keys)))}

    def rows(self, sql: str, keys: Sequence[str]) -> Rows:
        """Return the hashes by key."""
        found: Rows = {}
        for _, key, row_hash in self.query(sql.replace(KEYS, listed(keys))):
            found.setdefault(tuple(key), []).append(int(row_hash))
        return found

    def changed(self, plan: TablePlan, since: Mapping[int, int], snapshot: str) -> set[Key] | None:
        """Return the keys with a landed change at or past `since` (offset by partition) that the source's snapshot does not see.

        None: too many, or all, by a TRUNCATE, which has no snapshot to be seen by (PostgreSQL, 13.6 Caveats). A change whose transaction the snapshot sees is in both sides. Incremental-snapshot rows have no transaction and so are left out here.
        """
        places = " OR ".join(f"(partition = {p} AND offset >= {o})" for p, o in since.items())
        if self.query(f"SELECT 1 FROM {names.LANDING_CDC} WHERE topic = {{t:String}} AND ({places or '0'}) AND op = 't' LIMIT 1", t=plan.table.topic):
            return None
        rows = self.query(
            f"SELECT key, tx_id FROM {names.LANDING_CDC} WHERE topic = {{t:String}} AND ({places or '0'}) AND {_CDC_OPS} GROUP BY key, tx_id LIMIT {CHANGED_MAX + 1}",
            t=plan.table.topic,
        )
        if len(rows) > CHANGED_MAX:
            return None
        return {self._key(plan, text) for text, xid in rows if xid is None or not visible(int(xid), snapshot)}

    @staticmethod
    def _key(plan: TablePlan, text: str) -> Key:
        document = json.loads(text)
        return tuple(str(document[c.name]) for c in plan.key)

    def reread(self, plan: TablePlan, since: Mapping[int, int]) -> set[Key]:
        """Return the keys that an incremental snapshot has brought at or past `since`."""
        places = " OR ".join(f"(partition = {p} AND offset >= {o})" for p, o in since.items())
        rows = self.query(f"SELECT DISTINCT key FROM {names.LANDING_CDC} WHERE topic = {{t:String}} AND ({places or '0'}) AND op = 'r' AND reject_reason = ''", t=plan.table.topic)
        return {self._key(plan, r[0]) for r in rows}

    def parked(self, plan: TablePlan) -> dict[Key, str]:
        """Return the keys whose newest landed record was parked since it was too large, each with its operation: one that a snapshot read (`r`) would be parked again."""
        parked = f"SELECT key FROM {names.LANDING_CDC} WHERE topic = {{t:String}} AND reject_reason = '{RejectReason.OVERSIZED}'"
        rows = self.query(
            f"SELECT key, argMax(op, version) FROM {names.LANDING_CDC} WHERE topic = {{t:String}} AND op != 'tombstone' AND key IN ({parked}) GROUP BY key"
            f" HAVING argMax(reject_reason, version) = '{RejectReason.OVERSIZED}' LIMIT {CHANGED_MAX}", t=plan.table.topic)
        return {self._key(plan, text): str(op) for text, op in rows}

    def stored_twice(self, plan: TablePlan) -> list[Key]:
        """Return keys of which the keyed table stores one version more than once: a reader without FINAL sees two rows."""
        columns = ", ".join(f"`{c.name}`" for c in plan.key)
        texts = ", ".join(f"toString(`{c.name}`)" for c in plan.key)
        rows = self.query(
            f"SELECT [{texts}] FROM {plan.table.staging} WHERE version >= {plan.lowest} AND is_deleted = 0{plan.inside[1]} GROUP BY {columns}, version HAVING count() > 1 LIMIT {DOUBLED_MAX}")
        return [tuple(r[0]) for r in rows]

    def landed_twice(self, topic: str) -> int:
        """Return how many offsets of a topic are in the landing table more than once."""
        rows = self.query(f"SELECT count() - uniqExact(partition, offset) FROM {names.LANDING_CDC} WHERE topic = {{t:String}}", t=topic)
        return int(rows[0][0])

    def prepare(self) -> None:
        """Make the evidence tables."""
        self.command(f"CREATE DATABASE IF NOT EXISTS {names.DB_OPS} ENGINE = Atomic")
        for statement in statements(DDL):
            self.command(statement)

    def keep(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Append evidence."""
        if not rows:
            return
        try:
            self._client.insert(table, rows, column_names=list(columns))
        except Exception as error:
            raise Unavailable(f"the evidence could not be kept: {shorten(str(error), 300, placeholder=' …')}", hint="./weir logs clickhouse shows why") from error

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


FINDINGS: Final = ("cycle", "at", "name", "key", "kind", "source_hash", "sink_hash", "verified_lsn", "state")
CYCLES: Final = ("cycle", "at", "kind", "name", "outcome", "reason", "verified_lsn", "verified_at", "rows_checked", "missing", "extra", "doubled", "different", "stale",
                 "repaired", "left", "seconds", "cost_s")

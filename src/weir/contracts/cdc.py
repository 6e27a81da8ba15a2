"""Tables whose changes are captured: what each is called at the source, in Kafka and in ClickHouse; the slot, the signal table.

Keep: `connect/connectors/shop.json` and `connect/sql/shop.sql` say the same in Debezium's and PostgreSQL's words; a unit test holds them together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from weir.contracts import names

SLOT: Final = "weir"
ROLE: Final = "weir_cdc"  # what Debezium logs in as
CONNECTOR: Final = "shop"
SIGNAL_TABLE: Final = "public.weir_signal"  # rows written here tell Debezium to take an incremental snapshot
HEARTBEAT_TABLE: Final = "public.weir_heartbeat"


@dataclass(frozen=True, slots=True)
class CdcTable:
    """One captured table. `staging`: its keyed copy, a ReplacingMergeTree(version, is_deleted) whose columns bear the source's names."""

    name: str
    source: str
    topic: str
    staging: str
    standing: str  # a view of its rows as they stand: neither deleted nor truncated
    key: str = ""  # its primary key, when that is one 64-bit integer: the only field of a record's key


CDC_TABLES: Final = {
    t.name: t
    for t in (
        CdcTable("users", "public.users", names.TOPIC_CDC_USERS, names.STAGED_USERS, names.STANDING_USERS, "user_id"),
        CdcTable("items", "public.items", names.TOPIC_CDC_ITEMS, names.STAGED_ITEMS, names.STANDING_ITEMS, "item_id"),
    )
}

# Evidence of reconciliation
RECONCILE_CYCLES: Final = f"{names.DB_OPS}.reconcile_cycles"
RECONCILE_FINDINGS: Final = f"{names.DB_OPS}.reconcile_findings"

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

# A change whose record has this many bytes, the row before and after it together, is parked by ingest: Debezium has shortened, or might have shortened, long values of it, so that
# the largest row takes the stream of no other table. In `connect/connectors/shop.json` it shortens from 9 MiB on, by its own estimate, which leaves out up to an eighth of that.
CHANGE_BYTES: Final = 8 << 20
SURE_BYTES: Final = 8 << 10  # a row after its change that is shorter was not: only values of 256 KiB and more are shortened, to a 32nd where before and after have 288 MiB, which Connect cannot hold
RECORD_BYTES: Final = 64 << 20  # what a topic takes, and the producer sends: docs/reference/large-rows.md says what of a row that leaves


@dataclass(frozen=True, slots=True)
class CdcTable:
    """One captured table. `staging`: its keyed copy, a ReplacingMergeTree(version, is_deleted) whose columns bear the source's names."""

    name: str
    source: str
    topic: str
    staging: str
    standing: str  # a view of its rows as they stand: neither deleted nor truncated
    key: str = ""  # its primary key, a 64-bit integer, and the only field of a record's key; empty: added by command, see `weir.contracts.captured`


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

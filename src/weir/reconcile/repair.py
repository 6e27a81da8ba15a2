"""Repairs through the real path: Debezium reads just these keys again; a row that the source does not have is deleted by a change of ours.

In: keys of one table. Out: records in its topic. Keep: nothing is written to ClickHouse or Redis behind the path's back, so landing, staging,
marts and features all follow; a key deleted here is read again afterwards, so that one that has come back meanwhile comes back.

Signals: Debezium's documentation, "Incremental snapshots", additional-conditions.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Sequence
from typing import Any, Final

from weir.errors import Unavailable
from weir.reconcile.plan import Key, TablePlan
from weir.reconcile.source import Source
from weir.topics.client import client_settings

SIGNAL_BYTES: Final = 1900  # the signal table's `data` is varchar(2048)
KEYS_MAX: Final = 5_000  # a cycle: more is a resync, not a repair
PREFIX: Final = "weir-reconcile-"


def _document(plan: TablePlan, keys: Sequence[Key]) -> str:
    condition = {"data-collection": plan.table.source, "filter": plan.condition(keys)}
    return json.dumps({"type": "incremental", "data-collections": [plan.table.source], "additional-conditions": [condition]}, separators=(",", ":"), ensure_ascii=False)


def signals(plan: TablePlan, keys: Sequence[Key]) -> list[str]:
    """Return the documents of the signals that have these keys read again, each within SIGNAL_BYTES. Pure."""
    found: list[str] = []
    batch: list[Key] = []
    for key in keys:
        if batch and len(_document(plan, [*batch, key]).encode()) > SIGNAL_BYTES:
            found.append(_document(plan, batch))
            batch = []
        batch.append(key)
    return [*found, _document(plan, batch)] if batch else found


def key_json(plan: TablePlan, key: Key) -> bytes:
    """Return a key as Debezium's JSON converter writes it, so that it hashes to the same partition. Pure."""
    numbers = {"smallint", "integer", "bigint"}
    document = {c.name: int(t) if c.source_type in numbers else t for c, t in zip(plan.key, key, strict=True)}
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def delete_record(plan: TablePlan, now_ms: int) -> bytes:
    """Return the envelope of a delete that reconciliation makes: no LSN and no transaction, since the source made none. Pure."""
    schema, table = plan.table.source.split(".")
    return json.dumps({"op": "d", "before": None, "after": None, "ts_ms": now_ms,
                       "source": {"connector": "weir-reconcile", "schema": schema, "table": table, "ts_ms": now_ms, "snapshot": "reconcile"}}).encode()


class Repairer:
    """Sends signals and deletes."""

    def __init__(self, bootstrap: str, source: Source) -> None:
        self._bootstrap, self._source = bootstrap, source

    def read_again(self, plan: TablePlan, keys: Iterable[Key]) -> None:
        """Have Debezium read these keys again."""
        for document in signals(plan, sorted(keys)):
            self._source.signal(f"{PREFIX}{uuid.uuid4().hex}", document)

    def delete(self, plan: TablePlan, keys: Iterable[Key]) -> None:
        """Produce a delete of each key, in the partition that Kafka Connect puts it in (murmur2 of the key).

        Raises:
            Unavailable: Kafka did not take them all.
        """
        from confluent_kafka import Producer

        failed: list[Any] = []
        producer = Producer({**client_settings(self._bootstrap), "partitioner": "murmur2_random", "enable.idempotence": True})
        for key in keys:
            value = delete_record(plan, int(time.time() * 1000))
            producer.produce(plan.table.topic, value, key=key_json(plan, key), on_delivery=lambda error, _: failed.append(error) if error else None)
        if producer.flush(20) or failed:
            raise Unavailable(f"Kafka did not take the deletes of {plan.table.topic}: {failed[:1]}", hint="./weir logs kafka shows why")

    def forget(self) -> None:
        """Remove what was signalled: it has been read."""
        self._source.forget_signals(PREFIX)

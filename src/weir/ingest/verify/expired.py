"""Offsets that Kafka no longer holds: what the ledger says of them.

In: the ledger's batches, and its comparison with the landed rows. Out: what is missing from the landing table, and what cannot be told. Keep: a batch whose ledger row counts more
records than have landed has lost the difference; an offset that is in no batch was a transaction's marker or a lost record, which only Kafka could tell: unknown, unless it
is the marker of a quarantine's replay, which the audit rows name.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from weir.contracts import names
from weir.contracts.clickhouse import literal
from weir.ingest.clickhouse import ClickHouse
from weir.ingest.verify.outcome import Tally


def gaps(client: ClickHouse, topic: str, partition: int, first: int, low: int, horizon_ms: int, tally: Tally) -> None:
    """Count as unknown the offsets from `first` to below `low` that are in no batch of the ledger, from the oldest batch on that its TTL has left."""
    here = f"topic = {literal(topic)} AND partition = {partition}"
    markers = {int(line) for line in client.execute(
        f"SELECT to_offset + 1 FROM {names.QUARANTINE_ACTIONS} WHERE {here} AND action = 'replayed' AND to_offset < {low}").split()}
    oldest = client.execute(f"SELECT min(first_offset) FROM {names.LEDGER} WHERE {here} AND toUnixTimestamp64Milli(max_produced_at) >= {horizon_ms} HAVING count() > 0")
    if not oldest.strip():
        return
    reached = max(first, int(oldest))
    for block in client.select(f"SELECT toInt64(first_offset) AS first, toInt64(last_offset) AS last FROM {names.LEDGER} "
                               f"WHERE {here} AND first_offset < {low} AND last_offset >= {first} ORDER BY first_offset"):
        begins = block.column("first").to_numpy()
        through = np.maximum.accumulate(np.concatenate([[reached], block.column("last").to_numpy() + 1]))
        for index in np.flatnonzero(begins > through[:-1]).tolist():
            _untold(int(through[index]), int(begins[index]), partition, markers, tally)
        reached = int(through[-1])
    _untold(reached, low, partition, markers, tally)


def _untold(first: int, after: int, partition: int, markers: set[int], tally: Tally) -> None:
    inside = sorted(m for m in markers if first <= m < after)
    for begin, end in zip([first, *(m + 1 for m in inside)], [*inside, after], strict=True):
        if begin < end:
            tally.of(partition, "unknown").add_range(begin, end - 1, end - begin)


def missing(owed: Any, found: Any, low: Any, tally: Tally) -> None:
    """Count as missing what batches below `low` (by partition) have in the ledger and not in the landing table. Where in its range is not known: the range is told.

    `owed`, `found`: DIGEST rows of the ledger's bucket; of a batch that is booked more than once the largest row counts.
    """
    landed, booked = (side[side["last"] < low[side["partition"]]] for side in (owed, found))
    _, inverse = np.unique(np.concatenate([landed["key"], booked["key"]]).view("V16").ravel(), return_inverse=True)
    mine, theirs = inverse[: len(landed)], inverse[len(landed) :]
    size = int(inverse.max()) + 1 if len(inverse) else 0
    there, wanted = np.zeros(size, np.int64), np.zeros(size, np.int64)
    np.add.at(there, mine, landed["rows"])
    np.maximum.at(wanted, theirs, booked["rows"])
    for number in np.flatnonzero(wanted > there).tolist():
        batch = max(booked[theirs == number], key=lambda row: int(row["rows"]))
        tally.of(int(batch["partition"]), "missing").add_range(int(batch["first"]), int(batch["last"]), int(wanted[number] - there[number]))

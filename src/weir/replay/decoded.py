"""The range decoded again into the landing table beside, and held to Kafka once more, outside ClickHouse.

In: Kafka's records of the range, the ledger. Out: rows beside, then counts, hashes and faults by partition. Keep: a row keeps the batch that the ledger books its offset under, so
batches stay what they were; the second reading shares nothing with the first but the decoder.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa

from weir.contracts import names
from weir.contracts.clickhouse import literal
from weir.errors import ContractViolation, Transient
from weir.ingest.batch import DAY_MS, Batch
from weir.ingest.clickhouse import ClickHouse
from weir.ingest.decode import Decoder, arrow_stream, user_events
from weir.ingest.record import Record
from weir.ingest.verify import landing
from weir.ingest.verify.outcome import FAULTS, Tally
from weir.ingest.verify.run import chunks
from weir.replay.ranges import Span
from weir.topics.reader import Reader

BLOCK_ROWS: Final = 200_000  # as a lane's largest batch: one block, few parts
TRIES: Final = 6
PAUSE_S: Final = 0.5
_HASHED: Final = ("partition", "offset", *landing.COMPARED)


@dataclass(slots=True)
class Partition:
    """What was decoded of one partition: records by verdict, and the hash of its rows (the sum of each row's, modulo 2^64, so in any order)."""

    span: Span
    records: int = 0
    quarantined: int = 0
    skipped: int = 0  # produced before the horizon: left as they are
    hash: int = 0

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"from": self.span.first, "to": self.span.after, "records": self.records, "accepted": self.records - self.quarantined, "quarantined": self.quarantined,
                "skipped": self.skipped, "hash": f"{self.hash:016x}"}


@dataclass
class Decoded:
    """The range beside. `run_id`: names its inserts, and the batch of rows that the ledger books under none; `told`: records done, as they are."""

    reader: Reader
    client: ClickHouse
    table: str
    spans: Mapping[int, Span]
    horizon_ms: int
    run_id: str
    told: Callable[[int], None] = lambda _records: None
    topic: str = names.TOPIC_USER_EVENTS
    decoder: Decoder = user_events
    wait: Callable[[float], None] = time.sleep
    partitions: dict[int, Partition] = field(default_factory=dict)

    def write(self) -> None:
        """Decode the range and insert it.

        Raises:
            WeirError: Kafka or ClickHouse could not.
        """
        for partition, first, after, records, skipped in self._chunks(BLOCK_ROWS):
            batches = self._booked(partition, first, after)
            days: dict[int, list[Record]] = {}
            for record in records:
                days.setdefault(record.timestamp_ms // DAY_MS, []).append(record)
            for day, mine in days.items():
                self._insert(mine, batches, f"replay-{self.run_id}-{partition}-{first}-{day}")
            self.told(len(records) + skipped)

    def _chunks(self, rows: int | None = None) -> Iterator[tuple[int, int, int, list[Record], int]]:
        for partition, span in sorted(self.spans.items()):
            for first, after, records in chunks(self.reader, (self.topic, partition), (span.first, span.after), rows):
                held = [r for r in records if r.timestamp_ms >= self.horizon_ms]
                yield partition, first, after, held, len(records) - len(held)

    def _booked(self, partition: int, first: int, after: int) -> tuple[Any, Any, list[str]]:
        """Return the batches that the ledger has of a range: first offsets, last offsets, ids."""
        text = self.client.execute(f"SELECT first_offset, last_offset, batch FROM {names.LEDGER} WHERE topic = {literal(self.topic)} AND partition = {partition} "
                                   f"AND last_offset >= {first} AND first_offset < {after} ORDER BY first_offset, last_offset")
        rows = [line.split("\t") for line in text.splitlines()]
        return np.array([int(r[0]) for r in rows], np.int64), np.array([int(r[1]) for r in rows], np.int64), [r[2] for r in rows]

    def _insert(self, records: list[Record], booked: tuple[Any, Any, list[str]], token: str) -> None:
        batch = Batch.of(records)
        table = self.decoder(batch, "")
        made = arrow_stream(table.set_column(table.column_names.index("batch"), "batch", pa.array(batches_of(batch.offset, booked, f"replay-{self.run_id}"), pa.string())))
        for attempt in range(1, TRIES + 1):
            try:
                self.client.insert(self.table, list(table.column_names), made, token, f"{token}-{attempt}")
            except Transient:
                if attempt == TRIES:
                    raise
                self.wait(PAUSE_S * attempt)
            else:
                return

    def verify(self) -> None:
        """Read the range from Kafka again and hold what stands beside to it, record by record; note counts and hashes.

        Raises:
            ContractViolation: it is not the same; says where. WeirError: it could not be read.
        """
        tally, rows = Tally(), {p: [0, 0] for p in self.spans}
        self.partitions = {p: Partition(span) for p, span in sorted(self.spans.items())}
        for partition, first, after, records, skipped in self._chunks():
            wanted = landing.owed(self.decoder(records, ""))
            found = landing.frame(self.client.select(landing.select(self.topic, partition, first, since_ms=self.horizon_ms, before=after, table=self.table)))
            landing.judge(wanted, found, partition, tally)
            at = self.partitions[partition]
            at.records += len(records)
            at.skipped += skipped
            at.quarantined += int((wanted["reject_reason"].bin.size() > 0).sum())
            at.hash = (at.hash + hashed(wanted)) & (1 << 64) - 1
            rows[partition] = [rows[partition][0] + len(found), (rows[partition][1] + hashed(found)) & (1 << 64) - 1]
            self.told(len(records) + skipped)
        for partition, at in self.partitions.items():
            faults = {k: n for k in FAULTS if (n := tally.count(k, partition))}
            if faults or rows[partition] != [at.records, at.hash]:
                said = ", ".join(f"{n} {k}" for k, n in faults.items()) or "another hash"
                raise ContractViolation(f"{self.table} is not what Kafka holds of {self.topic}/{partition}: {said} of {at.records} records", hint="run it again; the live tables serve on")


def batches_of(offsets: Any, booked: tuple[Any, Any, list[str]], other: str) -> list[str]:
    """Return the batch of each offset: the one whose range in the ledger has it, else `other`. Pure."""
    firsts, lasts, ids = booked
    if not ids:
        return [other] * len(offsets)
    at = np.searchsorted(firsts, offsets, "right") - 1
    inside = (at >= 0) & (offsets <= lasts[np.maximum(at, 0)])
    return [ids[i] if there else other for i, there in zip(at.tolist(), inside.tolist(), strict=True)]


def hashed(frame: pl.DataFrame) -> int:
    """Return the sum of the rows' hashes modulo 2^64. Pure."""
    return int(frame.select(_HASHED).hash_rows(7).to_numpy().sum(dtype=np.uint64)) if len(frame) else 0

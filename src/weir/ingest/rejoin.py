"""After ClickHouse was restored: where each partition is read on, so that nothing is lost and nothing doubled.

The group's commits stand in Kafka and do not go back with the tables. So a restore leaves a mark in `landing.restores` (and so does the first start of an
empty data folder), and a lane that is assigned a partition for the first time since compares what the group committed with what the tables hold.

In: commits, the ledger, Kafka's bounds. Out: commits to go on from. Keep: what the tables hold is never read again, what they do not hold always is, while Kafka
has it; what Kafka no longer has is a refusal that names it; a batch that was declared and is in part beyond the tables is dropped for all of its partitions,
whoever owns them; without a mark nothing is asked and nothing changes.

Rests on: the cut of a backup is one moment (weir.gateway.snapshot), so the tables hold of each partition a prefix, and of each batch all or nothing; the
ledger outlasts what Kafka may hold (weir.contracts.retention).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from weir.contracts import names
from weir.contracts.clickhouse import literal
from weir.errors import ContractViolation
from weir.ingest.intent import Intent, decode
from weir.ingest.lane import Entry, Log, Partition, Sink

NEW: Final = "new"  # the mark of a data folder that began empty
log = logging.getLogger("weir.ingest.rejoin")

_HINT = (
    "to go on without them: stop the workers, and set the group's offset of the partition to the first that Kafka has "
    "(docs/decisions/0001, 'records that are gone'); a captured table is made whole again by ./weir table resync"
)


class Bounded(Log, Protocol):
    """A log that knows its ends."""

    def bounds(self, partitions: Iterable[Partition]) -> dict[Partition, tuple[int, int]]:
        """Return the first offset that each holds, and the one after its last."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One partition: what is committed, what Kafka holds (`low` to before `high`), and up to before which offset the tables have it (None: nothing)."""

    offset: int
    metadata: str
    low: int
    high: int
    through: int | None


def _rewound(s: Standing) -> bool:
    """Say whether the group is beyond the tables. A commit at Kafka's very beginning is not: it says to begin there, whatever came before."""
    return s.offset > (s.low if s.through is None else s.through) and s.offset != s.low


def _check(partition: Partition, s: Standing) -> None:
    name = f"{partition[0]}/{partition[1]}"
    if s.through is not None and s.through > s.high:
        raise ContractViolation(
            f"the restored tables hold {name} through offset {s.through - 1}, and it ends before {s.high}: the topic was made anew, or Kafka was restored from earlier",
            hint="restore Kafka of the same time (./weir backup --whole), or read docs/decisions/0001, 'records that are gone'",
        )
    first = s.through or 0
    if _rewound(s) and first < s.low:
        raise ContractViolation(f"{name}, offsets {first} to {s.low - 1}, are neither in the restored tables nor in Kafka, which begins at {s.low}", hint=_HINT)


def _dropped(intent: Intent, standing: Mapping[Partition, Standing]) -> bool:
    """Say whether a declared batch is not to be replayed: some partition of it is read again from before it, or has forgotten it already."""
    sides = [(r, standing[r.topic, r.partition]) for r in intent.ranges]
    if any(s.through is not None and s.through > r.last for r, s in sides):
        return False  # it had been inserted when the backup was made
    return any(_rewound(s) or decode(s.metadata) != intent for _, s in sides)


def settle(mine: Iterable[Partition], standing: Mapping[Partition, Standing]) -> dict[Partition, Entry]:
    """Return what should stand committed of `mine`. Pure. `standing` has each of them, and each partition of a batch that they declare.

    Raises:
        ContractViolation: records are gone, or the topic is another one; names them.
    """
    found: dict[Partition, Entry] = {}
    for partition in mine:
        s = standing[partition]
        _check(partition, s)
        intent = decode(s.metadata)
        through = s.low if s.through is None else s.through
        last = next((r.last for r in intent.ranges if (r.topic, r.partition) == partition), None) if intent else None
        keep = intent is not None and not _dropped(intent, standing) and (last is None or through <= last + 1)
        if keep:
            found[partition] = (s.offset, s.metadata)
        elif _rewound(s) or (s.through is not None and through > s.offset):
            found[partition] = (through, "")
        else:
            found[partition] = (s.offset, "")
    return found


class Rejoin:
    """One lane's comparison."""

    def __init__(self, table: str, topics: Bounded, sink: Sink, told: Callable[[Partition, int, int], None] = lambda *_: None) -> None:
        self._table, self._log, self._sink, self._told = table, topics, sink, told

    def __call__(self, found: Mapping[Partition, Entry]) -> dict[Partition, Entry]:
        """Return the commits to go on from, having made them and noted that it was done.

        Raises:
            ContractViolation: see `settle`. Whatever Kafka or ClickHouse raises.
        """
        mark, done = self._marks()
        due = sorted(set(found) - done)
        if not mark or not due:
            return dict(found)
        entries = dict(found)
        intents = [i for p in due if (i := decode(found[p][1])) is not None]
        others = {(r.topic, r.partition) for i in intents for r in i.ranges} - set(found)
        entries |= self._log.committed(others) if others else {}
        bounds, through = self._log.bounds(entries), self._through(entries)
        standing = {p: Standing(*entry, *bounds[p], through.get(p)) for p, entry in entries.items()}
        settled = settle(due, standing)
        changed = {p: entry for p, entry in settled.items() if entry != found[p]}
        if changed:
            self._log.commit(changed)
        for p, (offset, _) in changed.items():
            if offset != found[p][0]:
                log.warning("%s: %s/%d is read on from %d, where the restored tables end; the group had committed %d", self._table, *p, offset, found[p][0])
                self._told(p, found[p][0], offset)
        self._note(mark, {p: (found[p][0], settled[p][0]) for p in due})
        return dict(found) | settled

    def _marks(self) -> tuple[str, set[Partition]]:
        """Return the newest mark and the partitions of this lane that were compared since."""
        text = self._sink.execute(
            f"SELECT id, kind = 'rejoined' AND landing = {literal(self._table)}, topic, partition FROM {names.RESTORES} "
            f"WHERE id = (SELECT argMaxIf(id, at, kind = 'restored') FROM {names.RESTORES})"
        )
        rows = [line.split("\t") for line in text.splitlines()]
        return rows[0][0] if rows else "", {(topic, int(partition)) for _, ours, topic, partition in rows if ours == "1"}

    def _through(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Return the offset after the last that the ledger, or the landing table itself, has of each partition; those that have none are left out."""
        topics = ", ".join(literal(t) for t in sorted({t for t, _ in partitions}))
        text = self._sink.execute(
            f"SELECT topic, partition, max(last) + 1 FROM (SELECT topic, partition, last_offset AS last FROM {names.LEDGER} WHERE topic IN ({topics}) "
            f"UNION ALL SELECT topic, partition, max(offset) AS last FROM {self._table} WHERE topic IN ({topics}) GROUP BY topic, partition) GROUP BY topic, partition"
        )
        return {(topic, int(partition)): int(after) for topic, partition, after in (line.split("\t") for line in text.splitlines())}

    def _note(self, mark: str, moved: Mapping[Partition, tuple[int, int]]) -> None:
        rows = " UNION ALL ".join(  # not VALUES: a role's settings may allow no expression there
            f"SELECT {literal(mark)}, now64(6, 'UTC'), 'rejoined', {literal(self._table)}, {literal(t)}, {p}, {committed}, {offset}" for (t, p), (committed, offset) in moved.items()
        )
        self._sink.execute(f"INSERT INTO {names.RESTORES} (id, at, kind, landing, topic, partition, committed, offset) {rows}")

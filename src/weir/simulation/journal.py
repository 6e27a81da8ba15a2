"""The producer's journal of one load: what the broker acknowledged once it is complete, in a form that an oracle can compare without order.

In: acknowledged ids. Out: a small JSON file, replaced atomically. Keep: `now_ms` and `seed` are written before the first record, so that an
interrupted load goes on with the same events.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

_MODULUS: Final = 1 << 64


@dataclass
class Journal:
    """`produced`: good events, `bad`: bad ones, `id_sum`: see `note`; `failed`: refused by the broker, or not acknowledged in time; `complete`: none was, so all were acknowledged.

    `again`: how many loads this one comes after, whose events it does not repeat. `repeated`: good events sent a second time (not in `produced`); `late`: good events whose time is a minute or more before their record's.
    """

    seed: int
    now_ms: int
    produced: int = 0
    bad: int = 0
    failed: int = 0
    id_sum: int = 0
    repeated: int = 0
    late: int = 0
    complete: bool = False
    again: int = 0

    def note(self, event_id: str) -> None:
        """Count an event. `id_sum` adds the first 64 bits of the UUIDs modulo 2^64, as ClickHouse's sum over UInt64 does."""
        self.produced += 1
        self.id_sum = (self.id_sum + int(event_id[:8] + event_id[9:13] + event_id[14:18], 16)) % _MODULUS

    def note_all(self, count: int, id_sum: int) -> None:
        """Count `count` events whose ids' first 64 bits add up to `id_sum`."""
        self.produced += count
        self.id_sum = (self.id_sum + id_sum) % _MODULUS

    def save(self, path: Path) -> None:
        """Write the journal; a reader sees the old or the new file, never a part."""
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(json.dumps(asdict(self)))
        new.replace(path)


# The same sum asked of the landing table; compare with `Journal.id_sum`.
ID_SUM_SQL: Final = "sum(reinterpretAsUInt64(reverse(unhex(substring(replaceAll(event_id, '-', ''), 1, 16)))))"


def load(path: Path) -> Journal | None:
    """Return the journal at `path`, or None when there is none."""
    return Journal(**json.loads(path.read_text())) if path.exists() else None

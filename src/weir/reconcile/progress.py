"""How far the sink is: the ends of a table's topic, and whether all below them has landed.

In: Kafka. Out: offsets. Keep: joins no group and commits nothing; what ingest has committed is in the landing table and in every view on it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from weir.contracts import names
from weir.errors import Undecided
from weir.topics.reader import Reader

ASK_S: Final = 10.0


class Progress:
    """Reads offsets of the ingest group."""

    def __init__(self, bootstrap: str) -> None:
        self._reader = Reader(bootstrap, names.ingest_group(names.LANDING_CDC), patience_s=ASK_S)

    def ends(self, topic: str) -> dict[int, int]:
        """Return the end offset of each partition, of what is committed there.

        Raises:
            Unavailable: Kafka does not answer.
        """
        return {p: self._reader.bounds(topic, p)[1] for p in self._reader.partitions(topic)}

    def wait_landed(self, topic: str, ends: Mapping[int, int], deadline: float) -> None:
        """Wait until ingest has committed everything below `ends`; markers of transactions, which are never consumed, are looked at.

        Raises:
            Undecided: it took too long. Unavailable: Kafka does not answer.
        """
        left = dict(ends)
        while left:
            found = self._reader.committed(topic, list(left))
            for p, end in list(left.items()):
                at = found[p][0] if p in found else self._reader.bounds(topic, p)[0]
                if at >= end or not any(True for _ in self._reader.read({(topic, p): (at, end)})):
                    del left[p]
            if left and time.monotonic() > deadline:
                raise Undecided(f"{topic} has not landed in time in partitions {sorted(left)}", hint="is ingest running? ./weir status")
            time.sleep(0.1 if left else 0)

    def close(self) -> None:
        """Close the connection."""
        self._reader.close()

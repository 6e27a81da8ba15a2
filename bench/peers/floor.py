"""The floor: the same bytes, already on disk, inserted as JSONEachRow by the engine. No Kafka, no offsets. Run by `./weir bench race`.

In: a folder of files of newline-delimited JSON, and which share of them. Out: rows in the landing table, by ClickHouse's HTTP interface.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from peers.plain import BATCH_ROWS, BYTES_TABLE, FIELDS, client
from peers.told import Told

FORM = "the values of the topic in files, each one INSERT … FORMAT JSONEachRow over HTTP into the plain loop's Null table and its view; sent by as many processes as the others have"
SETTINGS = {"batch_rows": BATCH_ROWS, "server": "defaults"}


def main(folder: str, share: int, shares: int) -> None:
    """Send every `shares`-th file, the `share`-th first."""
    told, there = Told(), client()
    files = sorted(Path(folder).glob("*.json"))[share::shares]
    told.wait_for_go()
    for file in files:
        told.fetched(time.time())
        body = file.read_bytes()
        there.raw_insert(BYTES_TABLE, FIELDS, body, fmt="JSONEachRow")
        told.landed(body.count(b"\n"))
    told.ended.wait()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))

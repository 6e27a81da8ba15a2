"""Two sets of rows of any size compared by key, in bounded memory: digests of both sides go to files by the key's hash, then each pair of files is compared.

In: frames of the recompute and of the table. Out: differences, with the offsets of the landed rows. Keep: a row is 56 bytes on disk; a bucket holds about
`BUCKET_ROWS` rows; keys are 128 bits of hash (two of a billion keys alike: 1 in 10^20), both sides hashed by this process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

BUCKET_ROWS: Final = 500_000
BUCKETS_MOST: Final = 512
DIGEST: Final = np.dtype([("key", "<u8", 2), ("value", "<u8"), ("partition", "<i8"), ("first", "<i8"), ("last", "<i8"), ("rows", "<i8")])
_SEEDS: Final = (1, 2, 3)


def digests(frame: pl.DataFrame, key: Sequence[str], columns: Sequence[str]) -> Any:
    """Return one DIGEST a row: hash of the key, hash of all columns, and its place (a batch's `rows` are its distinct offsets on the landing side)."""
    made = np.empty(len(frame), DIGEST)
    keys = frame.select(key)
    for n, seed in enumerate(_SEEDS[:2]):
        made["key"][:, n] = keys.hash_rows(seed).to_numpy()
    made["value"] = frame.select(columns).hash_rows(_SEEDS[2]).to_numpy()
    for name in ("partition", "first", "last", "rows"):
        made[name] = frame[f"at_{name}"].to_numpy()
    return made


class Sides:
    """The digests of one table: `owed` by the landing table and `found` in it, in a folder of its own."""

    def __init__(self, folder: Path, rows: int) -> None:
        self._folder = folder
        folder.mkdir(parents=True)
        self.buckets = max(1, min(BUCKETS_MOST, rows // BUCKET_ROWS + 1))

    def add(self, side: str, made: Any) -> None:
        """Append digests to their buckets' files."""
        bucket = made["key"][:, 0] % np.uint64(self.buckets)
        order = np.argsort(bucket, kind="stable")
        made, ends = made[order], np.searchsorted(bucket[order], np.arange(self.buckets), "right")
        for number, (begin, end) in enumerate(zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)):
            if end > begin:
                with (self._folder / f"{side}.{number}").open("ab") as file:
                    file.write(made[begin:end].tobytes())

    def pairs(self) -> Iterator[tuple[Any, Any]]:
        """Yield (owed, found) of each bucket, and delete its files."""
        for number in range(self.buckets):
            paths = [self._folder / f"{side}.{number}" for side in ("owed", "found")]
            yield tuple(np.fromfile(p, DIGEST) if p.exists() else np.empty(0, DIGEST) for p in paths)  # type: ignore[misc]  # (dyn) two of two paths
            for path in paths:
                path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Differences:
    """Rows (DIGEST) of one bucket by what is wrong. `doubled`: a landed row of each such key, with how often too often; `repeated`: landed rows whose key stood before."""

    missing: Any
    unknown: Any
    different: Any
    doubled: Any
    doubled_times: Any
    repeated: Any


def compare(owed: Any, found: Any, judged: Any) -> Differences:
    """Compare two sides of a bucket. Pure.

    `judged`: mask over `owed`. A key may stand as often as it landed, with any of the landed values (a keyed table keeps one of a producer's repeats; which, is open).
    """
    keys = np.concatenate([owed["key"], found["key"]]).view("V16").ravel()
    _, inverse = np.unique(keys, return_inverse=True)
    mine, theirs = inverse[: len(owed)], inverse[len(owed) :]
    size = int(inverse.max()) + 1 if len(inverse) else 0
    landed, there = np.bincount(mine, minlength=size), np.bincount(theirs, minlength=size)
    one_of = np.full(size, -1)
    one_of[mine[::-1]] = np.arange(len(owed))[::-1]
    known = landed[theirs] > 0
    alike = np.isin(_pairs(theirs, found["value"]), _pairs(mine, owed["value"]))
    other = np.flatnonzero(known & ~alike)
    excess = np.flatnonzero((there > landed) & (landed > 0))
    order = np.lexsort((owed["first"], owed["partition"], mine))
    again = order[1:][mine[order][1:] == mine[order][:-1]] if len(order) else order
    return Differences(
        missing=owed[judged & (there[mine] == 0)], unknown=found[~known], different=owed[one_of[theirs[other]]], doubled=owed[one_of[excess]],
        doubled_times=(there - landed)[excess], repeated=owed[again],
    )


def _pairs(keys: Any, values: Any) -> Any:
    made = np.empty((len(keys), 2), "<u8")
    made[:, 0], made[:, 1] = keys, values
    return made.view("V16").ravel()

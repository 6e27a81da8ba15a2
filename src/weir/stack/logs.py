"""The end of a service's log, over its rotated files.

In: a service's name, a number of lines. Out: that many of its last lines. Keep: no more is read than they take.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from weir.stack.services import log_path
from weir.stack.supervision import LOG_OLDER

BLOCK_BYTES = 64 << 10  # some hundred lines
GROWTH = 4  # so that what is read in vain is at most a third of what is read


def tail(home: Path, name: str, lines: int = 1) -> str:
    """Return the last non-empty lines of a service's log, going on into its older files; fewer when there are no more."""
    newest = log_path(home, name)
    older = [newest.with_name(f"{newest.name}.{n}") for n in range(1, LOG_OLDER + 1)]
    span = BLOCK_BYTES
    while True:
        end = _end([newest, *older], span)
        found = [line for line in end.decode(errors="replace").splitlines() if line.strip()]
        if len(end) < span or len(found) > lines:  # one more: the first may have lost its beginning
            return "\n".join(found[-lines:])
        span *= GROWTH


def _end(newest_first: Sequence[Path], span: int) -> bytes:
    """Return the last `span` bytes of what the files hold together."""
    pieces: list[bytes] = []
    for path in newest_first:
        left = span - sum(map(len, pieces))
        if left <= 0:
            break
        try:
            with path.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - left))
                pieces.insert(0, file.read(left))
        except FileNotFoundError:  # not written yet, or rotated away meanwhile
            continue
    return b"".join(pieces)

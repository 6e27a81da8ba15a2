"""A terminal that was closed: what is said from then on goes nowhere, instead of failing what says it. The standard library only."""

from __future__ import annotations

import os
from types import FrameType


def let_go(_number: int = 0, _frame: FrameType | None = None) -> None:
    """Put /dev/null in the place of the standard streams; a handler for SIGHUP too."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)

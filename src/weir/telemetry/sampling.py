"""Which of a batch's trace contexts go on, each by a span of its own. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Final

RECORD_SPANS: Final = 64  # a batch: one event in 1,000 is sampled, and a look of the materializer has 50,000 rows; 64 spans take a few milliseconds
LINKS: Final = 128  # of one span (the SDK's limit)
_ODD: Final = frozenset("13579bdf")  # last digit of the flags: bit 0 is `sampled` (https://www.w3.org/TR/trace-context/#sampled-flag)


def sampled(traceparents: Iterable[str]) -> list[str]:
    """Return the W3C contexts whose `sampled` flag is set, once each, at most LINKS, in their own order.

    In that order, so that rooms whose batches differ choose alike: what is among the first of a batch is among the first of each part of it.
    """
    return heapq.nsmallest(LINKS, {t for t in traceparents if t[-1:] in _ODD})

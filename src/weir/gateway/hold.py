"""Writes held for a moment, so that a cut of the data folder is of one moment.

In: statements that write, as they begin and end. Out: a moment in which none runs. Keep: what runs is waited for and never stopped; a hold ends whatever
happens; what came meanwhile goes on in its turn, or gets 503 when the hold took too long. All of it belongs to one event loop: no locks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from weir.gateway.failures import busy

WAIT_S = 30.0  # for the statements that write to end; meanwhile no other begins
HELD_S = 120.0  # a statement waits at most this long for a hold to end


class Writes:
    """Counts the statements that write, and holds back new ones on demand."""

    def __init__(self) -> None:
        self.running = 0
        self._free = asyncio.Event()
        self._free.set()
        self._none = asyncio.Event()
        self._none.set()

    @property
    def held(self) -> bool:
        """Whether writes are held."""
        return not self._free.is_set()

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Run one statement that writes.

        Raises:
            Failure: 503, writes have been held for too long.
        """
        try:
            async with asyncio.timeout(HELD_S):  # and no wait_for, which goes on a turn of the loop later: a hold would begin in between
                while not self._free.is_set():
                    await self._free.wait()
        except TimeoutError:
            raise busy("Writes are held for a snapshot or an exchange") from None
        self.running += 1
        self._none.clear()
        try:
            yield
        finally:
            self.running -= 1
            if not self.running:
                self._none.set()

    @asynccontextmanager
    async def hold(self, wait_s: float = WAIT_S) -> AsyncIterator[float]:
        """Hold writes once those that run have ended; give since when no other began (seconds of time.monotonic).

        Raises:
            Failure: 503, they did not end in time, or writes are held already.
        """
        if self.held:
            raise busy("Writes are held already, for a snapshot or an exchange")
        self._free.clear()
        since = time.monotonic()
        try:
            try:
                async with asyncio.timeout(wait_s):
                    await self._none.wait()
            except TimeoutError:
                raise busy(f"{self.running} statements that write have not ended in {wait_s:g} s") from None
            yield since
        finally:
            self._free.set()

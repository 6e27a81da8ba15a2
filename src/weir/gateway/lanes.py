"""Who runs when: a short lane for every statement's first half second, and a long lane for those that take longer.

In: statements that want to run. Out: a `Ticket` each. Keep: a slot of the short lane is never held for longer than `PROMOTE_S`, whatever runs,
so a cheap statement waits for other cheap ones only; what a statement is, is decided by the time it took and never by its text. A statement
that grows old moves to the long lane. When that is full, one that only reads and has sent nothing is stopped and started again when its
turn comes; one that writes keeps running beyond the lane's slots, since to stop it would leave it half done.
All of it belongs to one event loop: no locks.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque

from weir.gateway.failures import busy

SHORT_SLOTS = 16
LONG_SLOTS = 8  # the engine shares the machine's cores among them
OPEN = 64  # statements begun and not ended, those that wait for a slow reader included: each holds memory
WAITING = 400  # clients in a queue; the next one gets 503
WAIT_S = 30.0  # in the queue of the short lane
LONG_WAIT_S = 300.0
PROMOTE_S = 0.5  # what people still call instant; a statement that is stopped loses no more than this


class ClientGoneError(Exception):
    """The client closed its connection: nobody waits for an answer."""


class Slots:
    """A counted resource, given in the order of asking."""

    def __init__(self, free: int) -> None:
        self.free = free
        self._turns: deque[asyncio.Future[None]] = deque()

    def take(self) -> bool:
        """Take one if one is free and nobody waits."""
        if self.free and not self._turns:
            self.free -= 1
            return True
        return False

    def turn(self) -> asyncio.Future[None]:
        """Return a future that is done when the caller has one."""
        turn = asyncio.get_running_loop().create_future()
        self._turns.append(turn)
        return turn

    def give(self) -> None:
        """Give one back: to the first that waits."""
        while self._turns:
            turn = self._turns.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.free += 1


class Lanes:
    """The two lanes and the queues before them. `promote_s`: seconds after which a statement is a long one."""

    def __init__(
        self,
        *,
        short: int = SHORT_SLOTS,
        long: int = LONG_SLOTS,
        opened: int = OPEN,
        waiting: int = WAITING,
        wait_s: float = WAIT_S,
        long_wait_s: float = LONG_WAIT_S,
        promote_s: float = PROMOTE_S,
    ) -> None:
        self.short, self.long, self._open = Slots(short), Slots(long), Slots(opened)
        self.promote_s = promote_s
        self._waiting_max, self._wait_s, self._long_wait_s = waiting, wait_s, long_wait_s
        self.waiting = 0
        self.beyond = 0  # long ones that hold no slot
        self._begun_s: dict[Ticket, float] = {}  # the oldest first

    async def enter(self, gone: asyncio.Future[None]) -> Ticket:
        """Wait for a slot of the short lane.

        Raises:
            Failure: the queue is full, or the wait was too long (503). ClientGoneError: `gone` ended first.
        """
        await self.wait(self._open, gone, self._wait_s)
        try:
            await self.wait(self.short, gone, self._wait_s)
        except BaseException:
            self._open.give()
            raise
        ticket = Ticket(self)
        self._begun_s[ticket] = time.monotonic()
        return ticket

    @property
    def running(self) -> int:
        """Statements begun and not ended."""
        return len(self._begun_s)

    def left(self, ticket: Ticket) -> None:
        """Note that a statement ended."""
        del self._begun_s[ticket]
        self._open.give()

    async def wait(self, slots: Slots, gone: asyncio.Future[None], seconds: float | None = None) -> None:
        """Wait for one of `slots`, at most `seconds` (the long lane's time when None), as one of at most `WAITING` clients."""
        if slots.take():
            return
        if self.waiting >= self._waiting_max:
            raise busy(f"Too many simultaneous queries: {self.running} run and {self.waiting} wait")
        turn = slots.turn()
        self.waiting += 1
        try:
            await asyncio.wait({turn, gone}, timeout=self._long_wait_s if seconds is None else seconds, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if turn.done():
                slots.give()
            raise
        finally:
            self.waiting -= 1
            ours = turn.done()
            turn.cancel()
        if gone.done():
            if ours:
                slots.give()
            raise ClientGoneError
        if not ours:
            raise busy("Too many simultaneous queries: no turn came in time")


class Ticket:
    """One statement's place: in the short lane, the long one, beyond it, or (while its reader is slow) in none."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._held: Slots | None = lanes.short
        self._beyond = self._ended = False

    @property
    def is_short(self) -> bool:
        """Whether it holds a slot of the short lane, and so must be promoted when it grows old."""
        return self._held is self._lanes.short

    def promote(self, *, restartable: bool) -> bool:
        """Move to the long lane; False: it is full, so the statement must be stopped, and `again` awaited."""
        room = self._lanes.long.take()
        if not room and restartable:
            return False
        self.pause()
        self._held = self._lanes.long if room else None
        if not room:
            self._beyond = True
            self._lanes.beyond += 1
        return True

    async def again(self, gone: asyncio.Future[None]) -> None:
        """Give up the slot and wait for one of the long lane."""
        self.pause()
        await self._lanes.wait(self._lanes.long, gone)
        self._held = self._lanes.long

    async def resume(self, gone: asyncio.Future[None]) -> None:
        """Take a slot for the next piece of an answer: of the long lane when one is free, else of the short."""
        if self._held is not None or self._beyond:
            return
        if self._lanes.long.take():
            self._held = self._lanes.long
            return
        await self._lanes.wait(self._lanes.short, gone)
        self._held = self._lanes.short

    def pause(self) -> None:
        """Give back the slot."""
        if self._held is not None:
            held, self._held = self._held, None
            held.give()
        if self._beyond:
            self._beyond = False
            self._lanes.beyond -= 1

    def leave(self) -> None:
        """End; may be called twice."""
        self.pause()
        if not self._ended:
            self._ended = True
            self._lanes.left(self)

"""How much each user may ask for in an interval: queries, and rows that they read.

In: an account when a query begins, and the rows that it read when it ended. Out: nothing, or QUOTA_EXCEEDED. Keep: intervals are aligned to the
clock, as the server's are; a query that began in time runs to its end, whatever it reads; counts end with the process.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from dataclasses import dataclass

from weir.gateway.accounts import Account
from weir.gateway.failures import failure


@dataclass(slots=True)
class _Used:
    interval: int
    queries: int = 0
    read_rows: int = 0


class Quotas:
    """The counts of one gateway. `clock` returns seconds since the epoch. Belongs to one event loop: no locks."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock, self._used = clock, {}  # type: tuple[Callable[[], float], dict[str, _Used]]

    def begin(self, account: Account) -> None:
        """Count a query.

        Raises:
            Failure: 201, the interval's share is used up.
        """
        if account.role is None:
            return
        limits, used = account.role.limits, self._now(account)
        used.queries += 1
        for what, count, most in (("queries", used.queries, limits.queries), ("read_rows", used.read_rows, limits.read_rows)):
            if most and (count > most if what == "queries" else count >= most):
                ends = dt.datetime.fromtimestamp((used.interval + 1) * limits.interval_s, dt.UTC)
                raise failure(
                    201, "QUOTA_EXCEEDED",
                    f"Quota for user `{account.name}` for {limits.interval_s}s has been exceeded: {what} = {count}/{most}. "
                    f"Interval will end at {ends:%Y-%m-%d %H:%M:%S}. Name of quota template: `{account.role.name}`",
                )  # fmt: skip

    def end(self, account: Account, read_rows: int) -> None:
        """Count what a query read."""
        if account.role is not None:
            self._now(account).read_rows += read_rows

    def _now(self, account: Account) -> _Used:
        interval = int(self._clock() // account.role.limits.interval_s) if account.role else 0
        used = self._used.get(account.name)
        if used is None or used.interval != interval:
            used = self._used[account.name] = _Used(interval)
        return used

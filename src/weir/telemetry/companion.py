"""What every process beside the services does alike: how it says and ends, and how one round of it comes out.

In: a round. Out: its outcome, one word for the counter. Keep: a part that is away is told in a line, what nobody foresaw with its traceback, and neither ends the process.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable

from weir.errors import WeirError


def begin() -> threading.Event:
    """Set the log up; return the event that SIGTERM sets."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for name in ("httpx", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    return ended


def attempt(work: Callable[[], object], log: logging.Logger) -> str:
    """Run one round; return done, put_off (a part was away, or the turn was another's) or failed."""
    try:
        work()
    except WeirError as error:
        log.info("not this time: %s", error)
        return "put_off"
    except Exception:
        log.exception("unexpected")
        return "failed"
    return "done"

"""Run one service as the supervisor's child: drop the uid, ask to be ended when the parent dies, then become the service.

Run by path (`python -I child.py …`), standard library only, since it starts before every service. Keep: no service outlives a
killed supervisor. The kernel clears the death signal when the uid changes, so the uid comes first (prctl(2), PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Become `argv`; the arguments are: uid (or -), name of the death signal, --, argv."""
    uid, name = arguments[0], arguments[1]
    command = arguments[arguments.index("--") + 1 :]
    parent = os.getppid()
    if uid != "-" and os.geteuid() == 0:
        os.setgroups([])
        os.setgid(int(uid))
        os.setuid(int(uid))
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal.Signals[name]), 0, 0, 0)
    if os.getppid() != parent:  # the supervisor died before the signal was set
        raise SystemExit(1)
    os.execvp(command[0], command)  # noqa: S606 - becoming the service is the point


if __name__ == "__main__":
    main(sys.argv[1:])

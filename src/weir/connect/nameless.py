"""A uid without an entry in the user database (`docker run --user`, `setpriv`): PostgreSQL's initdb insists on a name, the server itself does not.

In: this process's uid. Out: what initdb is run through: a user namespace of its own, in which the uid is one that has a name. Keep: the standard
library only, since the launcher reads it before there is an environment; outside the namespace, files keep their owner and processes their ids.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import subprocess
import sys
from pathlib import Path

CLONE_NEWUSER = 0x10000000  # linux/sched.h
OVERFLOW_UID = 65534  # whom the files of everybody else seem to belong to in the namespace (user_namespaces(7)): not to be mistaken for ours
REMEDY = "run as a user that has a name (getent passwd lists them), have root add a line for this uid to /etc/passwd, or allow user namespaces"


def has_name(uid: int) -> bool:
    """Say whether the user database knows `uid`."""
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def through() -> tuple[str, ...]:
    """Return the words to put before a command that must find a name for its uid: none where it has one."""
    return () if has_name(os.geteuid()) else (sys.executable, "-I", str(Path(__file__).resolve()))


def refusal() -> str:
    """Return why PostgreSQL cannot be set up under this uid, or nothing when it can: it has a name, or can be given one in a namespace (tried)."""
    uid = os.geteuid()
    if has_name(uid) or subprocess.run([*through(), "true"], capture_output=True, check=False).returncode == 0:
        return ""
    return f"PostgreSQL refuses to be set up under uid {uid}, which has no entry in the user database, and this system allows no user namespace that would give it one"


def environment(uid: int, variables: dict[str, str], home: str) -> dict[str, str]:
    """Return what `variables` lack for programs that would look a nameless uid up: who it is, and where its home is (`home`). Pure."""
    wanted = {"LOGNAME": f"uid-{uid}", "USER": f"uid-{uid}", "HOME": home}
    return {key: value for key, value in wanted.items() if not variables.get(key)}


def stand_in() -> int:
    """Return the lowest uid that has a name and is not root's, which PostgreSQL refuses.

    Raises:
        StopIteration: the user database has no such name.
    """
    return next(iter(sorted(e.pw_uid for e in pwd.getpwall() if e.pw_uid not in {0, OVERFLOW_UID})))


def enter(inside: int) -> None:
    """Move this process into a new user namespace in which its uid is `inside`; the next program that it becomes has no rights of root's there.

    Raises:
        OSError: the system does not allow it.
    """
    uid, gid = os.geteuid(), os.getegid()
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER):
        raise OSError(ctypes.get_errno(), "unshare")
    own = Path("/proc/self")
    (own / "setgroups").write_text("deny")
    (own / "uid_map").write_text(f"{inside} {uid} 1")
    (own / "gid_map").write_text(f"{gid} {gid} 1")


if __name__ == "__main__":
    enter(stand_in())
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - becomes the command that its caller gave

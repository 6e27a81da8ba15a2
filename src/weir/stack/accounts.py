"""Who the stack's services are to the embedded ClickHouse: a user each, with a password of its own.

In: WEIR_HOME. Out: passwords by user, and `users.toml` with their hashes. Keep: a password is made once, in a file of mode 0600 below `secrets`; what stands in
`users.toml` is never changed, only a user that is missing there is added; a password is in no log.
"""

from __future__ import annotations

import os
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from weir.connect.postgres import read_or_create_secret
from weir.errors import SettingsError
from weir.gateway.accounts import hashed

ADMIN, DBT, ANALYST = "admin", "dbt", "analyst"
SERVICES = ("ingest", "features", "dashboard", "otlp", "cost", "capture", "quality", "reconcile")  # each has the user and the role of its name
USERS = (ADMIN, DBT, *SERVICES, ANALYST)
_HEAD = """# Users of the embedded ClickHouse: made at the first start, and yours from then on. `python -m weir.gateway.accounts` hashes a password.
# Roles are in gateway/roles.toml; [roles.<name>] sections here are read too. The passwords of these users are in secrets/clickhouse-<user>.
"""


def passwords(home: Path) -> dict[str, str]:
    """Return the password of each user of the stack; makes those that are missing."""
    return {user: read_or_create_secret(home, f"clickhouse-{user}") for user in USERS}


def path(home: Path) -> Path:
    """Return where the users are."""
    return home / "users.toml"


def prepare(home: Path, known: Mapping[str, str]) -> None:
    """Add each of `known` (user to password) that `users.toml` has not.

    Raises:
        SettingsError: the file is no TOML.
    """
    text = path(home).read_text() if path(home).exists() else _HEAD
    try:
        there = tomllib.loads(text).get("users", {})
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path(home)} is not valid TOML: {error}", hint="correct that line, or remove the file") from error
    missing = [user for user in known if user not in there]
    if not missing:
        return
    for user in missing:
        text += f'\n[users.{user}]\nrole = "{user}"\npassword_scrypt = "{hashed(known[user])}"\n'
    descriptor, temporary = tempfile.mkstemp(dir=home)  # mode 0600; whole under another name first
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    Path(temporary).replace(path(home))


def as_user(url: str, user: str, password: str) -> str:
    """Return a URL with a user's name and password in it. Pure."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}" if user else host))

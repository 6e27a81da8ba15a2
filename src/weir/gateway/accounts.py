"""Who may ask: names, hashed passwords, roles and their limits, from TOML files.

In: files with `[roles.<name>]` and `[users.<name>]`. Out: `Accounts`, and an `Account` for a name and a password. Keep: a password is held only as its
scrypt hash (RFC 7914, hashlib.scrypt), and one that was seen to be right as a keyed digest that ends with this process; an unknown name costs
what a wrong password costs; what a file says that is not understood is an error.

`python -m weir.gateway.accounts` reads a password from standard input and prints its hash.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import sys
import threading
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weir.gateway.failures import failure

_COST = (1 << 14, 8, 1)  # n, r, p: 16 MiB and about 50 ms a guess
_KNOWN_MAX = 1024  # right passwords remembered
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_FORM = re.compile(r"scrypt\$(\d+)\$(\d+)\$(\d+)\$([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+)")
ENGINE_USER = "default"  # the engine's own name for every connection; nobody else may have it
ENGINE_ROLE = "engine"  # holds every right; the gateway's own statements run under it


@dataclass(frozen=True, slots=True)
class Limits:
    """A quota: at most this many `queries` and `read_rows` in each interval of `interval_s` seconds; 0 means no limit."""

    interval_s: int = 3600
    queries: int = 0
    read_rows: int = 0


@dataclass(frozen=True, slots=True)
class Role:
    """What a user may do.

    `grants`: the text after GRANT, ClickHouse's own; `admin`: everything; `sees_queries`: the text of everybody's queries; `defines_views`:
    refreshable views run with its rights (one role at most).
    """

    name: str
    grants: tuple[str, ...] = ()
    admin: bool = False
    sees_queries: bool = False
    defines_views: bool = False
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class Account:
    """A user who has shown the password. `role` None: there are no users, and anyone may do anything."""

    name: str
    role: Role | None = None

    @property
    def free(self) -> bool:
        """Whether nothing is withheld."""
        return self.role is None or self.role.admin


@dataclass(slots=True)
class Accounts:
    """Users and roles. `users`: name to (role, hash)."""

    roles: Mapping[str, Role]
    users: Mapping[str, tuple[str, str]]
    _known: dict[bytes, str] = field(default_factory=dict)
    _key: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    _one: threading.Lock = field(default_factory=threading.Lock)

    def _digest(self, name: str, password: str) -> bytes:
        return hmac.digest(self._key, f"{len(name)} {name}{password}".encode("utf-8", "surrogateescape"), "sha256")

    def known(self, name: str, password: str) -> Account | None:
        """Return the account if this password was seen to be right before; quick."""
        return self._account(name) if self._digest(name, password) in self._known else None

    def _account(self, name: str) -> Account:
        return Account(name, self.roles[self.users[name][0]])

    def authenticate(self, name: str, password: str) -> Account:
        """Return the account; takes as long as a hash does, one at a time, so that guesses cannot take every core.

        Raises:
            Failure: 516.
        """
        with self._one:
            found = self.known(name, password)
            if found is not None:
                return found
            _, stored = self.users.get(name, ("", _NOBODY))
            if not matches(password, stored) or name not in self.users:
                raise failure(516, "AUTHENTICATION_FAILED", f"{name}: Authentication failed: password is incorrect, or there is no user with such name")
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            self._known[self._digest(name, password)] = name
        return self._account(name)


def hashed(password: str) -> str:
    """Return the hash of a password, as it stands in the file."""
    salt, (n, r, p) = secrets.token_bytes(16), _COST
    digest = hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=64 << 20)
    return f"scrypt${n}${r}${p}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


_NOBODY = hashed(secrets.token_urlsafe(16))


def matches(password: str, stored: str) -> bool:
    """Return whether `stored` is the hash of `password`."""
    form = _FORM.fullmatch(stored)
    if form is None:
        return False
    n, r, p = (int(g) for g in form.groups()[:3])
    salt, wanted = base64.b64decode(form[4]), base64.b64decode(form[5])
    found = hashlib.scrypt(password.encode("utf-8", "surrogateescape"), salt=salt, n=n, r=r, p=p, maxmem=64 << 20, dklen=len(wanted))
    return hmac.compare_digest(found, wanted)


def load(paths: Iterable[Path]) -> Accounts:
    """Read the files; a later one adds to an earlier one.

    Raises:
        ValueError: a file is not what it must be; says which line of which section.
    """
    roles: dict[str, Role] = {}
    users: dict[str, tuple[str, str]] = {}
    for path in paths:
        try:
            document = tomllib.loads(path.read_text())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ValueError(f"{path}: {error}") from error
        try:
            _only(document, {"roles", "users"}, "")
            roles |= {name: _role(name, values) for name, values in document.get("roles", {}).items()}
            users |= {name: _user(name, values) for name, values in document.get("users", {}).items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: {error}") from error
    for name, (role, _) in users.items():
        if role not in roles:
            raise ValueError(f"users.{name}: there is no role {role!r}")
    definers = sorted(r.name for r in roles.values() if r.defines_views)
    if len(definers) > 1:
        raise ValueError(f"roles {', '.join(definers)}: one role at most may have defines_views")
    return Accounts(roles, users)


def _only(values: Mapping[str, Any], names: set[str], where: str) -> None:
    unknown = sorted(set(values) - names)
    if unknown:
        raise ValueError(f"{where}{unknown[0]} is unknown")


def _named(kind: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{kind}.{name}: a name has letters, digits and _, and begins with no digit")
    if name in {ENGINE_USER, ENGINE_ROLE}:
        raise ValueError(f"{kind}.{name}: the engine keeps this name for itself")


def _role(name: str, values: Mapping[str, Any]) -> Role:
    _named("roles", name)
    _only(values, {"grants", "admin", "sees_queries", "defines_views", "quota"}, f"roles.{name}.")
    grants = tuple(values.get("grants", ()))
    if not all(isinstance(g, str) and not set(g) & {";", "<", "&"} for g in grants):
        raise ValueError(f"roles.{name}.grants: each is the text after GRANT")
    quota = values.get("quota", {})
    _only(quota, {"interval_s", "queries", "read_rows"}, f"roles.{name}.quota.")
    if not all(isinstance(v, int) and v >= 0 for v in quota.values()) or quota.get("interval_s", 1) < 1:
        raise ValueError(f"roles.{name}.quota: whole numbers, and interval_s at least 1")
    switches = {s: values.get(s, False) for s in ("admin", "sees_queries", "defines_views")}
    if not all(isinstance(v, bool) for v in switches.values()):
        raise ValueError(f"roles.{name}: {', '.join(switches)} are true or false")
    return Role(name, grants, limits=Limits(**quota), **switches)


def _user(name: str, values: Mapping[str, Any]) -> tuple[str, str]:
    _named("users", name)
    _only(values, {"role", "password_scrypt"}, f"users.{name}.")
    stored = values.get("password_scrypt", "")
    if not isinstance(stored, str) or not _FORM.fullmatch(stored):
        raise ValueError(f"users.{name}.password_scrypt: python -m weir.gateway.accounts makes one")
    return str(values.get("role", "")), stored


if __name__ == "__main__":
    given = sys.stdin.readline().rstrip("\n")
    if not given:
        sys.exit("a password is read from standard input, and there was none: echo PASSWORD | ./weir run python -m weir.gateway.accounts")
    sys.stdout.write(hashed(given) + "\n")

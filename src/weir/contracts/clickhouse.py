"""What every room that speaks to ClickHouse does alike: what its URL says, error codes to act on, literals, DDL files as statements.

Source of the numbers: ClickHouse, src/Common/ErrorCodes.cpp, sent in X-ClickHouse-Exception-Code. Rooms decide by these, never by an error's text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

# A later try of the same statement or bytes may not meet these: memory, too many parts or queries, time-outs, shutdown, disk.
TRANSIENT_CODES: Final = frozenset({159, 202, 209, 210, 236, 241, 242, 243, 252, 319, 394, 439, 735})
# UNKNOWN_TABLE, UNKNOWN_DATABASE: dbt has not built it yet.
NOT_BUILT_CODES: Final = frozenset({60, 81})


HTTP_PORT: Final = 8123
HTTPS_PORT: Final = 8443
DEFAULT_USER: Final = "default"
_REFRESHED: Final = re.compile(r"^CREATE MATERIALIZED VIEW \S+ REFRESH ")


@dataclass(frozen=True, slots=True)
class Server:
    """What the URL of a ClickHouse says, percent-decoded. `interface`: http or https; `user` empty: none is named."""

    interface: str
    host: str
    port: int
    user: str
    password: str

    @property
    def base_url(self) -> str:
        """Return the URL without user and password."""
        return f"{self.interface}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @property
    def auth(self) -> tuple[str, str] | None:
        """Return user and password for HTTP's Basic scheme, or None."""
        return (self.user or DEFAULT_USER, self.password) if self.user or self.password else None

    @property
    def arguments(self) -> dict[str, Any]:
        """Return the arguments of clickhouse_connect.get_client (whose own reading of a DSN ignores https)."""
        return {"interface": self.interface, "host": self.host, "port": self.port, "username": self.user or DEFAULT_USER, "password": self.password}


def parse(url: str) -> Server:
    """Read a URL such as https://user:p%40ss@clickhouse.example:8443. Pure. The ports by default are ClickHouse's."""
    parts = urlsplit(url)
    interface = "https" if parts.scheme == "https" else "http"
    port = parts.port or (HTTPS_PORT if interface == "https" else HTTP_PORT)
    return Server(interface, parts.hostname or "127.0.0.1", port, unquote(parts.username or ""), unquote(parts.password or ""))


def quoted(name: str) -> str:
    """Return an identifier as ClickHouse takes it."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def fires(create: str) -> bool:
    """Say whether the materialized view of a `create_table_query` is fed by inserts, and not computed anew each time. Pure."""
    return _REFRESHED.match(create) is None


def literal(value: int | str) -> str:
    """Return a value as an SQL literal. Pure."""
    return str(value) if isinstance(value, int) else "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def statements(folder: Path) -> list[str]:
    """Return the statements of a folder's `*.sql` files in order of name; one ends with a semicolon at a line's end."""
    texts = (path.read_text() for path in sorted(folder.glob("*.sql")))
    return [s.strip().rstrip(";") for text in texts for s in text.split(";\n") if s.strip()]

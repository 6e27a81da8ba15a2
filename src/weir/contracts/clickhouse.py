"""What every room that speaks to ClickHouse does alike: error codes to act on, literals, DDL files as statements.

Source of the numbers: ClickHouse, src/Common/ErrorCodes.cpp, sent in X-ClickHouse-Exception-Code. Rooms decide by these, never by an error's text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

# A later try of the same statement or bytes may not meet these: memory, too many parts or queries, time-outs, shutdown, disk.
TRANSIENT_CODES: Final = frozenset({159, 202, 209, 210, 236, 241, 242, 243, 252, 319, 394, 439, 735})
# UNKNOWN_TABLE, UNKNOWN_DATABASE: dbt has not built it yet.
NOT_BUILT_CODES: Final = frozenset({60, 81})


def literal(value: int | str) -> str:
    """Return a value as an SQL literal. Pure."""
    return str(value) if isinstance(value, int) else "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def statements(folder: Path) -> list[str]:
    """Return the statements of a folder's `*.sql` files in order of name; one ends with a semicolon at a line's end."""
    texts = (path.read_text() for path in sorted(folder.glob("*.sql")))
    return [s.strip().rstrip(";") for text in texts for s in text.split(";\n") if s.strip()]

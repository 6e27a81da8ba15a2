"""ClickHouse's error codes that callers act on, as its HTTP interface sends them in X-ClickHouse-Exception-Code.

Source of the numbers: ClickHouse, src/Common/ErrorCodes.cpp. Rooms decide by these, never by an error's text.
"""

from __future__ import annotations

from typing import Final

# A later try of the same statement or bytes may not meet these: memory, too many parts or queries, time-outs, shutdown, disk.
TRANSIENT_CODES: Final = frozenset({159, 202, 209, 210, 236, 241, 242, 243, 252, 319, 394, 439, 735})
# UNKNOWN_TABLE, UNKNOWN_DATABASE: dbt has not built it yet.
NOT_BUILT_CODES: Final = frozenset({60, 81})

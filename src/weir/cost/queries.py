"""What queries cost, by who asked them and by their form: from ClickHouse's own query log.

In: a ClickHouse, embedded or real. Out: `ByUser`s and `ByForm`s of the last hours. Keep: a query's form has no literals in it, so no row's values are shown; a user is who logged
in (the gateway puts the name into `system.query_log.user`). The log is written every 5 s and kept for 3 days by the embedded one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import httpx

from weir.contracts import tls
from weir.contracts.clickhouse import parse
from weir.errors import Unavailable

_CPU: Final = "sum(ProfileEvents['OSCPUVirtualTimeMicroseconds']) / 1e6"
_ENDED: Final = "FROM system.query_log WHERE type != 'QueryStart' AND event_date >= toDate(now() - INTERVAL {hours:UInt32} HOUR) AND event_time >= now() - INTERVAL {hours:UInt32} HOUR"
BY_USER: Final = f"""SELECT user, count() AS queries, countIf(exception_code != 0) AS failed, {_CPU} AS cpu_s, sum(query_duration_ms) / 1e3 AS elapsed_s, sum(read_rows) AS rows_read,
sum(read_bytes) AS bytes_read, sum(written_rows) AS rows_written, sum(written_bytes) AS bytes_written, max(memory_usage) AS memory_bytes_max
{_ENDED} GROUP BY user ORDER BY cpu_s DESC FORMAT JSON"""
BY_FORM: Final = f"""SELECT substring(replaceRegexpAll(normalizeQuery(any(query)), '\\\\s+', ' '), 1, 300) AS form, arraySort(groupUniqArray(5)(user)) AS users, count() AS queries,
countIf(exception_code != 0) AS failed, max(query_duration_ms) AS ms_max, toUInt64(quantile(0.5)(query_duration_ms)) AS ms_p50, {_CPU} AS cpu_s, sum(read_bytes) AS bytes_read,
argMax(query_id, query_duration_ms) AS slowest_query_id
{_ENDED} GROUP BY normalized_query_hash ORDER BY ms_max DESC LIMIT {{top:UInt32}} FORMAT JSON"""
FAILED: Final = f"""SELECT substring(replaceRegexpAll(normalizeQuery(any(query)), '\\\\s+', ' '), 1, 300) AS form, errorCodeToName(exception_code) AS error,
arraySort(groupUniqArray(5)(user)) AS users, count() AS queries, toString(max(event_time)) AS last_at, argMax(query_id, event_time) AS last_query_id
{_ENDED} AND exception_code != 0 GROUP BY normalized_query_hash, exception_code ORDER BY queries DESC, last_at DESC LIMIT {{top:UInt32}} FORMAT JSON"""


@dataclass(frozen=True, slots=True)
class ByUser:
    """What one user's queries took together. `elapsed_s`: of all of them, one after another; `memory_bytes_max`: of the one that took most."""

    user: str
    queries: int
    failed: int
    cpu_s: float
    elapsed_s: float
    rows_read: int
    bytes_read: int
    rows_written: int
    bytes_written: int
    memory_bytes_max: int


@dataclass(frozen=True, slots=True)
class ByForm:
    """Queries that differ in literals only. `users`: at most five; `slowest_query_id`: to find it in system.query_log."""

    form: str
    users: tuple[str, ...]
    queries: int
    failed: int
    ms_max: int
    ms_p50: int
    cpu_s: float
    bytes_read: int
    slowest_query_id: str


@dataclass(frozen=True, slots=True)
class Failing:
    """Queries that differ in literals only and failed alike. `error`: ClickHouse's name of it; `last_at`: in the server's time zone; `last_query_id`: to find its message in system.query_log."""

    form: str
    error: str
    users: tuple[str, ...]
    queries: int
    last_at: str
    last_query_id: str


def _ask(url: str, sql: str, hours: int, **more: int) -> list[dict[str, Any]]:
    server = parse(url)
    parameters = {f"param_{name}": str(value) for name, value in {"hours": hours, **more}.items()}
    try:
        answer = httpx.post(server.base_url, params={**parameters, "output_format_json_quote_64bit_integers": "0"}, content=sql, auth=server.auth, timeout=60, verify=tls.context()).raise_for_status()
    except httpx.HTTPStatusError as error:
        raise Unavailable(f"ClickHouse did not tell of its queries: {error.response.text[:300].strip()}", hint="the user needs SELECT on system.query_log") from error
    except httpx.HTTPError as error:
        raise Unavailable(f"ClickHouse did not tell of its queries: {error}", hint="./weir logs clickhouse shows why") from error
    return list(json.loads(answer.text)["data"])


def by_user(clickhouse_url: str, hours: int) -> list[ByUser]:
    """Return what each user's queries of the last `hours` cost, the dearest in CPU first.

    Raises:
        Unavailable: ClickHouse does not tell.
    """
    return [ByUser(**row) for row in _ask(clickhouse_url, BY_USER, hours)]


def slowest(clickhouse_url: str, hours: int, top: int) -> list[ByForm]:
    """Return the forms of queries of which one took longest in the last `hours`, the slowest first, at most `top`.

    Raises:
        Unavailable: ClickHouse does not tell.
    """
    return [ByForm(**{**row, "users": tuple(row["users"])}) for row in _ask(clickhouse_url, BY_FORM, hours, top=top)]


def failing(clickhouse_url: str, hours: int, top: int) -> list[Failing]:
    """Return the forms of queries that failed in the last `hours` by their error, the most frequent first, at most `top`.

    Raises:
        Unavailable: ClickHouse does not tell.
    """
    return [Failing(**{**row, "users": tuple(row["users"])}) for row in _ask(clickhouse_url, FAILED, hours, top=top)]

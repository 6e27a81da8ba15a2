"""Interactions from ClickHouse: events with their times for the judgement, the interaction matrix for the final fit.

In: a ClickHouse URL. Out: `Interactions`. Keep: reads are bounded; rejected events are not read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import clickhouse_connect
import numpy as np
from clickhouse_connect.driver.exceptions import ClickHouseError

from weir.contracts.clickhouse import parse
from weir.contracts.events import EVENT_WEIGHT, EventType
from weir.contracts.names import DB_MARTS, DB_STAGING, SYNTHETIC_ID_FROM
from weir.errors import Unavailable
from weir.training.model import Interactions

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

ROWS_MAX: Final = 5_000_000  # newest first; 5 M rows x 28 bytes = 140 MB in all, and about 30 s of ALS

EVENTS_SQL: Final = f"""
select user_id, item_id, {{weights}} as weight, toUnixTimestamp64Milli(occurred_at) as at_ms
from {DB_STAGING}.int_user_events final where user_id < {SYNTHETIC_ID_FROM} order by occurred_at desc, event_id limit {ROWS_MAX}
"""
MATRIX_SQL: Final = f"""
select user_id, item_id, toFloat32(weight) as weight, toUnixTimestamp64Milli(toDateTime64(last_at, 3, 'UTC')) as at_ms
from {DB_MARTS}.user_item_matrix where user_id < {SYNTHETIC_ID_FROM} order by last_at desc, user_id, item_id limit {ROWS_MAX}
"""


def events_sql() -> str:
    """Return the query of events. What one weighs is the dbt macro `confidence`, which MATRIX_SQL's weights are sums of: a model is judged on what it is fitted on."""
    kinds = ", ".join(f"'{kind.value}'" for kind in EVENT_WEIGHT)
    weights = ", ".join(str(weight) for weight in EVENT_WEIGHT.values())
    kind = f"transform(event_type, [{kinds}], [{weights}], {EVENT_WEIGHT[EventType.VIEW]})"
    return EVENTS_SQL.format(weights=f"toFloat32({kind} * ifNull(rating / 5, 1.))")


def connect(url: str) -> Client:
    """Return a client of the ClickHouse at `url`.

    Raises:
        Unavailable: it does not answer.

    """
    try:
        return clickhouse_connect.get_client(**parse(url).arguments)
    except (ClickHouseError, OSError) as error:
        raise Unavailable("ClickHouse did not answer", hint="see ./weir status") from error


def read(client: Client, sql: str) -> Interactions:
    """Return the rows of one of the queries above.

    Raises:
        Unavailable: the query failed (a missing table: dbt build has not run).

    """
    try:
        columns = client.query(sql, column_oriented=True, settings={"max_execution_time": 120}).result_columns
    except (ClickHouseError, OSError) as error:
        raise Unavailable("interactions could not be read from ClickHouse", hint="run ./weir run dbt build first") from error
    if not columns:
        columns = ((), (), (), ())
    return Interactions(*(np.asarray(c, t) for c, t in zip(columns, (np.int64, np.int64, np.float32, np.int64), strict=True)))

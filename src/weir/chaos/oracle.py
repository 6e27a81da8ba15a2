"""The oracle of the experiments: this run's journal against the landing table and a view behind it.

Verdicts are yes, no or unknown. An event whose acknowledgement never came may be there or not; one that is acknowledged must be there once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from weir.chaos.load import Journal
from weir.contracts import names
from weir.contracts.clickhouse import parse


class Verdict(StrEnum):
    """Answer of a check."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Count:
    """What was found of one run in one table: `lost` and `doubled` event ids (at most ten are listed)."""

    table: str
    owed: int
    found: int
    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    verdict: Verdict


def compare(table: str, journal: Journal, rows: dict[str, int]) -> Count:
    """Compare the journal with `rows` (event id to times found). Pure.

    Nothing produced is unknown, since it proves nothing.
    """
    lost = sorted(journal.acknowledged - rows.keys())
    doubled = sorted(k for k, n in rows.items() if n > 1)
    foreign = rows.keys() - journal.acknowledged - journal.unknown
    if not journal.acknowledged:
        verdict = Verdict.UNKNOWN
    elif lost or doubled or foreign:
        verdict = Verdict.NO
    else:
        verdict = Verdict.YES
    return Count(table, len(journal.acknowledged), len(rows), tuple(lost[:10]), tuple(doubled[:10]), verdict)


# Both are fed once per accepted event: the landing table by ingest, the keyed copy by an insert-triggered view of dbt.
TABLES = (names.LANDING_EVENTS, "staging.int_user_events")


def count(clickhouse_url: str, table: str, run_id: str) -> dict[str, int]:
    """Return how often each event id of the run stands in `table`, without merging anything away.

    Raises:
        clickhouse_connect.driver.exceptions.Error: ClickHouse does not answer.
    """
    import clickhouse_connect

    with clickhouse_connect.get_client(**parse(clickhouse_url).arguments, send_receive_timeout=30) as client:
        result = client.query(
            f"SELECT event_id, count() FROM {table} WHERE startsWith(event_id, %(run)s) GROUP BY event_id", parameters={"run": run_id}
        )
        return {row[0]: int(row[1]) for row in result.result_rows}

"""Count source against sink: PostgreSQL against the staging tables, the topic's records against landing and quarantine.

In: endpoints. Out: `Counts`. Keep: the source is counted by itself (PostgreSQL, the topic's records), never by what ClickHouse says of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from weir.contracts import cdc, names
from weir.contracts.endpoints import Endpoints
from weir.demo.result import Counts
from weir.errors import ContractViolation
from weir.ingest.clickhouse import ClickHouse
from weir.simulation.derive import SESSION_PREFIX, sessions
from weir.simulation.journal import ID_SUM_SQL, Journal
from weir.simulation.source import answering
from weir.topics.reader import Reader

_CDC_FLOOR: Final = 1 << names.CDC_VERSION_EPOCH_SHIFT  # versions from here on come by CDC: a row of the bulk load alone does not count
_STANDING: Final = {t.name: t.standing for t in cdc.CDC_TABLES.values()}
_WAIT_S: Final = 90.0
_READ_S: Final = 60.0


class TopicRecords:
    """Counts the records that a topic holds by reading them, each once: offsets alone count a transaction's markers too.

    What retention had taken away before the first count is in no count, and `held` leaves it out of the sink's.
    """

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._topic, self._reader = topic, Reader(bootstrap, "weir-demo-count", patience_s=_READ_S)
        self._low: dict[int, int] = {}
        self._next: dict[int, int] = {}
        self._count = 0

    def held(self) -> str:
        """Return the condition for the sink's rows of what the topic held at the first asking (the landing table outlasts Kafka's retention).

        Raises:
            Unavailable: Kafka does not answer.
        """
        if not self._low:
            self._low = {p: self._reader.bounds(self._topic, p)[0] for p in self._reader.partitions(self._topic)}
            self._next = dict(self._low)
        return f"topic = '{self._topic}' AND " + (f"({' OR '.join(f'(partition = {p} AND offset >= {low})' for p, low in self._low.items())})" if any(self._low.values()) else "1")

    def count(self) -> int:
        """Return how many records the topic has held since the first asking.

        Raises:
            Unavailable: Kafka does not answer.
        """
        self.held()
        ends = {p: self._reader.bounds(self._topic, p)[1] for p in self._low}
        self._count += sum(map(len, self._reader.read({(self._topic, p): (self._next[p], end) for p, end in ends.items()})))
        self._next = ends
        return self._count

    def close(self) -> None:
        """Close the connection."""
        self._reader.close()


def source_rows(dsn: str) -> dict[str, int]:
    """Return PostgreSQL's rows by table.

    Raises:
        Unavailable: it does not answer.
    """
    import psycopg

    with answering("count its rows"), psycopg.connect(dsn, connect_timeout=5) as connection:
        return {table: int((connection.execute(f"SELECT count(*) FROM public.{table}").fetchone() or (0,))[0]) for table in _STANDING}


def count(endpoints: Endpoints, client: ClickHouse, events: TopicRecords, *, staged: bool = True) -> Counts:
    """Count everything once; without `staged`, events only (before dbt has made the staging tables)."""
    source = source_rows(endpoints.postgres_dsn) if staged else {}
    sink = {
        table: int(client.execute(f"SELECT count() FROM {name} WHERE version >= {_CDC_FLOOR}"))
        for table, name in _STANDING.items() if staged
    }
    held = events.held()
    row = client.execute(
        f"SELECT countIf(reject_reason = ''), dateDiff('millisecond', max(produced_at), now64(3)) FROM {names.LANDING_EVENTS} WHERE {held}"
    ).split("\t")
    quarantined = int(client.execute(f"SELECT count() FROM {names.QUARANTINE} WHERE {held}"))
    return Counts(source, sink, events.count(), int(row[0]), quarantined, max(0, int(row[1])) if int(row[0]) else 0)


def wait(endpoints: Endpoints, client: ClickHouse, report: Callable[[Counts], None], *, staged: bool = True, wait_s: float = _WAIT_S) -> Counts:
    """Count until source and sink agree; return the counts.

    Raises:
        ContractViolation: they do not agree in time; says which.
    """
    deadline = time.monotonic() + wait_s
    events = TopicRecords(endpoints.kafka_bootstrap, names.TOPIC_USER_EVENTS)
    try:
        while True:
            found = count(endpoints, client, events, staged=staged)
            report(found)
            if found.reconciled():
                return found
            if time.monotonic() > deadline:
                raise ContractViolation(
                    f"source and sink differ after {wait_s:.0f} s: rows {found.source_rows} against {found.sink_rows}, {found.lag()} events apart",
                    hint="./weir logs ingest and ./weir logs connect show why",
                )
            time.sleep(0.25)
    finally:
        events.close()


def check_journal(client: ClickHouse, journal: Journal) -> None:
    """Hold the producer's journal against the landing table: same count, same sum of ids.

    Raises:
        ContractViolation: they differ.
    """
    where = f"reject_reason = '' AND {_of(journal)}"
    rows, id_sum = (int(x) for x in client.execute(f"SELECT count(), {ID_SUM_SQL} FROM {names.LANDING_EVENTS} WHERE {where}").split("\t"))
    if (rows, id_sum) != (journal.produced, journal.id_sum):
        raise ContractViolation(
            f"the landing table holds {rows} of the load's events with id sum {id_sum}, the producer's journal {journal.produced} with {journal.id_sum}",
            hint="./weir logs ingest shows why; ./weir clean starts afresh",
        )


def landed_ids(client: ClickHouse, journal: Journal) -> set[str]:
    """Return the ids of the load's events that have landed (about 305,000 at most)."""
    return set(client.execute(f"SELECT event_id FROM {names.LANDING_EVENTS} WHERE {_of(journal)}").split())


def _of(journal: Journal) -> str:
    """Return the condition for the events of one load."""
    mine = f"startsWith(session_id, '{sessions(journal.again)}')"
    return mine if journal.again else f"{mine} AND NOT startsWith(session_id, '{SESSION_PREFIX}again')"

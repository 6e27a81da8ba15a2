"""Asks PostgreSQL and Kafka what the verdict needs, and ClickHouse what a room asks it. What cannot be asked comes back as None, never as zero.

In: endpoints. Out: counts, offsets, rows. Keep: only `append` writes; each question has a time limit of a few seconds.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx

from weir.contracts import cdc, names, tls
from weir.contracts.clickhouse import parse
from weir.contracts.features import FEATURE_VIEWS
from weir.errors import Unavailable
from weir.topics.reader import quiet_admin

log = logging.getLogger("weir.quality")
TIMEOUT_S: Final = 4.0

# Shop table: (view of its rows as they stand, Debezium topic)
CDC_TABLES: Final[Mapping[str, tuple[str, str]]] = {t.name: (t.standing, t.topic) for t in cdc.CDC_TABLES.values()}


@dataclass(frozen=True, slots=True)
class Offsets:
    """Begin, end and committed offset of one topic partition."""

    begin: int
    end: int
    committed: int | None


def query(url: str, sql: str, timeout_s: float = TIMEOUT_S) -> list[dict[str, Any]] | None:
    """Return the rows of a SELECT, or None when it could not be asked, or not within `timeout_s`."""
    server = parse(url)
    try:
        answer = httpx.post(
            f"{server.base_url}/",
            params={"default_format": "JSONEachRow", "output_format_json_quote_64bit_integers": "0"},
            content=sql.encode(), auth=server.auth, timeout=timeout_s, verify=tls.context(),
        )
    except httpx.HTTPError:
        return None
    if not answer.is_success:
        log.debug("not answered: %s", answer.text[:200])
        return None
    return [json.loads(line) for line in answer.text.splitlines() if line]


def append(url: str, table: str, rows: Sequence[Mapping[str, Any]], timeout_s: float = TIMEOUT_S) -> None:
    """Append rows to a table of ours.

    Raises:
        Unavailable: ClickHouse did not take them.
    """
    server = parse(url)
    body = "\n".join(json.dumps(row) for row in rows)
    try:
        answer = httpx.post(f"{server.base_url}/", params={"query": f"INSERT INTO {table} FORMAT JSONEachRow"}, content=body.encode(), auth=server.auth, timeout=timeout_s, verify=tls.context())
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise Unavailable(f"{table} could not be written", hint="./weir logs clickhouse shows why") from error


def document(url: str) -> dict[str, Any]:
    """Return the JSON object that one of our services tells of itself at `url`; empty when it does not."""
    try:
        found = httpx.get(url, timeout=1.0, verify=tls.context()).json()  # loopback: a service that needs longer is away
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def newest_feature(told: Mapping[str, Any]) -> int | None:
    """Return the newest event that is in a feature, from the materializer's health document. Pure."""
    newest = told.get("newest_event_ms") or {}
    return max((int(newest[v.name]) for v in FEATURE_VIEWS if "events" in v.triggers and newest.get(v.name)), default=None)


def postgres(dsn: str) -> dict[str, int | None]:
    """Return the row counts of the shop's tables."""
    import psycopg

    found: dict[str, int | None] = dict.fromkeys(CDC_TABLES)
    with contextlib.suppress(psycopg.Error, OSError), psycopg.connect(dsn, connect_timeout=3, autocommit=True) as connection:
        connection.execute("SET statement_timeout = '3s'")
        for table in found:
            row = connection.execute(f"SELECT count(*) FROM public.{table}".encode()).fetchone()
            found[table] = int(row[0]) if row else None
    return found


def kafka(bootstrap: str, more: Collection[str] = ()) -> dict[tuple[str, int], Offsets] | None:
    """Return the offsets of every partition of the path's topics, and of `more` topics; None when the broker does not answer."""
    from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
    from confluent_kafka.admin import OffsetSpec

    try:
        admin = quiet_admin(bootstrap)
        topics = admin.list_topics(timeout=2.0).topics
        partitions = [TopicPartition(t, p) for t in dict.fromkeys([*names.PARTITIONS, *more]) if t in topics for p in topics[t].partitions]
        if not partitions:
            return {}
        ends = admin.list_offsets({p: OffsetSpec.latest() for p in partitions}, request_timeout=TIMEOUT_S)
        begins = admin.list_offsets({p: OffsetSpec.earliest() for p in partitions}, request_timeout=TIMEOUT_S)
        committed: dict[tuple[str, int], int] = {}
        for table in names.LANDINGS:
            mine = [p for p in partitions if names.landing_of(p.topic) == table]
            if mine:
                committed |= _committed(admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(names.ingest_group(table), mine)], request_timeout=TIMEOUT_S))
        return {
            (p.topic, p.partition): Offsets(begins[p].result().offset, ends[p].result().offset, committed.get((p.topic, p.partition)))
            for p in partitions
        }
    except (KafkaException, KeyError):
        return None


def _committed(futures: Mapping[str, Any]) -> dict[tuple[str, int], int]:
    from confluent_kafka import KafkaError, KafkaException

    found: dict[tuple[str, int], int] = {}
    for future in futures.values():
        try:
            found |= {(p.topic, p.partition): p.offset for p in future.result().topic_partitions if p.offset >= 0}
        except KafkaException as error:
            if error.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:  # a group that never committed is not known to the broker
                raise
    return found

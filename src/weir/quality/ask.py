"""Asks PostgreSQL, Kafka and ClickHouse what the verdict needs. What cannot be asked comes back as None, never as zero.

In: endpoints. Out: the values of `weir.quality.judge`. Keep: read-only; each question has a time limit of a few seconds.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from weir.contracts import cdc, names
from weir.contracts.clickhouse import parse
from weir.contracts.features import FEATURE_VIEWS
from weir.contracts.retention import KAFKA_MAX_DAYS

log = logging.getLogger("weir.quality")
TIMEOUT_S: Final = 4.0

# Shop table: (view of its rows as they stand, Debezium topic)
CDC_TABLES: Final[Mapping[str, tuple[str, str]]] = {t.name: (t.standing, t.topic) for t in cdc.CDC_TABLES.values()}
# Landing tables and ledger lose old rows at moments of their own: only what both must still have is compared. A batch lies within a day.
HELD: Final = f">= toStartOfDay(now('UTC') - INTERVAL {KAFKA_MAX_DAYS} DAY)"


@dataclass(frozen=True, slots=True)
class Landed:
    """Rows of one topic partition in its landing table; all but `max` and `newest_at_ms` below the committed offset."""

    rows: int
    distinct: int
    owed: int  # distinct offsets from the topic's begin to the commit
    max: int
    newest_at_ms: int


@dataclass(frozen=True, slots=True)
class Offsets:
    """Begin, end and committed offset of one topic partition."""

    begin: int
    end: int
    committed: int | None


@dataclass(frozen=True, slots=True)
class ClickHouseFacts:
    """What ClickHouse told; None: that question failed."""

    landed: Mapping[tuple[str, int], Landed] | None = None
    ledger: Mapping[tuple[str, int], int] | None = None
    staging: Mapping[str, int | None] = field(default_factory=dict)
    quarantine: Mapping[str, int] | None = None
    newest: Mapping[str, int | None] = field(default_factory=dict)
    fed: int | None = None  # rows of the keyed copy of the events, which the views fill


def query(url: str, sql: str) -> list[dict[str, Any]] | None:
    """Return the rows of a SELECT, or None when it could not be asked."""
    server = parse(url)
    try:
        answer = httpx.post(
            f"{server.base_url}/",
            params={"default_format": "JSONEachRow", "output_format_json_quote_64bit_integers": "0"},
            content=sql.encode(), auth=server.auth, timeout=TIMEOUT_S,
        )
    except httpx.HTTPError:
        return None
    if not answer.is_success:
        log.debug("not answered: %s", answer.text[:200])
        return None
    return [json.loads(line) for line in answer.text.splitlines() if line]


def _one(url: str, sql: str) -> int | None:
    rows = query(url, sql)
    value = next(iter(rows[0].values())) if rows else None
    return None if value is None else int(value)


def bound(offsets: Mapping[tuple[str, int], Offsets] | None, *, begin: bool = False) -> str:
    """Return an SQL expression: the committed (or begin) offset of the row's topic partition. Pure.

    Rows past the commit belong to a batch in flight, whose row in the ledger may be a moment behind. Kafka away: no bound.
    """
    if offsets is None:
        return "toUInt64(0)" if begin else "toUInt64(9223372036854775807)"
    if not offsets:
        return "toUInt64(0)"
    keys = ", ".join(f"'{t}/{p}'" for t, p in offsets)
    values = ", ".join(f"toUInt64({o.begin if begin else o.committed or 0})" for o in offsets.values())
    return f"transform(concat(toString(topic), '/', toString(partition)), [{keys}], [{values}], toUInt64(0))"


def document(url: str) -> dict[str, Any]:
    """Return the JSON object that one of our services tells of itself at `url`; empty when it does not."""
    try:
        found = httpx.get(url, timeout=1.0).json()  # loopback: a service that needs longer is away
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def newest_feature(told: Mapping[str, Any]) -> int | None:
    """Return the newest event that is in a feature, from the materializer's health document. Pure."""
    newest = told.get("newest_event_ms") or {}
    return max((int(newest[v.name]) for v in FEATURE_VIEWS if "events" in v.triggers and newest.get(v.name)), default=None)


def _landed(url: str, offsets: Mapping[tuple[str, int], Offsets] | None) -> dict[tuple[str, int], Landed] | None:
    found: dict[tuple[str, int], Landed] = {}
    below = f"offset < {bound(offsets)} AND produced_at {HELD}"
    for table in names.LANDINGS:
        rows = query(
            url,
            f"SELECT topic, partition, countIf({below}) AS n, uniqExactIf(offset, {below}) AS uniques,"
            f" uniqExactIf(offset, {below} AND offset >= {bound(offsets, begin=True)}) AS owed, max(offset) AS highest,"
            f" toUnixTimestamp64Milli(max(produced_at)) AS newest FROM {table} GROUP BY topic, partition",
        )
        if rows is None:
            return None
        found |= {(r["topic"], r["partition"]): Landed(r["n"], r["uniques"], r["owed"], r["highest"], r["newest"]) for r in rows}
    return found


def clickhouse(url: str, offsets: Mapping[tuple[str, int], Offsets] | None) -> ClickHouseFacts:
    """Ask ClickHouse everything, at once."""
    newest = {
        "event landed": f"SELECT toUnixTimestamp64Milli(maxOrNull(produced_at)) AS v FROM {names.LANDING_EVENTS}",
        "change committed": f"SELECT maxOrNull(toUnixTimestamp64Milli(assumeNotNull(source_at))) AS v FROM {names.LANDING_CDC} WHERE source_at IS NOT NULL",
        "change landed": f"SELECT toUnixTimestamp64Milli(maxOrNull(produced_at)) AS v FROM {names.LANDING_CDC}",
        "catalogue landed": f"SELECT toUnixTimestamp64Milli(maxOrNull(produced_at)) AS v FROM {names.LANDING_CATALOGUE}",
        "event time landed": f"SELECT maxOrNull(toUnixTimestamp64Milli(occurred_at)) AS v FROM {names.LANDING_EVENTS} WHERE reject_reason = ''",
        "mart user_activity": f"SELECT toUnixTimestamp64Milli(maxOrNull(occurred_at)) AS v FROM {names.DB_STAGING}.int_user_events",
    }
    with ThreadPoolExecutor(max_workers=4) as pool:
        landed = pool.submit(_landed, url, offsets)
        ledger = pool.submit(query, url, f"SELECT topic, partition, sumIf(rows, last_offset < {bound(offsets)} AND max_produced_at {HELD}) AS n FROM {names.LEDGER} GROUP BY topic, partition")
        quarantine = pool.submit(query, url, f"SELECT reject_reason, count() AS n FROM {names.QUARANTINE} GROUP BY reject_reason ORDER BY n DESC")
        staging = {t: pool.submit(_one, url, f"SELECT count() AS n FROM {s}") for t, (s, _) in CDC_TABLES.items()}
        fed = pool.submit(_one, url, f"SELECT count() AS n FROM {names.DB_STAGING}.int_user_events")
        times = {name: pool.submit(_one, url, sql) for name, sql in newest.items()}
        booked, rejected = ledger.result(), quarantine.result()
        return ClickHouseFacts(
            landed.result(),
            None if booked is None else {(r["topic"], r["partition"]): int(r["n"]) for r in booked},
            {t: f.result() for t, f in staging.items()},
            None if rejected is None else {r["reject_reason"]: int(r["n"]) for r in rejected},
            {name: f.result() for name, f in times.items()},
            fed.result(),
        )


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


def kafka(bootstrap: str) -> dict[tuple[str, int], Offsets] | None:
    """Return the offsets of every partition of the path's topics; None when the broker does not answer."""
    from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
    from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # (own) documented, but not in __all__

    quiet = logging.getLogger("weir.quality.kafka")
    quiet.setLevel(logging.CRITICAL)
    try:
        admin = AdminClient({"bootstrap.servers": bootstrap, "socket.timeout.ms": 3000, "log_level": 0}, logger=quiet)
        topics = admin.list_topics(timeout=2.0).topics
        partitions = [TopicPartition(t, p) for t in names.PARTITIONS if t in topics for p in topics[t].partitions]
        if not partitions:
            return {}
        ends = admin.list_offsets({p: OffsetSpec.latest() for p in partitions}, request_timeout=TIMEOUT_S)  # type: ignore[no-untyped-call]  # (confluent) no annotations
        begins = admin.list_offsets({p: OffsetSpec.earliest() for p in partitions}, request_timeout=TIMEOUT_S)  # type: ignore[no-untyped-call]  # (confluent) no annotations
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

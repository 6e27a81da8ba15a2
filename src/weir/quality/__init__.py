"""Quality: is what arrived what was sent, and how fresh is it. Verdicts are yes, no or unknown; unknown never passes.

In: endpoints, WEIR_HOME. Out: one `Report`. Keep: read-only; a part that could not be asked makes the verdict unknown.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from weir.contracts import names
from weir.contracts.endpoints import Endpoints
from weir.quality import ask, gaps, pipeline, recovery
from weir.quality.judge import Hop, PartitionCount, Report, TableCount, Verdict, judge

__all__ = ["Report", "Verdict", "ask_pipeline", "verdict"]


def ask_pipeline(endpoints: Endpoints, home: Path) -> pipeline.Pipeline:
    """Ask for the connector, the slot, the last reconciliation, the captured tables and the proofs of recovery, all at once; never raises for a part that is away."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        slot, connector = pool.submit(pipeline.ask_slot, endpoints.postgres_dsn), pool.submit(pipeline.ask_connector, endpoints.connect_url)
        verified, tables = pool.submit(pipeline.ask_verified, endpoints.clickhouse_url), pool.submit(pipeline.ask_captured, endpoints.clickhouse_url)
        return pipeline.Pipeline(slot.result(), connector.result(), verified.result(), recovery.proofs(home), tables.result())


def verdict(endpoints: Endpoints, home: Path, *, now_ms: int | None = None, about: pipeline.Pipeline | None = None) -> Report:
    """Ask every part and judge. Takes at most some seconds; never raises for a part that is away.

    Offsets are asked before rows: what lands between the two can only make the rows more, so no loss is seen where there is none.
    `home`: WEIR_HOME, where the experiments leave their evidence. `about`: what `ask_pipeline` told, when it was asked already.
    """
    parts = about or ask_pipeline(endpoints, home)
    with ThreadPoolExecutor(max_workers=2) as pool:
        offsets_asked, rows_asked = pool.submit(ask.kafka, endpoints.kafka_bootstrap), pool.submit(ask.postgres, endpoints.postgres_dsn)
        offsets, source = offsets_asked.result(), rows_asked.result()
        wrote_asked = pool.submit(ask.document, f"{endpoints.features_url}/health")
        serves_asked = pool.submit(ask.document, f"{endpoints.api_url}/ready")
        facts = ask.clickhouse(endpoints.clickhouse_url, offsets)
        wrote, serves = wrote_asked.result(), serves_asked.result()
    now = int(time.time() * 1000) if now_ms is None else now_ms
    tables = [TableCount(t, source.get(t), facts.staging.get(t)) for t in ask.CDC_TABLES]
    owed = {key: landed.owed for key, landed in (facts.landed or {}).items()}
    lost, trailing = gaps.look(endpoints.kafka_bootstrap, endpoints.clickhouse_url, offsets, owed) if offsets and facts.landed is not None else ({}, set())
    partitions = partition_counts(offsets, facts, lost, trailing)
    newest = {**facts.newest, "feature written": ask.newest_feature(wrote), "feature served": serves.get("newest_event_at_ms")}
    hops = [Hop(name, at, None if at is None else max(0, now - at)) for name, at in newest.items()]
    report = judge(
        tables, partitions, hops, facts.quarantine, cdc_topics={t: topic for t, (_, topic) in ask.CDC_TABLES.items()}, now_ms=now,
        first_unlanded_ms=_landed_through(partitions, facts), more=pipeline.checks(parts),
    )
    return replace(report, counters=counters(partitions, facts, wrote, serves))


def counters(partitions: list[PartitionCount], facts: ask.ClickHouseFacts, wrote: Mapping[str, Any], serves: Mapping[str, Any]) -> dict[str, int | None]:
    """Return how many records have passed each stage up to now: changes, Kafka's records, landed rows, the views' rows, features, answers. Pure."""

    def total(values: list[int | None]) -> int | None:
        known = [v for v in values if v is not None]
        return sum(known) if known and len(known) == len(values) else None

    changes = {topic for _, topic in ask.CDC_TABLES.values()}
    return {
        "source": total([p.end for p in partitions if p.topic in changes]),
        "connect": total([p.end for p in partitions]),
        "ingest": total([p.landed_rows for p in partitions]),
        "transform": facts.fed,
        "features": sum(wrote["rows_written"].values()) if wrote.get("rows_written") else None,
        "serving": serves.get("answered"),
    }


def partition_counts(
    offsets: dict[tuple[str, int], ask.Offsets] | None, facts: ask.ClickHouseFacts, lost: Mapping[gaps.Key, int | None], trailing: Collection[gaps.Key]
) -> list[PartitionCount]:
    """Join what Kafka and ClickHouse told. Pure. Partitions that neither named come from the contract, as unknown."""
    keys = {(t, p) for t, n in names.PARTITIONS.items() for p in range(n)} | set(offsets or {}) | set(facts.landed or {})
    found = []
    for topic, partition in sorted(keys):
        at = (offsets or {}).get((topic, partition))
        landed = None if facts.landed is None else facts.landed.get((topic, partition), ask.Landed(0, 0, 0, 0, 0))
        found.append(
            PartitionCount(
                topic,
                partition,
                begin=at.begin if at else None,
                end=at.end if at else None,
                committed=at.committed if at else None,
                ledger_rows=None if facts.ledger is None else facts.ledger.get((topic, partition), 0),
                landed_rows=landed.rows if landed else None,
                landed_distinct=landed.distinct if landed else None,
                landed_owed=landed.owed if landed else None,
                landed_max=landed.max if landed and landed.newest_at_ms else None,
                lost=lost.get((topic, partition)),
                trailing=(topic, partition) in trailing,
            )
        )
    return found


def _landed_through(partitions: list[PartitionCount], facts: ask.ClickHouseFacts) -> int | None:
    """Return the earliest, over the partitions with lag, of the newest landed record's time; None when one has landed nothing."""
    landed = facts.landed or {}
    times = [landed[p.topic, p.partition].newest_at_ms if (p.topic, p.partition) in landed else None for p in partitions if p.lag]
    known = [t for t in times if t is not None]
    return min(known) if known and len(known) == len(times) else None

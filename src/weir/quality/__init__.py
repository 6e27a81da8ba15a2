"""Quality: is what arrived what was sent, and how fresh is it. Verdicts are yes, no or unknown; unknown never passes.

In: endpoints, WEIR_HOME. Out: one `Report`. Keep: read-only; a part that could not be asked makes the verdict unknown; a look costs what is new since the marks.
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
from weir.quality import ask, event_facts, gaps, landing, marks, pipeline, recovery, retained
from weir.quality.facts import ClickHouseFacts, clickhouse
from weir.quality.judge import Capture, Check, Hop, PartitionCount, Report, TableCount, Verdict, judge
from weir.quality.landing import Landed
from weir.quality.marks import NONE

__all__ = ["Report", "Verdict", "ask_pipeline", "verdict"]


def ask_pipeline(endpoints: Endpoints, home: Path) -> pipeline.Pipeline:
    """Ask for the connector, the slot, the last reconciliation, captured tables, the API, late and repeated events and the proofs of recovery at once; never raises for a part that is away."""
    with ThreadPoolExecutor(max_workers=6) as pool:
        slot, connector = pool.submit(pipeline.ask_slot, endpoints.postgres_dsn), pool.submit(pipeline.ask_connector, endpoints.connect_url)
        verified, tables = pool.submit(pipeline.ask_verified, endpoints.clickhouse_url), pool.submit(pipeline.ask_captured, endpoints.clickhouse_url)
        api, events = pool.submit(pipeline.ask_api, endpoints.api_url), pool.submit(event_facts.ask, endpoints.clickhouse_url)
        return pipeline.Pipeline(slot.result(), connector.result(), verified.result(), recovery.proofs(home), tables.result(), api.result(), events.result(),
                                 pipeline.ask_way_back(home))


def verdict(endpoints: Endpoints, home: Path, *, now_ms: int | None = None, about: pipeline.Pipeline | None = None) -> Report:
    """Ask every part and judge. Takes at most some seconds; never raises for a part that is away.

    Marks are asked before offsets, and offsets before rows: what is checked or lands meanwhile can only make the rows more, so no loss is seen where there is none.
    `home`: WEIR_HOME, where the experiments leave their evidence. `about`: what `ask_pipeline` told, when it was asked already.
    """
    parts = about or ask_pipeline(endpoints, home)
    since = marks.held_from(int(time.time() * 1000) if now_ms is None else now_ms)
    known = marks.read(endpoints.clickhouse_url, since)
    asked_ms = int(time.time() * 1000)
    with ThreadPoolExecutor(max_workers=3) as pool:
        offsets_asked = pool.submit(ask.kafka, endpoints.kafka_bootstrap, {t.topic for t in parts.captured or ()})
        rows_asked = pool.submit(ask.postgres, endpoints.postgres_dsn)
        wrote_asked = pool.submit(ask.document, f"{endpoints.features_url}/health")
        offsets, source = offsets_asked.result(), rows_asked.result()
        alarms_asked = pool.submit(retained.ask, endpoints.kafka_bootstrap, offsets)
        facts, wrote = clickhouse(endpoints.clickhouse_url, known, offsets, asked_ms, since), wrote_asked.result()
        kept = retained.judge_retention(alarms_asked.result())
    now = int(time.time() * 1000) if now_ms is None else now_ms
    tables = [TableCount(t, source.get(t), facts.staging.get(t)) for t in ask.CDC_TABLES]
    lost, trailing = _gaps(endpoints, offsets, facts)
    partitions = partition_counts(offsets, facts, lost, trailing, since=since)
    served = None if parts.api is None else parts.api.newest_event_at_ms
    newest = {**facts.newest, "feature written": ask.newest_feature(wrote), "feature served": served}
    hops = [Hop(name, at, None if at is None else max(0, now - at)) for name, at in newest.items()]
    report = judge(
        tables, partitions, hops, facts.quarantine, cdc_topics={t: topic for t, (_, topic) in ask.CDC_TABLES.items()}, now_ms=now,
        first_unlanded_ms=_landed_through(partitions, facts), more=[*kept, *totals(facts, since), marks.judge_age(facts.marks, now), *pipeline.checks(parts)],
    )
    answered = None if parts.api is None else parts.api.answered
    capture = Capture() if parts.slot is None else Capture(parts.slot.behind_bytes, parts.slot.active)
    return replace(report, counters=counters(partitions, facts, wrote, answered), capture=capture, checked_since_ms=marks.checked_since_ms(facts.marks or {}))


def _gaps(endpoints: Endpoints, offsets: Mapping[marks.Key, ask.Offsets] | None, facts: ClickHouseFacts) -> tuple[dict[gaps.Key, int | None], set[gaps.Key]]:
    """Look up in Kafka what is not landed between the marks and the commits."""
    if not offsets or facts.marks is None:
        return {}, set()
    looked = {k: replace(o, begin=max(o.begin, facts.marks.get(k, NONE).next)) for k, o in offsets.items()}
    owed: dict[marks.Key, int] = {}
    for key, at in looked.items():
        table = facts.above.get(names.landing_of(key[0]))
        owed[key] = (at.committed or 0) - at.begin if table is None else table.landed.get(key, Landed()).owed
    return gaps.look(endpoints.kafka_bootstrap, endpoints.clickhouse_url, looked, owed)


def totals(facts: ClickHouseFacts, since: str) -> list[Check]:
    """Compare what each landing table holds with what was checked below the marks and counted above them. Pure."""
    found = []
    for table in names.LANDINGS:
        above = facts.above.get(table)
        if table not in facts.above:
            found.append(Check(f"rows of {table}", Verdict.UNKNOWN, "more lies above its marks than one look counts"))
            continue
        known = None if facts.marks is None or above is None else [
            *(m.days for k, m in facts.marks.items() if names.landing_of(k[0]) == table), *(x.days for x in above.landed.values())]
        found.append(marks.judge_totals(table, None if above is None else above.totals, known, since))
    return found


def counters(partitions: list[PartitionCount], facts: ClickHouseFacts, wrote: Mapping[str, Any], answered: int | None) -> dict[str, int | None]:
    """Return how many records have passed each stage up to now: what was produced, by Debezium or past it; changes of the shop's tables; landed rows; the views' rows; features; answers. Pure."""

    def total(values: list[int | None]) -> int | None:
        known = [v for v in values if v is not None]
        return sum(known) if known and len(known) == len(values) else None

    changes = {topic for _, topic in ask.CDC_TABLES.values()}
    return {
        "source": total([p.end for p in partitions]),
        "connect": total([p.end for p in partitions if p.topic in changes]),
        "ingest": total([p.landed_rows for p in partitions]),
        "transform": facts.fed,
        "features": sum(wrote["rows_written"].values()) if wrote.get("rows_written") else None,
        "serving": answered,
    }


def partition_counts(
    offsets: Mapping[marks.Key, ask.Offsets] | None, facts: ClickHouseFacts, lost: Mapping[gaps.Key, int | None], trailing: Collection[gaps.Key], *, since: str
) -> list[PartitionCount]:
    """Join what Kafka and ClickHouse told. Pure. Partitions that neither named come from the contract, as unknown. `since`: the first day that is compared."""
    keys = {(t, p) for t, n in names.PARTITIONS.items() for p in range(n)} | set(offsets or {})
    return [_count(key, (offsets or {}).get(key), facts, lost.get(key), since, trailing=key in trailing) for key in sorted(keys)]


def _count(key: marks.Key, at: ask.Offsets | None, facts: ClickHouseFacts, lost: int | None, since: str, *, trailing: bool) -> PartitionCount:
    """Add what is above the mark to what was checked below it. Pure."""
    table = names.landing_of(key[0])
    mark = NONE if facts.marks is None else facts.marks.get(key, NONE)
    looked = facts.above.get(table)
    landed = None if looked is None else looked.landed.get(key, Landed())
    below, ledger = marks.held(mark.days, since), None if facts.ledger is None else facts.ledger.get(key, 0)
    highest = [n for n in (mark.next - 1 if mark.next else None, landed.max if landed else None) if n is not None]
    return PartitionCount(
        *key,
        begin=at.begin if at else None,
        end=at.end if at else None,
        committed=at.committed if at else None,
        ledger_rows=None if ledger is None else below + ledger,
        landed_rows=None if landed is None else below + landed.held,
        landed_distinct=None if landed is None else below + landed.held - (landed.rows - landed.distinct),
        landed_owed=None if landed is None or at is None else max(0, min(mark.next, at.committed or 0) - at.begin) + landed.owed,
        landed_max=max(highest, default=None),
        lost=lost,
        mark=mark.next,
        faults=mark.faults,
        waiting=landing.waiting(mark, at) if facts.marks is not None and table not in facts.above else None,
        whole=mark.whole,
        trailing=trailing,
    )


def _landed_through(partitions: list[PartitionCount], facts: ClickHouseFacts) -> int | None:
    """Return the earliest, over the partitions with lag, of the newest landed record's time; None when one has landed nothing. Pure."""
    times = []
    for p in (p for p in partitions if p.lag):
        key, looked = (p.topic, p.partition), facts.above.get(names.landing_of(p.topic))
        newest = [(facts.marks or {}).get(key, NONE).newest_at_ms, (looked.landed.get(key, Landed()).newest_at_ms if looked else None)]
        times.append(max((t for t in newest if t is not None), default=None))
    known = [t for t in times if t is not None]
    return min(known) if known and len(known) == len(times) else None

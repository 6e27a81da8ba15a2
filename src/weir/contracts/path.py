"""The order of the path, stated once: read by the CLI, the README's table, the dashboard and the tests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from weir.contracts import names
from weir.contracts.cdc import CdcTable
from weir.contracts.features import FEATURE_VIEWS


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the path: which services run it, what it reads and what it writes.

    A topic stands by its name, a table of ClickHouse with its database; what is elsewhere has its kind before it: `postgres:`, `parquet:`, `redis:`.
    """

    name: str
    services: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    folder: str  # the folder outside that configures it


SHOP: Final = ("postgres:public.users", "postgres:public.items")
PROFILES: Final = "parquet:user_profiles"  # a bulk load: a file, and no topic
ONLINE: Final = "redis:weir"
LANDED: Final = (names.LANDING_EVENTS, names.LANDING_CDC, names.LANDING_CATALOGUE, names.LANDING_PROFILE_EXPORTS)
STANDING: Final = (names.STAGED_USERS, names.STANDING_USERS, names.STAGED_ITEMS, names.STANDING_ITEMS)

PATH: Final[tuple[Stage, ...]] = (
    # The shop's applications write user events, and the exports of profiles; the catalogue's publication its topic.
    Stage("source", ("postgres", "catalogue"), (), (*SHOP, names.TOPIC_USER_EVENTS, names.TOPIC_ITEM_CATALOGUE, PROFILES), "connect"),
    Stage("connect", ("kafka", "connect"), SHOP, (names.TOPIC_CDC_USERS, names.TOPIC_CDC_ITEMS), "connect"),
    Stage(
        "ingest",
        ("ingest", "clickhouse"),
        (names.TOPIC_USER_EVENTS, names.TOPIC_ITEM_CATALOGUE, names.TOPIC_CDC_USERS, names.TOPIC_CDC_ITEMS, PROFILES),
        (*LANDED, names.QUARANTINE, names.LEDGER),
        "ingest",
    ),
    Stage("transform", ("clickhouse",), LANDED, (*names.STAGED, *names.MARTS), "dbt"),
    # What landed says which keys are due; the keyed copies, who was deleted.
    Stage("features", ("features", "redis"), (*LANDED, *STANDING, *(f"{names.DB_MARTS}.{view.mart}" for view in FEATURE_VIEWS)), (ONLINE,), "feature_repo"),
    Stage("serving", ("api", "dashboard"), (ONLINE,), (), "dashboards"),
)


def with_added(tables: Iterable[CdcTable]) -> tuple[Stage, ...]:
    """Return the path with tables that were added to it by command: source, topic, and the keyed copy that a view fills as their changes land. Pure."""
    sources, topics, copies = [], [], []
    for table in tables:
        sources.append(f"postgres:{table.source}")
        topics.append(table.topic)
        copies.append(table.staging)
    more: dict[str, tuple[list[str], list[str]]] = {"source": ([], sources), "connect": (sources, topics), "ingest": (topics, []), "transform": ([], copies)}
    return tuple(replace(s, reads=(*s.reads, *more[s.name][0]), writes=(*s.writes, *more[s.name][1])) if s.name in more else s for s in PATH)

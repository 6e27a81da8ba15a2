"""The order of the path, stated once: read by the CLI, the README's table, the dashboard and the tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from weir.contracts import names


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the path: which services run it, what it reads and what it writes (topics, tables or stores)."""

    name: str
    services: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    folder: str  # the folder outside that configures it


PATH: Final[tuple[Stage, ...]] = (
    Stage("source", ("postgres", "catalogue"), (), ("postgres:public.users", "postgres:public.items"), "connect"),
    Stage(
        "connect",
        ("kafka", "connect"),
        ("postgres:public.users", "postgres:public.items"),
        (names.TOPIC_CDC_USERS, names.TOPIC_CDC_ITEMS, names.TOPIC_USER_EVENTS, names.TOPIC_ITEM_CATALOGUE),
        "connect",
    ),
    Stage(
        "ingest",
        ("ingest", "clickhouse"),
        (names.TOPIC_USER_EVENTS, names.TOPIC_ITEM_CATALOGUE, names.TOPIC_CDC_USERS, names.TOPIC_CDC_ITEMS),
        (
            names.LANDING_EVENTS,
            names.LANDING_CDC,
            names.LANDING_CATALOGUE,
            names.LANDING_PROFILE_EXPORTS,
            names.QUARANTINE,
            names.LEDGER,
        ),
        "ingest",
    ),
    Stage("transform", ("clickhouse",), (names.DB_LANDING,), (names.DB_STAGING, names.DB_MARTS), "dbt"),
    Stage("features", ("features", "redis"), (names.DB_MARTS,), ("redis:weir",), "feature_repo"),
    Stage("serving", ("api", "dashboard"), ("redis:weir",), (), "dashboards"),
)

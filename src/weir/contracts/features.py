"""Feature views: which mart feeds which, under which entity, with which columns.

The Feast definitions in `feature_repo/` say the same in Feast's words; a contract test holds both together. The materializer and the
API read this, since importing Feast costs seconds. Every mart named here has the entity column, one row a key, the features below, and
`event_timestamp DateTime64(3,'UTC')` (time of the newest input) and is safe to select for a set of keys: WHERE <entity> IN (…).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

FEAST_PROJECT: Final = "weir"
ALL_COUNTRIES: Final = "ALL"
SEEN_MAX: Final = 2000  # items of user_seen, which is what the mart cuts at: 16 KB a user


class ValueType(StrEnum):
    """Feast value types in use; names are Feast's own."""

    INT64 = "INT64"
    DOUBLE = "DOUBLE"
    STRING = "STRING"
    BOOL = "BOOL"
    INT64_LIST = "INT64_LIST"
    DOUBLE_LIST = "DOUBLE_LIST"
    STRING_LIST = "STRING_LIST"


@dataclass(frozen=True, slots=True)
class FeatureViewContract:
    """One feature view. `trigger`: whose changes make a key due ('events', 'users', 'items', or 'batch' = only on demand/interval)."""

    name: str
    entity: str  # entity name and join key: user_id, item_id (INT64) or country (STRING)
    mart: str  # table in the marts database
    features: tuple[tuple[str, ValueType], ...]
    triggers: tuple[str, ...]
    ttl_s: int  # 0 = never expires
    window_s: int = 0  # >0: values slide with the clock, so keys are due again when their window moves past them


_V = ValueType

FEATURE_VIEWS: Final[tuple[FeatureViewContract, ...]] = (
    FeatureViewContract(
        "user_profile",
        "user_id",
        "user_profile",
        (("age", _V.INT64), ("gender", _V.STRING), ("occupation", _V.STRING), ("country", _V.STRING), ("preferred_genre", _V.STRING)),
        ("users",),
        0,
    ),
    FeatureViewContract(
        "user_activity",
        "user_id",
        "user_activity",
        (
            ("recent_item_ids", _V.INT64_LIST),  # newest first, up to 100
            ("recent_event_types", _V.STRING_LIST),
            ("session_id", _V.STRING),
            ("session_events", _V.INT64),
            ("session_items", _V.INT64),
            ("session_duration_s", _V.DOUBLE),
            ("last_event_at_ms", _V.INT64),
        ),
        ("events",),
        7 * 86400,
    ),
    FeatureViewContract(
        "user_seen",
        "user_id",
        "user_seen",
        (("item_ids", _V.INT64_LIST),),  # each once, the one seen last first, up to SEEN_MAX
        ("events", "batch"),  # it never forgets: what is older than the materializer looks back comes by the whole read
        0,
    ),
    FeatureViewContract(
        "user_history",
        "user_id",
        "user_history",
        (
            ("interactions", _V.INT64),
            ("unique_items", _V.INT64),
            ("rating_avg", _V.DOUBLE),
            ("rating_stddev", _V.DOUBLE),
            ("rating_median", _V.DOUBLE),
            ("last_interaction_at_ms", _V.INT64),
        ),
        ("batch",),
        0,
    ),
    FeatureViewContract(
        "user_genre_preference",
        "user_id",
        "user_genre_preference",
        (("genres", _V.STRING_LIST), ("scores", _V.DOUBLE_LIST)),  # descending score, share of positive interactions
        ("batch",),
        0,
    ),
    FeatureViewContract(
        "item_catalogue",
        "item_id",
        "item_catalogue",
        (("title", _V.STRING), ("genres", _V.STRING_LIST), ("release_year", _V.INT64), ("is_active", _V.BOOL)),
        ("items",),
        0,
    ),
    FeatureViewContract(
        "item_activity",
        "item_id",
        "item_activity",
        (("interactions_1h", _V.INT64), ("trending_score", _V.DOUBLE)),
        ("events",),
        7200,
        3600,
    ),
    FeatureViewContract(
        "item_history",
        "item_id",
        "item_history",
        (("interactions", _V.INT64), ("unique_users", _V.INT64), ("rating_avg", _V.DOUBLE), ("rating_median", _V.DOUBLE)),
        ("batch",),
        0,
    ),
    FeatureViewContract(
        "country_trending",
        "country",
        "country_trending",
        (("item_ids", _V.INT64_LIST), ("scores", _V.DOUBLE_LIST)),  # top 100; country 'ALL' is the overall list
        ("events",),
        7200,
        3600,
    ),
)

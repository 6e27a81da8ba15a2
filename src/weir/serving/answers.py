"""What the API answers, as models: its OpenAPI document is made of them.

Keep: every word that an answer may use for `strategy` and `degraded` is listed here; a test holds the list to the feature views.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel


class Strategy(StrEnum):
    """What leads an answer: the model, the user's newest events, what is trending, or popularity."""

    PERSONAL = "personal"
    RECENT = "recent"
    TRENDING = "trending"
    POPULARITY = "popularity"


class Flag(StrEnum):
    """A part that an answer had to do without: a view past its ttl or undecodable (of the items': one item's is enough), the store, the catalogue, a model."""

    USER_PROFILE_UNREADABLE = "user_profile_unreadable"
    USER_ACTIVITY_EXPIRED = "user_activity_expired"
    USER_ACTIVITY_UNREADABLE = "user_activity_unreadable"
    USER_SEEN_UNREADABLE = "user_seen_unreadable"
    USER_HISTORY_UNREADABLE = "user_history_unreadable"
    USER_GENRE_PREFERENCE_UNREADABLE = "user_genre_preference_unreadable"
    ITEM_CATALOGUE_UNREADABLE = "item_catalogue_unreadable"
    ITEM_ACTIVITY_EXPIRED = "item_activity_expired"
    ITEM_ACTIVITY_UNREADABLE = "item_activity_unreadable"
    ITEM_HISTORY_UNREADABLE = "item_history_unreadable"
    COUNTRY_TRENDING_EXPIRED = "country_trending_expired"
    COUNTRY_TRENDING_UNREADABLE = "country_trending_unreadable"
    FEATURES_UNAVAILABLE = "features_unavailable"
    CATALOGUE_EMPTY = "catalogue_empty"
    CATALOGUE_STALE = "catalogue_stale"
    NO_CHAMPION = "no_champion"
    MODEL_UNREADABLE = "model_unreadable"


class Item(BaseModel):
    """One recommended item; `parts` add up to `score`."""

    item_id: int
    title: str
    genres: list[str]
    score: float
    parts: dict[str, float]


class Recommendations(BaseModel):
    """An ordered answer and what it rests on. Ages in milliseconds; null: that view holds nothing that was used."""

    user_id: int
    items: list[Item]
    strategy: Strategy
    model_version: str
    newest_event_age_ms: int | None
    feature_age_ms: dict[str, int | None]
    degraded: list[Flag]


class SimilarItems(BaseModel):
    """Items similar to one item."""

    item_id: int
    items: list[Item]
    model_version: str
    newest_event_age_ms: int | None
    degraded: list[Flag]


class Features(BaseModel):
    """A user's served features by view, with the time of each view's newest input."""

    user_id: int
    features: dict[str, dict[str, Any]]
    event_at_ms: dict[str, int | None]
    newest_event_age_ms: int | None  # null: nothing is served about this user
    feature_age_ms: dict[str, int | None]
    degraded: list[Flag]


class Model(BaseModel):
    """The champion, or popularity."""

    version: str
    pointer_version: str
    problem: str
    manifest: dict[str, Any] | None


class Health(BaseModel):
    """The process runs."""

    status: Literal["ok"] = "ok"
    service: Literal["api"] = "api"


class Ready(BaseModel):
    """Whether there are items to recommend; `answered`: this worker's answers so far; `why_popularity` "": a model serves, or it is not known."""

    ready: bool
    items: int
    model_version: str
    newest_event_at_ms: int | None
    answered: int
    why_popularity: str


class Refused(BaseModel):
    """Why a request has no answer."""

    detail: str


class RouteExample(BaseModel):
    """A route with a request that is answered."""

    method: str
    path: str
    does: str
    example: str


class Index(BaseModel):
    """What this is, and where its OpenAPI document stands."""

    name: str
    version: str
    openapi: str
    routes: list[RouteExample]

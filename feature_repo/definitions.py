"""Feast definitions: entities, sources, views, one service. `weir.contracts.features` says the same; a contract test holds both together."""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.infra.offline_stores.contrib.clickhouse_offline_store.clickhouse_source import ClickhouseSource
from feast.types import Array, Bool, Float64, Int64, String

user = Entity(name="user_id", join_keys=["user_id"], value_type=ValueType.INT64, description="A user of the shop")
item = Entity(name="item_id", join_keys=["item_id"], value_type=ValueType.INT64, description="An item of the catalogue")
country = Entity(name="country", join_keys=["country"], value_type=ValueType.STRING, description="ISO 3166 country, or ALL")

user_profile_source = ClickhouseSource(name="user_profile", table="marts.user_profile", timestamp_field="event_timestamp")
user_activity_source = ClickhouseSource(name="user_activity", table="marts.user_activity", timestamp_field="event_timestamp")
user_seen_source = ClickhouseSource(name="user_seen", table="marts.user_seen", timestamp_field="event_timestamp")
user_history_source = ClickhouseSource(name="user_history", table="marts.user_history", timestamp_field="event_timestamp")
user_genre_preference_source = ClickhouseSource(
    name="user_genre_preference", table="marts.user_genre_preference", timestamp_field="event_timestamp"
)
item_catalogue_source = ClickhouseSource(name="item_catalogue", table="marts.item_catalogue", timestamp_field="event_timestamp")
item_activity_source = ClickhouseSource(name="item_activity", table="marts.item_activity", timestamp_field="event_timestamp")
item_history_source = ClickhouseSource(name="item_history", table="marts.item_history", timestamp_field="event_timestamp")
country_trending_source = ClickhouseSource(name="country_trending", table="marts.country_trending", timestamp_field="event_timestamp")

user_profile = FeatureView(
    name="user_profile",
    entities=[user],
    ttl=timedelta(0),
    schema=[
        Field(name="age", dtype=Int64),
        Field(name="gender", dtype=String),
        Field(name="occupation", dtype=String),
        Field(name="country", dtype=String),
        Field(name="preferred_genre", dtype=String),
    ],
    source=user_profile_source,
)
user_activity = FeatureView(
    name="user_activity",
    entities=[user],
    ttl=timedelta(days=7),
    schema=[
        Field(name="recent_item_ids", dtype=Array(Int64)),
        Field(name="recent_event_types", dtype=Array(String)),
        Field(name="session_id", dtype=String),
        Field(name="session_events", dtype=Int64),
        Field(name="session_items", dtype=Int64),
        Field(name="session_duration_s", dtype=Float64),
        Field(name="last_event_at_ms", dtype=Int64),
    ],
    source=user_activity_source,
)
user_seen = FeatureView(
    name="user_seen",
    entities=[user],
    ttl=timedelta(0),
    schema=[Field(name="item_ids", dtype=Array(Int64))],
    source=user_seen_source,
)
user_history = FeatureView(
    name="user_history",
    entities=[user],
    ttl=timedelta(0),
    schema=[
        Field(name="interactions", dtype=Int64),
        Field(name="unique_items", dtype=Int64),
        Field(name="rating_avg", dtype=Float64),
        Field(name="rating_stddev", dtype=Float64),
        Field(name="rating_median", dtype=Float64),
        Field(name="last_interaction_at_ms", dtype=Int64),
    ],
    source=user_history_source,
)
user_genre_preference = FeatureView(
    name="user_genre_preference",
    entities=[user],
    ttl=timedelta(0),
    schema=[Field(name="genres", dtype=Array(String)), Field(name="scores", dtype=Array(Float64))],
    source=user_genre_preference_source,
)
item_catalogue = FeatureView(
    name="item_catalogue",
    entities=[item],
    ttl=timedelta(0),
    schema=[
        Field(name="title", dtype=String),
        Field(name="genres", dtype=Array(String)),
        Field(name="release_year", dtype=Int64),
        Field(name="is_active", dtype=Bool),
    ],
    source=item_catalogue_source,
)
item_activity = FeatureView(
    name="item_activity",
    entities=[item],
    ttl=timedelta(hours=2),
    schema=[Field(name="interactions_1h", dtype=Int64), Field(name="trending_score", dtype=Float64)],
    source=item_activity_source,
)
item_history = FeatureView(
    name="item_history",
    entities=[item],
    ttl=timedelta(0),
    schema=[
        Field(name="interactions", dtype=Int64),
        Field(name="unique_users", dtype=Int64),
        Field(name="rating_avg", dtype=Float64),
        Field(name="rating_median", dtype=Float64),
    ],
    source=item_history_source,
)
country_trending = FeatureView(
    name="country_trending",
    entities=[country],
    ttl=timedelta(hours=2),
    schema=[Field(name="item_ids", dtype=Array(Int64)), Field(name="scores", dtype=Array(Float64))],
    source=country_trending_source,
)

recommendations = FeatureService(
    name="recommendations",
    features=[user_profile, user_activity, user_seen, user_history, user_genre_preference],
    description="What the recommendations API reads of a user",
)

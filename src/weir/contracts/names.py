"""Names of topics, databases and tables, stated once.

Keep: a topic or table name appears as a literal only here, in `ingest/ddl/*.sql` and in `dbt/`; contract tests hold them together.
"""

from __future__ import annotations

from typing import Final

# Kafka topics
TOPIC_USER_EVENTS: Final = "user-events"
TOPIC_ITEM_CATALOGUE: Final = "item-catalogue"
CDC_PREFIX: Final = "shop"  # Debezium's topic.prefix: topics are shop.public.<table>
TOPIC_CDC_USERS: Final = "shop.public.users"
TOPIC_CDC_ITEMS: Final = "shop.public.items"

# Users and items that experiments make up have ids from here on (no shop's sequence comes near; JSON's numbers are exact up to 2^53), and this country
# (ISO 3166-1 sets ZZ aside for private use), so that nobody's history or preferences change; training leaves them out.
SYNTHETIC_ID_FROM: Final = 9_000_000_000_000
SYNTHETIC_COUNTRY: Final = "ZZ"

# Partitions: fixed once created, since the CDC version packs (topic epoch, offset) within a key's partition.
PARTITIONS: Final = {TOPIC_USER_EVENTS: 12, TOPIC_ITEM_CATALOGUE: 3, TOPIC_CDC_USERS: 3, TOPIC_CDC_ITEMS: 3}

# Consumer group of the ingest workers
INGEST_GROUP: Final = "weir-ingest"

# ClickHouse databases: landing is written by ingest, staging and marts by dbt, otel by the OTLP receiver, ops by our rooms.
DB_LANDING: Final = "landing"
DB_STAGING: Final = "staging"
DB_MARTS: Final = "marts"
DB_OTEL: Final = "otel"
DB_OPS: Final = "ops"
DB_CAPTURED: Final = "captured"  # keyed tables made by ./weir table add

SHADOW_PREFIX: Final = "shadow__"  # begins the names of what ./weir deploy builds beside, in staging: nobody reads it
LANDING_EVENTS: Final = "landing.user_events"
LANDING_CDC: Final = "landing.cdc_changes"
LANDING_CATALOGUE: Final = "landing.catalogue_items"
LANDING_PROFILE_EXPORTS: Final = "landing.user_profile_exports"
QUARANTINE: Final = "landing.quarantine"
QUARANTINE_ACTIONS: Final = "landing.quarantine_actions"
LEDGER: Final = "landing.ingest_ledger"
CHECKED_WINDOWS: Final = "ops.checked_windows"  # which ranges of landed offsets quality has checked: docs/decisions/0017-marks.md
EVENT_WINDOWS: Final = "ops.event_windows"  # what was late, repeated or in conflict among landed events: docs/decisions/0019
RESTORES: Final = "landing.restores"

# Keyed copies of the source's tables, made by dbt: a deleted row stays, with is_deleted = 1 at its newest version.
STAGED_USERS: Final = "staging.stg_users"
STAGED_ITEMS: Final = "staging.stg_items"
# Their rows as they stand, without what was deleted or truncated
STANDING_USERS: Final = "staging.int_users"
STANDING_ITEMS: Final = "staging.int_items"

# What dbt makes: keyed copies and what stands on them or on events, then the marts. A test holds both to the files of dbt/models.
STAGED: Final = (STAGED_USERS, STAGED_ITEMS, "staging.stg_catalogue_items", "staging.stg_truncates", STANDING_USERS, STANDING_ITEMS,
                 "staging.int_user_events", "staging.int_item_events", "staging.int_active_users")
MARTS: Final = ("marts.user_profile", "marts.user_activity", "marts.user_seen", "marts.user_history", "marts.user_genre_preference", "marts.user_item_matrix",
                "marts.item_catalogue", "marts.item_activity", "marts.item_history", "marts.item_similarity", "marts.country_trending",
                "marts.daily_active_users_by_country")

# States of a service that is somebody else's, as status, services.json and the page have them.
EXTERNAL_ANSWERS: Final = "external, answers"
EXTERNAL_SILENT: Final = "external, does not answer"

# Databases that dbt-clickhouse needs to be Atomic (refreshable views do not work in the engine's `default`).
DATABASES: Final = (DB_LANDING, DB_STAGING, DB_MARTS, DB_OTEL, DB_OPS, DB_CAPTURED)

# Above every bulk-load version (milliseconds since the epoch, below 2^41): see docs/decisions/0003-cdc-version.md
CDC_VERSION_EPOCH_SHIFT: Final = 48
CDC_TOPIC_EPOCH: Final = 1  # raised by hand when a CDC topic is made anew

# What ingest fills, each by one lane with a consumer group of its own.
LANDINGS: Final = (LANDING_EVENTS, LANDING_CDC, LANDING_CATALOGUE)


def landing_of(topic: str) -> str:
    """Return the landing table of a topic."""
    return {TOPIC_USER_EVENTS: LANDING_EVENTS, TOPIC_ITEM_CATALOGUE: LANDING_CATALOGUE}.get(topic, LANDING_CDC)


def ingest_group(table: str) -> str:
    """Return the consumer group of a landing table's lane."""
    return f"{INGEST_GROUP}.{table.split('.')[1]}"

"""What a broker bounds that the protocol rests on: the length of a commit's metadata, in which a lane's intent stands, and for how long it keeps a commit.

In: bootstrap, a lane's topics. Out: nothing, or a refusal that names the setting and its value. Keep: asked before the group is entered, since a
refused commit would only make the lane come back and be refused again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import TimeoutError as NoAnswer
from typing import Any, Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource

from weir.errors import ContractViolation, Unavailable
from weir.ingest.intent import longest
from weir.topics.client import check as check_client
from weir.topics.client import client_settings
from weir.topics.retention import Kept, topics_keep

SETTING: Final = "offset.metadata.max.bytes"
DEFAULT: Final = 4096
MEMORY: Final = "offsets.retention.minutes"
MINUTE_MS: Final = 60_000
CLEANER_MS: Final = 86_400_000  # what is past its time goes within a day
ENDLESS_MINUTES: Final = 525_600  # where a topic keeps without end: a group that nobody is in for a year
TIMEOUT_S: Final = 10.0

log = logging.getLogger("weir.ingest.kafka")


def too_long(length: int, limit: int | None = None) -> ContractViolation:
    """Return the refusal of metadata of `length` bytes."""
    value = SETTING if limit is None else f"{SETTING} = {limit}"
    return ContractViolation(
        f"the brokers' {value} is too low for a batch's intent of {length} bytes",
        hint=f"set {SETTING} of every broker to {-(-length // 1024) * 1024} or more, or take fewer partitions",
    )


def refuse(partitions: dict[str, int], limit: int) -> None:
    """Refuse a limit that an intent over all these partitions could pass. Pure."""
    needed = longest(partitions)
    if needed > limit:
        raise too_long(needed, limit)


def needed_minutes(topics: Mapping[str, Kept]) -> int:
    """Return for how long a group's commits must be kept once it is empty: as long as any topic may hold what was landed. Pure."""
    return max((ENDLESS_MINUTES if k.held_ms is None else -(-(k.held_ms + CLEANER_MS) // MINUTE_MS) for k in topics.values()), default=0)


def refuse_forgetful(topics: Mapping[str, Kept], minutes: int) -> None:
    """Refuse brokers that forget a commit while the records below it may still be there: whoever came back would land them again. Pure."""
    needed = needed_minutes(topics)
    if needed > minutes:
        raise ContractViolation(
            f"the brokers' {MEMORY} = {minutes} is too low: after so long without a worker its commits are forgotten, and what was landed and is still in Kafka would be landed again",
            hint=f"set {MEMORY} of every broker to {needed} or more, or let {', '.join(sorted(topics))} keep less (retention.ms and segment.ms)", setting=MEMORY,
        )


def _limit(admin: Any, brokers: Sequence[int], setting: str = SETTING) -> int | None:
    """Return the least value of any broker; None when they do not tell (a managed Kafka may not)."""
    asked = [ConfigResource(ConfigResource.Type.BROKER, str(broker)) for broker in brokers]
    try:
        found = [future.result(TIMEOUT_S) for future in admin.describe_configs(asked, request_timeout=TIMEOUT_S).values()]
    except (KafkaException, NoAnswer):
        return None
    values = [int(settings[setting].value) for settings in found if setting in settings and settings[setting].value]
    return min(values) if values else None


def _check_memory(admin: Any, brokers: Sequence[int], topics: Sequence[str]) -> None:
    minutes = _limit(admin, brokers, MEMORY)
    try:
        keeps = topics_keep(admin, topics) if topics and minutes is not None else {}
    except (KafkaException, NoAnswer) as error:
        raise Unavailable("Kafka does not say what the topics keep", hint="./weir logs kafka shows why") from error
    if minutes is None:
        log.warning("the brokers do not tell their %s; it should be longer than a topic may hold a record", MEMORY)
    else:
        refuse_forgetful(keeps, minutes)


def check(bootstrap: str, topics: Sequence[str]) -> None:
    """Ask the brokers, and refuse a limit or a memory that is too low for these topics.

    Raises:
        ContractViolation: it is. Unavailable: no broker answers, or not about a topic. SettingsError: they refuse this client.
    """
    check_client(bootstrap)
    admin = AdminClient(client_settings(bootstrap))
    try:
        cluster = admin.list_topics(timeout=TIMEOUT_S)
    except KafkaException as error:
        raise Unavailable(f"Kafka does not answer: {error.args[0].str()}", hint="./weir logs kafka shows why") from error
    partitions = {t: len(cluster.topics[t].partitions) for t in topics if t in cluster.topics}
    limit = _limit(admin, list(cluster.brokers))
    if limit is not None:
        refuse(partitions, limit)
    elif longest(partitions) > DEFAULT:
        log.warning("the brokers do not tell their %s; an intent may be up to %d bytes", SETTING, longest(partitions))
    _check_memory(admin, list(cluster.brokers), sorted(partitions))

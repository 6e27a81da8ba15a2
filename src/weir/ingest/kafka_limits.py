"""What a broker bounds that the protocol rests on: the length of a commit's metadata, in which a lane's intent stands.

In: bootstrap, a lane's topics. Out: nothing, or a refusal that names the setting and its value. Keep: asked before the group is entered, since a
refused commit would only make the lane come back and be refused again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import TimeoutError as NoAnswer
from typing import Any, Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource

from weir.errors import ContractViolation, Unavailable
from weir.ingest.intent import longest
from weir.topics.client import check as check_client
from weir.topics.client import client_settings

SETTING: Final = "offset.metadata.max.bytes"
DEFAULT: Final = 4096
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


def _limit(admin: Any, brokers: Sequence[int]) -> int | None:
    """Return the least value of any broker; None when they do not tell (a managed Kafka may not)."""
    asked = [ConfigResource(ConfigResource.Type.BROKER, str(broker)) for broker in brokers]
    try:
        found = [future.result(TIMEOUT_S) for future in admin.describe_configs(asked, request_timeout=TIMEOUT_S).values()]
    except (KafkaException, NoAnswer):
        return None
    values = [int(settings[SETTING].value) for settings in found if SETTING in settings and settings[SETTING].value]
    return min(values) if values else None


def check(bootstrap: str, topics: Sequence[str]) -> None:
    """Ask the brokers, and refuse a limit that is too low for these topics.

    Raises:
        ContractViolation: it is. Unavailable: no broker answers. SettingsError: they refuse this client.
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

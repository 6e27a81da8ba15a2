"""Whether Kafka may delete what is not landed yet: the oldest uncommitted record of each partition against its topic's retention, as the broker says it.

In: a broker, each partition's bounds and commit. Out: an `Alarm` a partition that has one. Keep: it rises while half of the retention is still left, since a record
that is deleted before it is landed cannot be healed by anything; what could not be asked is `None`, never an empty list. Nothing is read where nothing is old.

A segment goes when its newest record is older than `retention.ms`, or when without it the partition still has `retention.bytes`: so a record is safe for
`retention.ms` after its timestamp, and while what follows it is smaller than `retention.bytes` (kafka.apache.org/documentation, topic configurations).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import TimeoutError as NoAnswer
from dataclasses import dataclass
from typing import Any, Final

from weir.errors import WeirError
from weir.topics.reader import Partition, Reader, quiet_admin

HALF: Final = 0.5  # of the retention: the other half is the time to come and mend; of a week, more than a long weekend
HOUR_MS: Final = 3_600_000
ASK_S: Final = 4.0
OVERHEAD_BYTES: Final = 70  # of a record beside key and value, its headers included; compression makes it less, so an estimate is high
SAMPLE: Final = 100  # records whose sizes stand for the others


@dataclass(frozen=True, slots=True)
class Position:
    """One partition: the first offset there is, the end, and the next offset to land; None: nothing was ever committed."""

    begin: int
    end: int
    committed: int | None

    @property
    def next(self) -> int:
        """Return the first offset that is not landed."""
        return self.begin if self.committed is None else self.committed

    @property
    def lost(self) -> bool:
        """Say whether records were deleted before they were landed."""
        return self.committed is not None and self.committed < self.begin


@dataclass(frozen=True, slots=True)
class Kept:
    """What a topic keeps: `ms` and `size_bytes` (of a partition); None: without end. `held_ms`: how old a record may be before it goes, with its whole segment."""

    ms: int | None = None
    size_bytes: int | None = None
    held_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Alarm:
    """One partition whose unlanded records are near their deletion, as a text for reading. `lost`: some are deleted; `left_h`: hours until they may be, None where only size bounds them."""

    topic: str
    partition: int
    text: str
    lost: bool = False
    left_h: float | None = None


def kept(settings: Mapping[str, str]) -> Kept:
    """Read a topic's settings. Pure. A topic that is only compacted deletes nothing by age or size."""
    if "delete" not in settings.get("cleanup.policy", "delete"):
        return Kept()
    ms, size = int(settings.get("retention.ms", "-1")), int(settings.get("retention.bytes", "-1"))
    return Kept(ms if ms >= 0 else None, size if size >= 0 else None, ms + int(settings.get("segment.ms", "0")) if ms >= 0 else None)


def judge(partition: Partition, at: Position, keeps: Kept, now_ms: int, oldest_ms: int | None, unlanded_bytes: int) -> Alarm | None:
    """Judge one partition. Pure. `oldest_ms`: timestamp of the first record that is not landed, None: there is none; `unlanded_bytes`: about how much is not."""
    name = f"{partition[0]}/{partition[1]}"
    if at.lost:
        return Alarm(*partition, f"{name}, offsets {at.committed} to {at.begin - 1}, were deleted before they were landed: docs/decisions/0001, 'records that are gone'", lost=True, left_h=0.0)
    if at.next >= at.end:
        return None
    if oldest_ms is not None and keeps.ms is not None and now_ms - oldest_ms >= HALF * keeps.ms:
        left_h = max(0.0, (oldest_ms + keeps.ms - now_ms) / HOUR_MS)
        return Alarm(*partition, f"{left_h:.1f} h left before records of {name} that are not landed are deleted: make its lane land, or raise retention.ms of {partition[0]}",
                     left_h=round(left_h, 2))
    if keeps.size_bytes is not None and unlanded_bytes >= HALF * keeps.size_bytes:
        return Alarm(*partition, f"about {unlanded_bytes / 1e6:,.1f} MB of {name} are not landed, and it keeps {keeps.size_bytes / 1e6:,.1f} MB: make its lane land, "
                                 f"or raise retention.bytes of {partition[0]}")
    return None


def worst(alarms: Sequence[Alarm]) -> list[Alarm]:
    """Return of each topic the alarm with the least time left, lost ones first. Pure. Size-bounded ones have no time, and come last."""
    found: dict[str, Alarm] = {}
    for alarm in sorted(alarms, key=lambda a: (not a.lost, a.left_h is None, a.left_h or 0.0, a.partition)):
        found.setdefault(alarm.topic, alarm)
    return list(found.values())


def positions(bootstrap: str, group: str, topics: Sequence[str]) -> dict[Partition, Position]:
    """Ask for the bounds and the group's commit of every partition of the topics that there are.

    Raises:
        Unavailable: Kafka does not answer.
    """
    reader = Reader(bootstrap, group)
    found: dict[Partition, Position] = {}
    try:
        for topic in topics:
            numbers = reader.partitions(topic)
            committed = reader.committed(topic, numbers) if numbers else {}
            found |= {(topic, p): Position(*reader.bounds(topic, p), committed[p][0] if p in committed else None) for p in numbers}
    finally:
        reader.close()
    return found


def topics_keep(admin: Any, topics: Sequence[str]) -> dict[str, Kept]:
    """Ask the broker what each topic keeps."""
    from confluent_kafka.admin import ConfigResource

    asked = admin.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, t) for t in topics], request_timeout=ASK_S)
    return {resource.name: kept({name: entry.value for name, entry in future.result(ASK_S).items()}) for resource, future in asked.items()}


def _first_since(admin: Any, since_ms: Mapping[Partition, int]) -> dict[Partition, int]:
    """Ask for the first offset of each partition whose record is not older than `since_ms`; -1: there is none."""
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import OffsetSpec

    if not since_ms:
        return {}
    asked = admin.list_offsets({TopicPartition(*p): OffsetSpec.for_timestamp(ms) for p, ms in since_ms.items()}, request_timeout=ASK_S)
    return {(p.topic, p.partition): future.result(ASK_S).offset for p, future in asked.items()}


def _sampled(bootstrap: str, partition: Partition, at: Position) -> tuple[int | None, int]:
    """Read the first records that are not landed: the timestamp of the first, None when only markers are left, and about how many bytes all of them are."""
    reader = Reader(bootstrap, "weir-retention", patience_s=ASK_S)
    try:
        messages = [m for found in reader.read({partition: (at.next, min(at.end, at.next + SAMPLE))}) for m in found]
    finally:
        reader.close()
    if not messages:
        return None, 0
    size = sum(OVERHEAD_BYTES + len(m.key() or b"") + len(m.value() or b"") for m in messages)
    return int(messages[0].timestamp()[1]), size * (at.end - at.next) // len(messages)


def alarms(bootstrap: str, positions: Mapping[Partition, Position], now_ms: int | None = None) -> list[Alarm] | None:
    """Ask and judge every partition; None: the broker could not be asked. Records are read only of partitions with something old, or where size bounds them."""
    from confluent_kafka import KafkaException

    now = int(time.time() * 1000) if now_ms is None else now_ms
    behind = {p: at for p, at in positions.items() if at.next < at.end}
    found = [a for p, at in positions.items() if (a := judge(p, at, Kept(), now, None, 0))]
    if not behind:
        return found
    try:
        admin = quiet_admin(bootstrap)
        keeps = topics_keep(admin, sorted({t for t, _ in behind}))
        timed = {p: int(now - HALF * ms) for p in behind if (ms := keeps[p[0]].ms) is not None}
        first = _first_since(admin, timed)
        for partition, at in behind.items():
            old = partition in first and not 0 <= first[partition] <= at.next
            if at.lost or (not old and keeps[partition[0]].size_bytes is None):
                continue
            alarm = judge(partition, at, keeps[partition[0]], now, *_sampled(bootstrap, partition, at))
            found += [alarm] if alarm else []
    except (KafkaException, KeyError, ValueError, NoAnswer, WeirError):
        return None
    return found

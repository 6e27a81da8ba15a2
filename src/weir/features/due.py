"""Which keys of which view are due, from what has landed. Pure.

In: changed rows of the landing tables, the watermark. Out: keys by view. Keep: offsets are followed per topic and partition, since clocks
differ and batches of several partitions land in any order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from weir.contracts import names
from weir.contracts.features import ALL_COUNTRIES, FEATURE_VIEWS, FeatureViewContract

Key = int | str


@dataclass(frozen=True, slots=True)
class Changes:
    """Keys that changed since the watermark: by events (users, items, countries) and by CDC (users, items).

    `whole_users`, `whole_items`: those whose source row was created or deleted, which every view of the entity shows.
    """

    event_users: frozenset[int] = frozenset()
    event_items: frozenset[int] = frozenset()
    event_countries: frozenset[str] = frozenset()
    cdc_users: frozenset[int] = frozenset()
    cdc_items: frozenset[int] = frozenset()
    whole_users: frozenset[int] = frozenset()
    whole_items: frozenset[int] = frozenset()
    truncated: frozenset[str] = frozenset()  # 'users', 'items': every key of theirs is due, and none is named

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in self.__slots__)


@dataclass
class Watermark:
    """The next offset to look at, by topic and partition."""

    offsets: dict[tuple[str, int], int] = field(default_factory=dict)

    def encode(self) -> str:
        """Return it as text."""
        return json.dumps([[t, p, o] for (t, p), o in sorted(self.offsets.items())])

    @staticmethod
    def decode(text: str) -> Watermark:
        """Read the text; empty means from the beginning."""
        return Watermark({(t, p): o for t, p, o in json.loads(text)} if text else {})

    def condition(self, topics: Iterable[str], unseen: str = "1") -> str:
        """Return the SQL condition for rows at or past it, by primary key ranges; of partitions not seen yet, the rows where `unseen` holds."""
        parts = []
        for topic in topics:
            seen = {p: o for (t, p), o in self.offsets.items() if t == topic}
            ranges = [f"(partition = {p} AND offset >= {o})" for p, o in sorted(seen.items())]
            others = f"partition NOT IN ({', '.join(str(p) for p in sorted(seen))})" if seen else ""
            others = " AND ".join(part for part in (others, unseen if unseen != "1" else "") if part) or "1"
            parts.append(f"(topic = '{topic}' AND ({' OR '.join([*ranges, f'({others})' if ' AND ' in others else others])}))")
        return "(" + " OR ".join(parts) + ")"

    def advanced(self, ends: Mapping[tuple[str, int], int]) -> Watermark:
        """Return it moved past the given last offsets."""
        return Watermark(self.offsets | {key: max(last + 1, self.offsets.get(key, 0)) for key, last in ends.items()})


@dataclass
class Exports:
    """Whether bulk-loaded profiles wait to be read. `done`: rows of the export table when the profiles were last read whole.

    A load comes in blocks, and a block stands in the landing table a moment before the view behind it has it: the count must have been the
    same for `settle_s` first.
    """

    done: int = 0
    seen: int = 0
    since_s: float = 0.0
    settle_s: float = 1.0

    def due(self, rows: int, now_s: float) -> bool:
        """Return whether the profiles are to be read whole, given the table's rows at `now_s` (monotonic)."""
        if rows != self.seen:
            self.seen, self.since_s = rows, now_s
        return rows != self.done and now_s - self.since_s >= self.settle_s


def look_back_s(views: Iterable[FeatureViewContract] = FEATURE_VIEWS) -> int:
    """Return how old an event can be and still show in a view that events trigger; 0: there is one that never forgets.

    A view that is read whole besides ("batch") has the older ones from there.
    """
    ages = [view.window_s or view.ttl_s for view in views if "events" in view.triggers and "batch" not in view.triggers]
    return 0 if 0 in ages else max(ages, default=0)


def due(changes: Changes) -> dict[str, tuple[FeatureViewContract, frozenset[Key]]]:
    """Return the keys to read again by view name; views without any are left out."""
    by: dict[str, dict[str, frozenset[Key]]] = {
        "user_id": {"events": frozenset(changes.event_users), "users": frozenset(changes.cdc_users)},
        "item_id": {"events": frozenset(changes.event_items), "items": frozenset(changes.cdc_items)},
        "country": {"events": frozenset(changes.event_countries | {ALL_COUNTRIES}) if changes.event_countries else frozenset()},
    }
    whole: dict[str, frozenset[Key]] = {"user_id": frozenset(changes.whole_users), "item_id": frozenset(changes.whole_items)}
    found: dict[str, tuple[FeatureViewContract, frozenset[Key]]] = {}
    for view in FEATURE_VIEWS:
        keys = whole.get(view.entity, frozenset()).union(*(by[view.entity].get(trigger, frozenset()) for trigger in view.triggers))
        if keys:
            found[view.name] = (view, keys)
    return found


def emptied(changes: Changes) -> list[FeatureViewContract]:
    """Return the views of which every key is due: those of a truncated table's entity."""
    entities = {{"users": "user_id", "items": "item_id"}[table] for table in changes.truncated}
    return [view for view in FEATURE_VIEWS if view.entity in entities]


def table_of(topic: str) -> str | None:
    """Return the shop's table of a CDC topic, or None."""
    return {names.TOPIC_CDC_USERS: "users", names.TOPIC_CDC_ITEMS: "items"}.get(topic)


def user_of(topic: str, key_json: str) -> tuple[str, int] | None:
    """Return ('users' or 'items', id) from a Debezium key, or None for another table."""
    table, column = {names.TOPIC_CDC_USERS: ("users", "user_id"), names.TOPIC_CDC_ITEMS: ("items", "item_id")}.get(topic, ("", ""))
    if not table:
        return None
    try:
        return table, int(json.loads(key_json)[column])
    except (ValueError, KeyError, TypeError):
        return None

"""Served features as values: what one Redis hash says of a user, with ages. Pure.

In: raw hash fields in the order of `fields_of`. Out: `ServedView`s and, from them, the ranker's `UserSignals`.
Keep: a view past its ttl is absent and says so; a value that cannot be decoded is absent and says so, it never fails a request.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from weir.contracts.features import FEATURE_VIEWS, FeatureViewContract
from weir.contracts.online import Value, decode_timestamp, decode_value, view_fields
from weir.errors import ContractViolation
from weir.serving.rank import UserSignals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from weir.contracts.model import Floats, Ints

VIEWS: Final[Mapping[str, FeatureViewContract]] = {view.name: view for view in FEATURE_VIEWS}
USER_VIEWS: Final = tuple(view for view in FEATURE_VIEWS if view.entity == "user_id")
USER_FIELDS: Final = tuple(name for view in USER_VIEWS for name in view_fields(view))


class FeatureReader(Protocol):
    """Where a request reads a user's served features: one round trip."""

    async def user(self, user_id: int) -> Sequence[bytes | None]:
        """Return the values of USER_FIELDS; raises weir.errors.Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class ServedView:
    """One view of one entity. `event_ms` is the time of its newest input; None: the view holds nothing for this entity."""

    name: str
    event_ms: int | None = None
    values: Mapping[str, Value] = field(default_factory=dict)
    problem: str = ""  # "", "expired", "unreadable"


def decode_view(view: FeatureViewContract, raw: Sequence[bytes | None], now_ms: int) -> ServedView:
    """Decode one view from its fields (event time first)."""
    if raw[0] is None:
        return ServedView(view.name)
    try:
        event_ms = decode_timestamp(raw[0])
        if view.ttl_s and now_ms - event_ms > view.ttl_s * 1000:
            return ServedView(view.name, event_ms, problem="expired")
        values = {name: decode_value(kind, data) for (name, kind), data in zip(view.features, raw[1:], strict=True)}
    except (ContractViolation, IndexError):
        return ServedView(view.name, problem="unreadable")
    return ServedView(view.name, event_ms, values)


def decode_user(raw: Sequence[bytes | None], now_ms: int) -> dict[str, ServedView]:
    """Decode every user view from the values of USER_FIELDS."""
    found, at = {}, 0
    for view in USER_VIEWS:
        size = 1 + len(view.features)
        found[view.name] = decode_view(view, raw[at : at + size], now_ms)
        at += size
    return found


def text(view: ServedView | None, name: str) -> str:
    """Return a string feature, or ""."""
    value = view.values.get(name) if view else None
    return value if isinstance(value, str) else ""


def numbers(view: ServedView | None, name: str) -> list[float]:
    """Return a list of numbers, or []."""
    value = view.values.get(name) if view else None
    return [v for v in value if isinstance(v, int | float)] if isinstance(value, list) else []


def texts(view: ServedView | None, name: str) -> list[str]:
    """Return a list of strings, or []."""
    value = view.values.get(name) if view else None
    return [v for v in value if isinstance(v, str)] if isinstance(value, list) else []


def signals(views: Mapping[str, ServedView], user_factors: Floats | None, seen: Ints | Sequence[int]) -> UserSignals:
    """Return the ranker's input for one user. `seen`: what the model's training knew of, besides what is served now."""
    activity, preference = views.get("user_activity"), views.get("user_genre_preference")
    return UserSignals(
        user_factors=user_factors,
        seen=[*seen, *(int(v) for v in numbers(views.get("user_seen"), "item_ids"))],
        recent_items=[int(v) for v in numbers(activity, "recent_item_ids")],
        recent_types=texts(activity, "recent_event_types"),
        preferred_genre=text(views.get("user_profile"), "preferred_genre"),
        genre_scores=dict(zip(texts(preference, "genres"), numbers(preference, "scores"), strict=False)),
    )

"""The items and trending lists as served, decoded into arrays. Pure: `redis_features` does the reading.

In: raw item hashes and trending hashes. Out: a `Snapshot` that requests read without a lock.
Keep: a snapshot is immutable and replaced whole; an item without a catalogue row is not in it, so it is never recommended. Only rows
whose bytes changed are decoded again (a refresh would otherwise decode 1,682 rows to learn nothing).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from weir.contracts.features import ALL_COUNTRIES
from weir.contracts.online import view_fields
from weir.serving.features import VIEWS, ServedView, decode_view, numbers, text, texts
from weir.serving.rank import Items, Trending, unit_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from weir.contracts.features import FeatureViewContract

ITEM_VIEWS: Final = (VIEWS["item_catalogue"], VIEWS["item_activity"], VIEWS["item_history"])
ITEM_FIELDS: Final = tuple(name for view in ITEM_VIEWS for name in view_fields(view))
COUNTRY_VIEW: Final = VIEWS["country_trending"]
COUNTRY_FIELDS: Final = tuple(view_fields(COUNTRY_VIEW))

Raw = tuple[bytes | None, ...]
NO_ITEMS: Final = Items(
    np.zeros(0, np.int64), np.zeros(0, bool), np.zeros((0, 0), np.float32), (), np.zeros(0, np.float32), np.zeros(0, np.float32), {}
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What every request shares. `version` changes when the rows of `items` move, so that a model is aligned again."""

    version: int = 0
    items: Items = NO_ITEMS
    titles: tuple[str, ...] = ()
    genres: tuple[tuple[str, ...], ...] = ()
    trending: Mapping[str, Trending] = field(default_factory=dict)
    catalogue_event_ms: int | None = None  # newest change of an item's own row
    item_event_ms: int | None = None  # newest event in item_activity
    history_event_ms: int | None = None  # newest event in item_history
    trending_event_ms: int | None = None
    problems: tuple[tuple[str, str], ...] = ()  # (view, problem) that some item or country has
    read_at_ms: int = 0


@dataclass(slots=True)
class CatalogueBuilder:
    """Keeps the decoded rows of the last refresh and builds the next snapshot from what changed."""

    _raw: dict[int, Raw] = field(default_factory=dict)
    _rows: dict[int, tuple[ServedView, ...]] = field(default_factory=dict)
    _countries: dict[str, Raw] = field(default_factory=dict)
    _places: dict[str, ServedView] = field(default_factory=dict)
    _last: Snapshot = field(default_factory=Snapshot)

    def build(self, items: Mapping[int, Raw], countries: Mapping[str, Raw], now_ms: int) -> Snapshot:
        """Return the snapshot of these raw rows."""
        moved = self._take_items(items, now_ms)
        trending = self._trending(countries, now_ms)
        ids = sorted(i for i, views in self._rows.items() if views[0].event_ms is not None)
        known = self._last
        if moved or len(ids) != len(known.items.ids):
            known = _static(ids, self._rows, known.version + 1)
        catalogue, activity, history = ([self._rows[i][column] for i in ids] for column in range(len(ITEM_VIEWS)))
        arrays = Items(
            known.items.ids, known.items.active, known.items.genres, known.items.genre_names,
            np.asarray([_number(v, "trending_score") for v in activity], np.float32),
            np.asarray([_number(v, "interactions") for v in history], np.float32),
            known.items.index,
        )
        problems = {(v.name, v.problem) for views in (*self._rows.values(), self._places.values()) for v in views if v.problem}
        self._last = Snapshot(
            known.version, arrays, known.titles, known.genres, trending, _newest(catalogue), _newest(activity), _newest(history),
            _newest(self._places.values()), tuple(sorted(problems)), now_ms,
        )
        return self._last

    def again(self, now_ms: int) -> Snapshot:
        """Return the last snapshot as read again at `now_ms`, which found nothing changed."""
        self._last = replace(self._last, read_at_ms=now_ms)
        return self._last

    def _take_items(self, items: Mapping[int, Raw], now_ms: int) -> bool:
        """Decode changed rows; True when a catalogue row changed. A view with a ttl is decoded again while it holds something."""
        moved = False
        for gone in self._rows.keys() - items.keys():
            del self._rows[gone], self._raw[gone]
            moved = True
        for item_id, raw in items.items():
            before = self._raw.get(item_id)
            if before == raw and not self._expires(item_id, now_ms):
                continue
            views, at = [], 0
            for view in ITEM_VIEWS:
                size = 1 + len(view.features)
                views.append(decode_view(view, raw[at : at + size], now_ms))
                at += size
            head = 1 + len(ITEM_VIEWS[0].features)
            moved = moved or before is None or before[:head] != raw[:head]
            self._raw[item_id], self._rows[item_id] = raw, tuple(views)
        return moved

    def _expires(self, item_id: int, now_ms: int) -> bool:
        return any(_expires(view, served, now_ms) for view, served in zip(ITEM_VIEWS, self._rows[item_id], strict=True))

    def _trending(self, countries: Mapping[str, Raw], now_ms: int) -> Mapping[str, Trending]:
        """Decode the countries' lists when one changed or expired."""
        if countries == self._countries and not any(_expires(COUNTRY_VIEW, view, now_ms) for view in self._places.values()):
            return self._last.trending
        self._countries = dict(countries)
        self._places = {name: decode_view(COUNTRY_VIEW, raw, now_ms) for name, raw in countries.items()}
        lists = {name: _scores(view) for name, view in self._places.items()}
        overall = lists.get(ALL_COUNTRIES, {})
        found = {name: Trending(overall, {} if name == ALL_COUNTRIES else scores) for name, scores in lists.items()}
        found.setdefault(ALL_COUNTRIES, Trending(overall))
        return found


def trending_of(snapshot: Snapshot, country: str) -> Trending:
    """Return the lists for a country; the overall one when the country has none."""
    return snapshot.trending.get(country) or snapshot.trending.get(ALL_COUNTRIES) or Trending()


def _expires(view: FeatureViewContract, served: ServedView, now_ms: int) -> bool:
    """Return whether a view that was decoded with values is past its ttl by now."""
    return bool(view.ttl_s) and served.event_ms is not None and not served.problem and now_ms - served.event_ms > view.ttl_s * 1000


def _newest(views: Iterable[ServedView]) -> int | None:
    return max((v.event_ms for v in views if v.event_ms is not None and not v.problem), default=None)


def _scores(view: ServedView) -> dict[int, float]:
    return {int(i): s for i, s in zip(numbers(view, "item_ids"), numbers(view, "scores"), strict=False)}


def _number(view: ServedView, name: str) -> float:
    value = view.values.get(name)
    return float(value) if isinstance(value, int | float) else 0.0


def _static(ids: Sequence[int], rows: Mapping[int, tuple[ServedView, ...]], version: int) -> Snapshot:
    """Return the parts that only the catalogue changes. An item whose row is unreadable or says nothing is inactive."""
    genres = [texts(rows[i][0], "genres") for i in ids]
    names = tuple(sorted({name for found in genres for name in found}))
    column = {name: n for n, name in enumerate(names)}
    hot = np.zeros((len(ids), len(names)), dtype=np.float32)
    for row, found in enumerate(genres):
        for name in found:
            hot[row, column[name]] = 1.0
    items = Items(
        np.asarray(ids, np.int64),
        np.asarray([rows[i][0].values.get("is_active") is True for i in ids], bool),
        unit_rows(hot),
        names,
        np.zeros(len(ids), np.float32),
        np.zeros(len(ids), np.float32),
        {item: row for row, item in enumerate(ids)},
    )
    return Snapshot(version, items, tuple(text(rows[i][0], "title") for i in ids), tuple(tuple(g) for g in genres))

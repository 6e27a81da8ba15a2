"""Every mart in plain Python, from what was sent; shares no line with the SQL.

In: accepted events, CDC changes, catalogue entries and bulk rows, as they were sent. Out: rows of each mart, by its key. Times are ms since the epoch.
"""
from __future__ import annotations

import math
import statistics
from collections import defaultdict
from dataclasses import dataclass, field

HOUR_MS, DAY_MS, HALF_LIFE_MS = 3_600_000, 86_400_000, 1_200_000
WEIGHT = {"view": 1, "click": 2, "rate": 4}


@dataclass
class Sent:
    """All that was sent. `events`: by event id, so that what is sent twice counts once; `changes`: by table, (place in the commit order, key, row
    or None, changed_at); `truncates`: by table, (place, committed at)."""

    events: dict = field(default_factory=dict)
    changes: dict = field(default_factory=lambda: {"users": [], "items": []})
    truncates: dict = field(default_factory=lambda: {"users": [], "items": []})
    bulk: list = field(default_factory=list)
    catalogue: list = field(default_factory=list)

    def ordered(self):
        return sorted(self.events.values(), key=lambda e: (e["occurred_at"], e["event_id"]))


def _by(rows, *keys):
    out = defaultdict(list)
    for row in rows:
        out[tuple(row[k] for k in keys) if len(keys) > 1 else row[keys[0]]].append(row)
    return out


CDC, BULK = 1, 0


def _newest(rows, truncates):
    """Return {key: (row, changed_at)} of the newest of each key, any change before any bulk row; what was deleted or truncated is not there."""
    place, committed = max(truncates, default=(0, 0))
    best = {}
    for version, key, row, at in rows:
        if key not in best or version > best[key][0]:
            best[key] = (version, row, at)
    after = {CDC: place, BULK: committed}
    return {key: (row, at) for key, ((kind, n), row, at) in best.items() if row is not None and n > after[kind]}


def user_profile(sent):
    rows = [((BULK, r["as_of"]), r["user_id"], r, r["as_of"]) for r in sent.bulk]
    found = _newest(rows + [((CDC, place), key, row, at) for place, key, row, at in sent.changes["users"]], sent.truncates["users"])
    columns = ("age", "gender", "occupation", "country")
    return {k: {c: r[c] for c in columns} | {"preferred_genre": r["preferred_genre"] or "", "event_timestamp": at} for k, (r, at) in found.items()}


def item_catalogue(sent):
    known = {}
    for entry in sent.catalogue:  # offsets rise, so the last one sent is the newest
        known[entry["item_id"]] = entry
    out = {}
    changes = [((CDC, place), key, row, at) for place, key, row, at in sent.changes["items"]]
    for key, (row, at) in _newest(changes, sent.truncates["items"]).items():
        entry = known.get(key, {"genres": [], "release_year": 0, "updated_at": 0})
        out[key] = {
            "title": row["title"], "genres": entry["genres"] or row["genres"], "release_year": entry["release_year"] or row["release_year"] or 0,
            "is_active": row["is_active"], "event_timestamp": max(at, entry["updated_at"]),
        }
    return out


def user_activity(sent):
    out = {}
    for user, events in _by(sent.ordered(), "user_id").items():
        last = events[::-1][:100]
        session = [e for e in events[::-1] if e["session_id"] == last[0]["session_id"]]
        out[user] = {
            "recent_item_ids": [e["item_id"] for e in last], "recent_event_types": [e["event_type"] for e in last], "session_id": last[0]["session_id"],
            "session_events": len(session), "session_items": len({e["item_id"] for e in session}),
            "session_duration_s": (session[0]["occurred_at"] - session[-1]["occurred_at"]) / 1000,
            "last_event_at_ms": last[0]["occurred_at"], "event_timestamp": last[0]["occurred_at"],
        }
    return out


def user_seen(sent):
    out = {}
    for user, events in _by(sent.ordered(), "user_id").items():
        newest = {}
        for event in events:
            newest[event["item_id"]] = max(event["occurred_at"], newest.get(event["item_id"], 0))
        seen = sorted(newest, key=lambda item: (-newest[item], item))[:2000]
        out[user] = {"item_ids": seen, "event_timestamp": events[-1]["occurred_at"]}
    return out


def _ratings(events):
    found = [e["rating"] for e in events if e["rating"] is not None]
    return {
        "rating_avg": statistics.fmean(found) if found else 0.0,
        "rating_median": statistics.median(found) if found else 0.0,
        "rating_stddev": statistics.pstdev(found) if found else 0.0,
    }


def user_history(sent):
    return {
        user: {
            "interactions": len(events), "unique_items": len({e["item_id"] for e in events}), **_ratings(events),
            "last_interaction_at_ms": events[-1]["occurred_at"], "event_timestamp": events[-1]["occurred_at"],
        }
        for user, events in _by(sent.ordered(), "user_id").items()
    }


def item_history(sent):
    out = {}
    for item, events in _by(sent.ordered(), "item_id").items():
        ratings = _ratings(events)
        del ratings["rating_stddev"]
        out[item] = {"interactions": len(events), "unique_users": len({e["user_id"] for e in events}), **ratings, "event_timestamp": events[-1]["occurred_at"]}
    return out


def _confidence(event):
    """A rating counts by its share of five."""
    return WEIGHT[event["event_type"]] * (1.0 if event["rating"] is None else event["rating"] / 5)


def user_item_matrix(sent):
    return {
        pair: {
            "interactions": len(events), "rating_avg": _ratings(events)["rating_avg"], "weight": sum(_confidence(e) for e in events),
            "last_at": events[-1]["occurred_at"],
        }
        for pair, events in _by(sent.ordered(), "user_id", "item_id").items()
    }


def user_genre_preference(sent):
    catalogue, weights, newest = item_catalogue(sent), defaultdict(lambda: defaultdict(float)), defaultdict(int)
    for (user, item), row in user_item_matrix(sent).items():
        for genre in catalogue.get(item, {"genres": []})["genres"]:
            weights[user][genre] += row["weight"]
            newest[user] = max(newest[user], row["last_at"])
    out = {}
    for user, shares in weights.items():
        total = sum(shares.values())
        ranked = sorted(((w / total, genre) for genre, w in shares.items()), reverse=True)
        out[user] = {"genres": [g for _, g in ranked], "scores": [s for s, _ in ranked], "event_timestamp": newest[user]}
    return out


def item_similarity(sent):
    likes = defaultdict(set)
    for (user, item), row in user_item_matrix(sent).items():
        if row["rating_avg"] >= 4:
            likes[item].add(user)
    return {
        (a, b): {"score": len(likes[a] & likes[b]) / math.sqrt(len(likes[a]) * len(likes[b]))}
        for a in likes for b in likes if a != b and len(likes[a] & likes[b]) >= 5
    }


def daily_active_users_by_country(sent):
    days = _by([{**e, "day": e["occurred_at"] // DAY_MS} for e in sent.ordered()], "day", "country")
    return {key: {"users": len({e["user_id"] for e in events})} for key, events in days.items()}


def _decayed(event, now_ms):
    return WEIGHT[event["event_type"]] * 2 ** (-(now_ms - event["occurred_at"]) / HALF_LIFE_MS)


def _lately(sent, now_ms):
    return [e for e in sent.ordered() if e["occurred_at"] > now_ms - HOUR_MS]


def item_activity(sent, now_ms):
    return {
        item: {"interactions_1h": len(events), "trending_score": sum(_decayed(e, now_ms) for e in events), "event_timestamp": events[-1]["occurred_at"]}
        for item, events in _by(_lately(sent, now_ms), "item_id").items()
    }


def country_trending(sent, now_ms):
    out = {}
    everywhere = [{**e, "country": "ALL"} for e in _lately(sent, now_ms)]
    for country, events in _by(_lately(sent, now_ms) + everywhere, "country").items():
        ranked = sorted(((sum(_decayed(e, now_ms) for e in found), item) for item, found in _by(events, "item_id").items()), reverse=True)[:100]
        out[country] = {
            "item_ids": [i for _, i in ranked], "scores": [s for s, _ in ranked],
            "event_timestamp": max(e["occurred_at"] for e in events),
        }
    return out


KEYS = {
    user_profile: ("user_id",), item_catalogue: ("item_id",), user_activity: ("user_id",), user_seen: ("user_id",), user_history: ("user_id",), item_history: ("item_id",),
    user_item_matrix: ("user_id", "item_id"), user_genre_preference: ("user_id",), item_similarity: ("item_id", "similar_item_id"),
    daily_active_users_by_country: ("day", "country"), item_activity: ("item_id",), country_trending: ("country",),
}
WINDOWED = (item_activity, country_trending)

"""Follow one profile change and one click from outside, with a stopwatch, until the recommendations changed.

In: a user. Out: milliseconds of each hop. Keep: times start before the commit or the produce call, so they are upper bounds; polls are 20 ms apart.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

import httpx

from weir.contracts import names, tls
from weir.contracts.endpoints import Endpoints
from weir.contracts.events import EventType
from weir.demo.result import Hops, others_changed
from weir.errors import Terminal, Unavailable, WeirError
from weir.ingest.clickhouse import ClickHouse
from weir.simulation import produce
from weir.simulation.derive import Event
from weir.simulation.source import answering
from weir.telemetry import Telemetry

POLL_S: Final = 0.02
LIMIT_S: Final = 30.0
GENRES: Final = ("Sci-Fi", "Romance", "Horror", "Comedy")
K: Final = 10
CHANGED_S: Final = 5.0  # a request reads the features that are served then: the first answer after them has changed, or none will
_LANDED_EVENT: Final = f"SELECT count() FROM {names.LANDING_EVENTS} WHERE produced_at > now() - 120 AND event_id = {{id:String}}"
_LANDED_CHANGE: Final = (
    f"SELECT count() FROM {names.LANDING_CDC} WHERE topic = '{names.TOPIC_CDC_USERS}' AND produced_at > now() - 120 AND tx_id = {{transaction:UInt64}} "
    "AND JSONExtractInt(after, 'user_id') = {user:Int64}"
)


class Api:
    """The recommendations API as the story uses it."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=10, verify=tls.context())

    def _ask(self, method: str, path: str, traceparent: str = "") -> Any:
        headers = {"traceparent": traceparent} if traceparent else None
        try:
            return self._client.request(method, path, headers=headers).raise_for_status().json()
        except httpx.HTTPError as error:
            raise Unavailable(f"the API did not answer {path}: {error!r}", hint="./weir logs api shows why") from error

    def features(self, user_id: int, traceparent: str = "") -> dict[str, dict[str, Any]]:
        """Return the served features by view; with a W3C `traceparent` as a part of that trace."""
        found: dict[str, dict[str, Any]] = self._ask("GET", f"/features/{user_id}", traceparent)["features"]
        return found

    def recommendations(self, user_id: int) -> list[int]:
        """Return the recommended item ids in order."""
        return [int(i["item_id"]) for i in self._ask("GET", f"/recommendations/{user_id}?k={K}")["items"]]

    def reload(self) -> None:
        """Have the API load the champion."""
        self._ask("POST", "/model/reload")

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def until(question: Callable[[], bool], what: str, limit_s: float = LIMIT_S) -> float:
    """Ask every 20 ms until the answer is yes; return the monotonic time of it.

    Raises:
        Terminal: it stayed no for `limit_s`.
    """
    deadline = time.monotonic() + limit_s
    while not question():
        if time.monotonic() > deadline:
            raise Terminal(f"{what} did not show within {limit_s:.0f} s", hint="./weir logs features and ./weir logs ingest show why")
        time.sleep(POLL_S)
    return time.monotonic()


@dataclass(frozen=True, slots=True)
class Followed:
    """How long each hop of a change took, the recommendations that it led to, and the feature view that it changed, as served before and after."""

    hops: Hops
    recommendations: list[int]
    served_before: Mapping[str, Any] = field(default_factory=dict)
    served_after: Mapping[str, Any] = field(default_factory=dict)


class Served:
    """One feature view of a user, as the API serves it; `values` is the newest answer, empty when nothing is served."""

    def __init__(self, api: Api, user_id: int, view: str) -> None:
        self._api, self._user_id, self._view = api, user_id, view
        self.values: dict[str, Any] = {}

    def ask(self, traceparent: str = "") -> dict[str, Any]:
        """Ask anew; with a W3C `traceparent` as a part of that trace."""
        self.values = self._api.features(self._user_id, traceparent).get(self._view) or {}
        return self.values


class Watched(Protocol):
    """Looks for a change in its landing table while others look elsewhere; `at` is the monotonic time when it was seen, 0 until then."""

    at: float

    def join(self, timeout: float | None = None) -> None:
        """Wait until it was seen."""


class _Landing(threading.Thread):
    """Watches a landing table by a count that becomes more than zero."""

    def __init__(self, url: str, sql: str, **parameters: str | int) -> None:
        super().__init__(daemon=True)
        self._url, self._sql, self._parameters, self.at = url, sql, parameters, 0.0

    def run(self) -> None:
        client = ClickHouse(self._url)
        try:
            self.at = until(lambda: client.execute(self._sql, **self._parameters).strip() != "0", "the row")
        except WeirError:
            return  # `at` stays 0, which followed() refuses
        finally:
            client.close()


def followed(
    what: str, began_s: float, landing: Watched, served: Callable[[], bool], recommendations: Callable[[], list[int]], changed: Callable[[list[int]], bool],
) -> Followed:
    """Follow one change that began at the monotonic time `began_s` to its feature, and on to recommendations that are `changed`.

    Raises:
        Terminal: a hop was not seen in time; says which.
    """
    feature_s = until(served, f"the feature of {what}")
    found: list[int] = []

    def other() -> bool:
        found[:] = recommendations()
        return changed(found)

    changed_s = until(other, f"recommendations changed by {what}", CHANGED_S)
    landing.join(LIMIT_S)
    if not landing.at:
        raise Terminal(f"{what} is served and not in the landing table", hint="./weir logs ingest shows why")
    return Followed(Hops.between(began_s, landing.at, feature_s, changed_s), found)


def profile_change(endpoints: Endpoints, api: Api, user_id: int, before: list[int]) -> tuple[str, Followed]:
    """Change the user's preferred genre in PostgreSQL; return it, and the hops from before the commit until recommendations are others than `before`.

    Raises:
        Unavailable: PostgreSQL does not answer. Terminal: a hop was not seen in time.
    """
    import psycopg

    profile = Served(api, user_id, "user_profile")
    old = profile.ask()
    new = next(g for g in GENRES if g != old.get("preferred_genre"))
    with answering("take the profile change"), psycopg.connect(endpoints.postgres_dsn, connect_timeout=5) as connection:
        connection.execute("UPDATE public.users SET preferred_genre = %s, updated_at = now() WHERE user_id = %s", (new, user_id))
        transaction = int((connection.execute("SELECT txid_current()").fetchone() or (0,))[0]) % (1 << 32)  # the log has it without its epoch
        landing = _Landing(endpoints.clickhouse_url, _LANDED_CHANGE, transaction=transaction, user=user_id)
        landing.start()
        began_s = time.monotonic()
        connection.commit()
    found = followed(
        "the profile change", began_s, landing, lambda: profile.ask().get("preferred_genre") == new, lambda: api.recommendations(user_id), lambda now: now != before)
    return new, replace(found, served_before=old, served_after=profile.values)


def click(endpoints: Endpoints, api: Api, user_id: int, item_id: int, before: list[int], *, country: str, telemetry: Telemetry) -> Followed:
    """Produce one click on an item; return the hops from before producing until recommendations changed beyond that item against `before`.

    Raises:
        Unavailable: Kafka does not answer. Terminal: a hop was not seen in time.
    """
    activity = Served(api, user_id, "user_activity")
    old = activity.ask()
    now_ms = int(time.time() * 1000)
    event = Event(str(uuid.uuid4()), user_id, item_id, EventType.CLICK, None, f"demo-{user_id}-{now_ms}", country, now_ms)
    client = produce.producer(endpoints.kafka_bootstrap)
    client.list_topics(names.TOPIC_USER_EVENTS, timeout=10)  # connected before the stopwatch starts
    landing = _Landing(endpoints.clickhouse_url, _LANDED_EVENT, id=event.event_id)

    def served(traceparent: str = "") -> bool:
        now = activity.ask(traceparent)
        return now.get("last_event_at_ms") == now_ms and item_id in (now.get("recent_item_ids") or ())

    with telemetry.span("weir.demo.click"):
        landing.start()
        began_s = time.monotonic()
        produce.one(client, event, telemetry)
        found = followed("the click", began_s, landing, served, lambda: api.recommendations(user_id), lambda now: others_changed(before, now, item_id))
        if not served(telemetry.traceparent()):  # once more, as a part of the click's trace: each poll there would hide what it is about
            raise Terminal("the click's feature was served and is no more", hint="./weir logs features shows why")
    return replace(found, served_before=old, served_after=activity.values)

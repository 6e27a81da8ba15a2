"""Follow one profile change and one click from outside, with a stopwatch, until the API serves them.

In: a user. Out: milliseconds. Keep: times start before the commit or the produce call, so they are upper bounds; polls are 20 ms apart.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from typing import Any, Final

import httpx

from weir.contracts import names
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


class Api:
    """The recommendations API as the story uses it."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=10)

    def _ask(self, method: str, path: str) -> Any:
        try:
            return self._client.request(method, path).raise_for_status().json()
        except httpx.HTTPError as error:
            raise Unavailable(f"the API did not answer {path}: {error!r}", hint="./weir logs api shows why") from error

    def features(self, user_id: int) -> dict[str, dict[str, Any]]:
        """Return the served features by view."""
        found: dict[str, dict[str, Any]] = self._ask("GET", f"/features/{user_id}")["features"]
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


def profile_change(dsn: str, api: Api, user_id: int) -> tuple[str, float]:
    """Change the user's preferred genre in PostgreSQL; return it, and the ms from before the commit until the API serves it.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    import psycopg

    old = (api.features(user_id).get("user_profile") or {}).get("preferred_genre")
    new = next(g for g in GENRES if g != old)
    with answering("take the profile change"), psycopg.connect(dsn, connect_timeout=5) as connection:
        connection.execute("UPDATE public.users SET preferred_genre = %s, updated_at = now() WHERE user_id = %s", (new, user_id))
        began = time.monotonic()
        connection.commit()
    seen = until(lambda: (api.features(user_id).get("user_profile") or {}).get("preferred_genre") == new, "the profile change")
    return new, (seen - began) * 1000


class _Landing(threading.Thread):
    """Watches for one event in the landing table; `at` is the monotonic time when it was seen, 0 until then."""

    def __init__(self, url: str, event_id: str) -> None:
        super().__init__(daemon=True)
        self._url, self._event_id, self.at = url, event_id, 0.0

    def run(self) -> None:
        client = ClickHouse(self._url)
        sql = f"SELECT count() FROM {names.LANDING_EVENTS} WHERE produced_at > now() - 120 AND event_id = {{id:String}}"
        try:
            self.at = until(lambda: client.execute(sql, id=self._event_id).strip() != "0", "the click")
        except WeirError:
            return  # `at` stays 0, which click() refuses
        finally:
            client.close()


def click(endpoints: Endpoints, api: Api, user_id: int, item_id: int, *, country: str, telemetry: Telemetry) -> tuple[float, Hops]:
    """Produce one click; return the ms from before producing until the API serves it, and its hops."""
    now_ms = int(time.time() * 1000)
    event = Event(str(uuid.uuid4()), user_id, item_id, EventType.CLICK, None, f"demo-{user_id}-{now_ms}", country, now_ms)
    client = produce.producer(endpoints.kafka_bootstrap)
    client.list_topics(names.TOPIC_USER_EVENTS, timeout=10)  # connected before the stopwatch starts
    landing = _Landing(endpoints.clickhouse_url, event.event_id)
    landing.start()
    began = time.monotonic()
    produce.one(client, event, telemetry)

    def served() -> bool:
        activity = api.features(user_id).get("user_activity") or {}
        return activity.get("last_event_at_ms") == now_ms and item_id in (activity.get("recent_item_ids") or ())

    seen = until(served, "the click's feature")
    landing.join(LIMIT_S)
    if not landing.at:
        raise Terminal("the click is served and not in the landing table", hint="./weir logs ingest shows why")
    landed = min(landing.at, seen)
    return (seen - began) * 1000, Hops((landed - began) * 1000, (seen - landed) * 1000)


def after(api: Api, user_id: int, before: list[int], clicked: int, limit_s: float = 5.0) -> list[int]:
    """Return the recommendations once they changed beyond the clicked item, or as they are after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while True:
        found = api.recommendations(user_id)
        if others_changed(before, found, clicked) or time.monotonic() > deadline:
            return found
        time.sleep(POLL_S)

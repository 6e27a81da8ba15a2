"""What a worker process holds while it serves: the newest snapshot and the champion, refreshed by one thread.

In: Redis, the models folder. Out: `Live.view()`: a snapshot, a model and its alignment that belong together. Keep: requests take no lock
and never wait for a refresh; when Redis or a model cannot be read, the last good one goes on serving and the answer says so.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from weir.contracts.model import (
    POPULARITY,
    Factors,
    ModelManifest,
    WhyPopularity,
    read_model,
    read_pointer,
    why_popularity,
)
from weir.errors import ContractViolation
from weir.serving.catalogue import CatalogueBuilder, Snapshot
from weir.serving.rank import AlignedModel, align
from weir.serving.redis_features import RedisCatalogue

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from weir.telemetry import Telemetry

log = logging.getLogger(__name__)

REFRESH_S: Final = 0.4  # an inactive item is gone within 1 s: 0.4 to notice, the read, and a margin of half
REST: Final = 2  # times as long as a refresh took: a third of a core, however many items there are, which then wait longer
REST_MAX_S: Final = 2.0  # below STALE_MS
SCAN_S: Final = 3.0  # a new item may wait this long, and so may what another than the materializer wrote; SCAN walks every key, so not at each refresh
STALE_MS: Final = 3_000  # older than this, answers carry the flag catalogue_stale


@dataclass(frozen=True, slots=True)
class Champion:
    """The loaded model; none: popularity serves, and `why` says why when that is known. `problem`: the pointer's model could not be loaded."""

    manifest: ModelManifest | None = None
    factors: Factors | None = None
    problem: str = ""
    why: WhyPopularity | None = None

    @property
    def version(self) -> str:
        """Return the version that answers carry."""
        return self.manifest.version if self.manifest else POPULARITY


@dataclass(frozen=True, slots=True)
class LiveView:
    """Parts that belong together: `aligned` is `champion` in the rows of `snapshot.items`."""

    snapshot: Snapshot = field(default_factory=Snapshot)
    champion: Champion = field(default_factory=Champion)
    aligned: AlignedModel | None = None


def load_champion(home: Path, held: Champion) -> Champion:
    """Return what the pointer names. When that cannot be read, what is held goes on serving, marked."""
    try:
        version = read_pointer(home).version
        if not version:
            return Champion(why=why_popularity(home))
        if held.manifest is not None and held.manifest.version == version and not held.problem:
            return held
        return Champion(*read_model(home, version))
    except ContractViolation as error:
        log.warning("model: %s", error)
        return Champion(held.manifest, held.factors, "model_unreadable", None if held.manifest else WhyPopularity.UNREADABLE)


class Live:
    """The refresher and what it last made."""

    def __init__(self, home: Path, redis_url: str, telemetry: Telemetry, clock: Callable[[], float] = time.time) -> None:
        self._home, self._telemetry, self._clock = home, telemetry, clock
        self._reader = RedisCatalogue(redis_url)
        self._builder = CatalogueBuilder()
        self._lock = threading.Lock()  # between the refresher and POST /model/reload; requests do not take it
        self._stop = threading.Event()
        self._keys: tuple[list[int], list[str]] = ([], [])
        self._scanned = float("-inf")
        self._written: tuple[bytes | None, ...] = ()
        self._failed = False
        self._view = LiveView()
        self._thread = threading.Thread(target=self._run, name="refresh", daemon=True)

    def start(self) -> None:
        """Make a first attempt, then refresh in the background."""
        self.reload()
        self.refresh()
        self._thread.start()

    def stop(self) -> None:
        """End the refresher."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=3)
        self._reader.close()

    def view(self) -> LiveView:
        """Return the newest view."""
        return self._view

    def ready(self) -> bool:
        """Return whether there are items to recommend."""
        return len(self._view.snapshot.items.ids) > 0

    def reload(self) -> Champion:
        """Load the champion that the pointer names."""
        with self._lock:
            champion = load_champion(self._home, self._view.champion)
            if champion is not self._view.champion:
                self._put(self._view.snapshot, champion)
            return champion

    def refresh(self) -> bool:
        """Read items and trending lists once, when they may have changed; False when Redis did not answer."""
        started = time.monotonic()
        try:
            written, scans = self._reader.written(), started - self._scanned > SCAN_S or not self._keys[0]
            if written == self._written and not scans and not self._failed:
                with self._lock:
                    self._put(self._builder.again(int(self._clock() * 1000)), self._view.champion)
                return True
            if scans:
                items = sorted(v for v in self._reader.entities("item_id") if isinstance(v, int))
                self._keys = (items, sorted(v for v in self._reader.entities("country") if isinstance(v, str)))
                self._scanned = started
            rows, countries = self._reader.items(self._keys[0]), self._reader.countries(self._keys[1])
        except (RedisError, OSError) as error:
            if not self._failed:
                log.warning("catalogue refresh failed, the last snapshot serves: %s", type(error).__name__)
            self._failed = True
            self._telemetry.count("weir.serving.refresh_failures")
            return False
        self._failed, self._written = False, written  # as it was before the read: what came during it is read the next time
        with self._lock:
            self._put(self._builder.build(rows, countries, int(self._clock() * 1000)), self._view.champion)
        self._telemetry.record("weir.serving.refresh_ms", (time.monotonic() - started) * 1000)
        return True

    def _put(self, snapshot: Snapshot, champion: Champion) -> None:
        old = self._view
        aligned = old.aligned
        if snapshot.version != old.snapshot.version or champion is not old.champion:
            aligned = align(snapshot.items, champion.factors.item_ids, champion.factors.item_factors) if champion.factors else None
        self._view = LiveView(snapshot, champion, aligned)

    def _run(self) -> None:
        pause = REFRESH_S
        while not self._stop.wait(pause):
            began = time.monotonic()
            try:
                self.refresh()
                self.reload()
            except Exception:  # the thread must outlive a surprise: a dead refresher would serve old items for ever
                log.exception("refresh failed")
                self._telemetry.count("weir.serving.refresh_failures")
            pause = min(max(REFRESH_S, REST * (time.monotonic() - began)), REST_MAX_S)

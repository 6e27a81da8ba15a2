"""The recommendations API.

In: HTTP, served features, the champion. Out: JSON with the model's version, the age of the newest event used, each view's age, and flags.
Keep: an answer is never refused because a part is missing (popularity and the last snapshot serve, and `degraded` says so); inactive and
seen items are left out; no row value is logged.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import AsyncIterator, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Header, HTTPException, Query, Request, Response
from fastapi import Path as InPath
from opentelemetry.trace import SpanKind

from weir.contracts.features import SEEN_MAX
from weir.contracts.model import read_pointer
from weir.errors import SettingsError, Unavailable
from weir.serving.answers import (
    Features,
    Flag,
    Health,
    Index,
    Item,
    Model,
    Ready,
    Recommendations,
    Refused,
    RouteExample,
    SimilarItems,
    Strategy,
)
from weir.serving.catalogue import COUNTRY_VIEW, ITEM_VIEWS, Snapshot, trending_of
from weir.serving.features import USER_VIEWS, FeatureReader, ServedView, decode_user, signals, text
from weir.serving.live import STALE_MS, Live, LiveView
from weir.serving.rank import Ranked, Trending, rank, similar
from weir.serving.redis_features import RedisFeatures
from weir.telemetry import Telemetry, setup

K_MAX = 200  # a page of recommendations; past it a caller wants the model, not the API
DESCRIPTION = (
    f"Recommendations from served features and the champion. Left out are inactive items and what the user has seen: the {SEEN_MAX:,} items seen last and, with a champion, "
    "all that its training knew of. An older one is recommended again when there is no champion, or when it was seen after the champion's training."
)
SHARED_VIEWS = tuple(v.name for v in (*ITEM_VIEWS, COUNTRY_VIEW))
Id = Annotated[int, InPath(ge=-(1 << 63), lt=1 << 63, description="a 64-bit integer, as every id of the path is")]
Parent = Annotated[str, Header(description="W3C trace context of the caller")]


def _shown(view: LiveView, ranked: Sequence[Ranked]) -> list[Item]:
    snapshot, out = view.snapshot, []
    for found in ranked:
        row = snapshot.items.index[found.item_id]
        out.append(Item(item_id=found.item_id, title=snapshot.titles[row], genres=list(snapshot.genres[row]), score=found.score, parts=dict(found.parts)))
    return out


def _flags(view: LiveView, views: Mapping[str, ServedView], now_ms: int, *, features: bool = True, items: Container[str] = SHARED_VIEWS) -> list[Flag]:
    """Return what an answer had to do without. `items`: the views of items and countries that it uses."""
    found = [Flag(f"{name}_{served.problem}") for name, served in views.items() if served.problem]
    found += [Flag(f"{name}_{problem}") for name, problem in view.snapshot.problems if name in items]
    if not features:
        found.append(Flag.FEATURES_UNAVAILABLE)
    if not len(view.snapshot.items.ids):
        found.append(Flag.CATALOGUE_EMPTY)
    elif now_ms - view.snapshot.read_at_ms > STALE_MS:
        found.append(Flag.CATALOGUE_STALE)
    if view.champion.factors is None:
        found.append(Flag.NO_CHAMPION)
    if view.champion.problem:
        found.append(Flag(view.champion.problem))
    return found


def _age(event_ms: int | None, now_ms: int) -> int | None:
    return None if event_ms is None else max(0, now_ms - event_ms)


def _user_event_ms(views: Mapping[str, ServedView]) -> Iterator[int | None]:
    """Yield the times of what is used of a user: each view's newest input, and the last event to the millisecond, which Feast's own writer cuts to seconds."""
    yield from (served.event_ms for served in views.values() if not served.problem)
    last = views["user_activity"].values.get("last_event_at_ms")
    yield last if isinstance(last, int) else None


def _item_event_ms(snapshot: Snapshot) -> dict[str, int | None]:
    """Return the time of the newest input of each view of items and countries that ranks."""
    return {
        "item_catalogue": snapshot.catalogue_event_ms, "item_activity": snapshot.item_event_ms, "item_history": snapshot.history_event_ms,
        "country_trending": snapshot.trending_event_ms,
    }


def _model_event_ms(view: LiveView) -> int | None:
    return view.champion.manifest.newest_event_at_ms if view.champion.manifest else None


def newest_age(used: Iterable[int | None], now_ms: int) -> int | None:
    """Return the age of the newest of the times that an answer used; None when it used none that has a time. Pure."""
    return _age(max((v for v in used if v is not None), default=None), now_ms)


def _strategy(known: bool, recent: bool, trending: Trending) -> Strategy:
    if known:
        return Strategy.PERSONAL
    if recent:
        return Strategy.RECENT
    return Strategy.TRENDING if trending.overall or trending.country else Strategy.POPULARITY


def _ages(views: Mapping[str, ServedView], now_ms: int) -> dict[str, int | None]:
    return {name: _age(served.event_ms, now_ms) for name, served in views.items()}


class Api:
    """The handlers' shared parts of one worker."""

    def __init__(self, home: Path, live: Live, reader: FeatureReader, telemetry: Telemetry) -> None:
        self.home, self.live, self.reader, self.telemetry = home, live, reader, telemetry
        self.answered = 0

    async def user_views(self, user_id: int, now_ms: int) -> tuple[dict[str, ServedView], bool]:
        """Return the user's views, and whether the store answered."""
        self.answered += 1
        try:
            return decode_user(await self.reader.user(user_id), now_ms), True
        except Unavailable:
            self.telemetry.count("weir.serving.feature_read_failures")
            return {view.name: ServedView(view.name) for view in USER_VIEWS}, False

    async def recommend(self, user_id: int, k: int) -> Recommendations:
        """Answer one request: one read, one ranking."""
        now_ms = int(time.time() * 1000)
        views, answered = await self.user_views(user_id, now_ms)
        view = self.live.view()
        factors = view.champion.factors
        row = factors.user_row(user_id) if factors else -1
        known = factors is not None and row >= 0
        user = signals(
            views,
            factors.user_factors[row] if factors is not None and known else None,
            factors.seen_items[factors.seen_starts[row] : factors.seen_starts[row + 1]] if factors is not None and known else (),
        )
        trending = trending_of(view.snapshot, text(views["user_profile"], "country"))
        ranked = rank(view.snapshot.items, view.aligned, user, trending, k)
        return Recommendations(
            user_id=user_id,
            items=_shown(view, ranked),
            strategy=_strategy(known, bool(user.recent_items), trending),
            model_version=view.champion.version,
            newest_event_age_ms=newest_age((*_user_event_ms(views), *_item_event_ms(view.snapshot).values(), _model_event_ms(view)), now_ms),
            feature_age_ms=_ages(views, now_ms) | {name: _age(at, now_ms) for name, at in _item_event_ms(view.snapshot).items()},
            degraded=_flags(view, views, now_ms, features=answered),
        )


def _read_routes(app: FastAPI, api: Api) -> None:
    @app.get("/recommendations/{user_id}")
    async def recommendations(user_id: Id, k: Annotated[int, Query(ge=1, le=K_MAX)] = 10, traceparent: Parent = "") -> Recommendations:
        """Recommend `k` items to a user."""
        with api.telemetry.timed("weir.serving.request_ms", {"route": "recommendations"}) as labels, api.telemetry.span("weir.serving.recommend", kind=SpanKind.SERVER, parent=traceparent) as span:
            answer = await api.recommend(user_id, k)
            span.set_attribute("weir.model_version", answer.model_version)
            span.set_attribute("weir.strategy", answer.strategy)
            span.set_attribute("weir.newest_event_age_ms", -1 if answer.newest_event_age_ms is None else answer.newest_event_age_ms)
            labels["strategy"] = answer.strategy
        return answer

    @app.get("/items/{item_id}/similar", responses={404: {"model": Refused, "description": "The catalogue holds no such item"}})
    async def similar_items(item_id: Id, k: Annotated[int, Query(ge=1, le=K_MAX)] = 10, traceparent: Parent = "") -> SimilarItems:
        """Return the items most similar to one item."""
        with api.telemetry.timed("weir.serving.request_ms", {"route": "similar"}), api.telemetry.span("weir.serving.similar", kind=SpanKind.SERVER, parent=traceparent):
            view, now_ms = api.live.view(), int(time.time() * 1000)
            if item_id not in view.snapshot.items.index:
                raise HTTPException(404, "the catalogue holds no such item")
            found = similar(view.snapshot.items, view.aligned, item_id, k)
            return SimilarItems(
                item_id=item_id, items=_shown(view, found), model_version=view.champion.version,
                newest_event_age_ms=newest_age((view.snapshot.catalogue_event_ms, _model_event_ms(view)), now_ms),  # by genres alone without a model
                degraded=_flags(view, {}, now_ms, items=("item_catalogue",)),
            )

    @app.get("/features/{user_id}")
    async def features(user_id: Id, traceparent: Parent = "") -> Features:
        """Return what is served about a user."""
        with api.telemetry.timed("weir.serving.request_ms", {"route": "features"}), api.telemetry.span("weir.serving.features", kind=SpanKind.SERVER, parent=traceparent):
            now_ms = int(time.time() * 1000)
            views, answered = await api.user_views(user_id, now_ms)
            return Features(
                user_id=user_id,
                features={name: dict(served.values) for name, served in views.items()},
                event_at_ms={name: served.event_ms for name, served in views.items()},
                newest_event_age_ms=newest_age(_user_event_ms(views), now_ms),
                feature_age_ms=_ages(views, now_ms),
                degraded=_flags(api.live.view(), views, now_ms, features=answered, items=()),
            )


def _operator_routes(app: FastAPI, api: Api) -> None:
    def shown() -> Model:
        champion = api.live.view().champion
        manifest = asdict(champion.manifest) if champion.manifest else None
        return Model(version=champion.version, pointer_version=read_pointer(api.home).version, problem=champion.problem, manifest=manifest)

    @app.get("/model")
    def model() -> Model:
        """Return the champion that serves."""
        return shown()

    @app.post("/model/reload")
    def reload() -> Model:
        """Load the champion now. Another worker does so after its next refresh, which begins 0.4 s to 2 s after its last and takes as long as a read of the items."""
        api.live.reload()
        return shown()

    @app.get("/health")
    async def health() -> Health:
        """Return that the process runs."""
        return Health()

    @app.get("/ready", responses={503: {"model": Ready, "description": "There is nothing to recommend"}})
    async def ready(request: Request, response: Response) -> Ready:  # noqa: ARG001 - fastapi injects both
        """Return 200 when there are items to recommend, else 503; with the newest event in what is served, this worker's answers so far, and why popularity serves ("": a model does, or it is not known)."""
        view, good = api.live.view(), api.live.ready()
        response.status_code = 200 if good else 503
        return Ready(
            ready=good, items=len(view.snapshot.items.ids), model_version=view.champion.version,
            newest_event_at_ms=max((t for t in (view.snapshot.item_event_ms, view.snapshot.trending_event_ms) if t is not None), default=None),
            answered=api.answered, why_popularity=view.champion.why or "",
        )


# What stands in a route for an id, in the examples: both are in the demo's data.
EXAMPLES = {"{user_id}": "1", "{item_id}": "1"}


def _index_route(app: FastAPI) -> None:
    @app.get("/")
    async def index(request: Request) -> Index:
        """Say what this is, where its OpenAPI document is, and each route with an example. There is no page that needs scripts from elsewhere."""
        routes, document = [], app.openapi()
        for path, methods in document["paths"].items():
            example = path
            for name, value in EXAMPLES.items():
                example = example.replace(name, value)
            for method, described in methods.items():
                does = described.get("description", "").split(".")[0]
                routes.append(RouteExample(method=method.upper(), path=path, does=does, example=f"{request.base_url}{example.removeprefix('/')}"))
        return Index(name=app.title, version=app.version, openapi=app.openapi_url or "", routes=routes)


def create_app(home: Path, redis_url: str, telemetry: Telemetry | None = None) -> FastAPI:
    """Return the application of one worker."""
    handles = telemetry or setup("api")
    reader = RedisFeatures(redis_url)
    live = Live(home, redis_url, handles)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        live.start()
        gc.collect()
        gc.freeze()  # what lives for ever need not be walked at each collection: it was the main tail of latency
        try:
            yield
        finally:
            live.stop()
            await reader.close()
            handles.shutdown()

    app = FastAPI(title="Weir recommendations", description=DESCRIPTION, version="1", lifespan=lifespan, docs_url=None, redoc_url=None)  # both pages load scripts from the internet
    api = Api(home, live, reader, handles)
    _read_routes(app, api)
    _operator_routes(app, api)
    _index_route(app)
    return app


def from_environment() -> FastAPI:
    """Return the application with WEIR_HOME and WEIR_REDIS_URL (uvicorn's factory: each worker calls it).

    Raises:
        SettingsError: a variable is missing.

    """
    for name in ("WEIR_HOME", "WEIR_REDIS_URL"):
        if not os.environ.get(name):
            raise SettingsError(f"{name} is not set", hint="run this through ./weir run, which sets every endpoint", key=name)
    return create_app(Path(os.environ["WEIR_HOME"]), os.environ["WEIR_REDIS_URL"])

"""The story, step by step, on a stack that is up.

In: endpoints, WEIR_HOME, a screen. Out: `DemoResult`. Keep: views stand before events flow; batch marts are built after; every step says
how long it took.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx

from weir.contracts import tls
from weir.contracts.endpoints import Endpoints
from weir.demo import follow, loading, reconcile
from weir.demo.result import Counts, DemoResult, Hops, others_changed
from weir.demo.screen import Line, Screen
from weir.errors import Terminal, Unavailable
from weir.features import apply
from weir.ingest.clickhouse import ClickHouse
from weir.simulation import dataset, derive, journal, source
from weir.simulation.produce import Progress
from weir.stack import usual
from weir.telemetry import setup
from weir.transform import build
from weir.transform.session import Session

VALUE_MAX: Final = 24  # characters of a value: with two of them, the longest name in use and its indent a line has 80
HEAD: Final = 3  # of a list's values: newest first


KEPT_S = 1.0  # a step that took less was skipped: its time says nothing of the next one


@dataclass
class _Stage:
    """What the steps share."""

    endpoints: Endpoints
    home: Path
    screen: Screen
    environment: dict[str, str]
    client: ClickHouse
    dbt: Session
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[Line]:
        """Show a step while it runs and its seconds when it is done."""
        began = time.monotonic()
        with self.screen.step(name, usual.last(self.home, f"demo {name}")) as line:
            yield line
        self.seconds[name] = time.monotonic() - began
        if self.seconds[name] >= KEPT_S:
            usual.keep(self.home, f"demo {name}", self.seconds[name])
        self.screen.print(f"  {name:<28} {self.seconds[name]:6.1f} s")


    def dbt_build(self, name: str, *without: str) -> None:
        """Build dbt's project, without these types of resources, as a step that tells the nodes done."""
        with self.step(name) as status:
            nodes = usual.Lessening()
            run = partial(self.dbt.run, report=lambda done, total: status.update(f"{name}: {done} of {total} nodes{_dotted(nodes.to_go(total - done))}"))
            build.build(self.environment, ("--exclude-resource-type", *without), dbt=run)


def _dotted(told: str) -> str:
    return told and f" · {told}"


def line_of_progress(p: Progress) -> str:
    """Return one line: how many, how fast, how long to go. Pure."""
    return f"events produced {p.done:,} of about {p.total:,} · {p.rate:,.0f}/s · {p.eta_s:.0f} s to go"


def line_of_counts(c: Counts) -> str:
    """Return one line: lag, freshness, source against sink. Pure."""
    rows = " ".join(f"{t} {n:,}/{c.sink_rows.get(t, 0):,}" for t, n in c.source_rows.items())
    return f"lag {c.lag():,} · newest landed {c.freshness_ms / 1000:.1f} s old · landed {c.events_in_clickhouse:,} · {rows}"


def line_of_hops(began: str, hops: Hops) -> str:
    """Return one line, short enough for 80 columns: each hop since what `began` it, and the whole. Pure."""
    return (
        f"{began} → landed {hops.to_landed_ms:.0f} ms → feature {hops.landed_to_feature_ms:.0f} ms → "
        f"recommendations {hops.feature_to_recommendations_ms:.0f} ms: {hops.to_recommendations_ms:.0f} ms"
    )


def line_of_feature(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return one line, short enough for 80 columns: a feature as served before a change and after it, of a list its head. Pure."""
    return f"served {name}: {_value(before.get(name))} → {_value(after.get(name))}"


def _value(value: Any) -> str:
    if value is None:
        return "nothing"
    if not isinstance(value, list):
        text = str(value)
    else:
        text = " ".join(str(v) for v in value[:HEAD]) + (" …" if len(value) > HEAD else "") or "none"
    return text if len(text) <= VALUE_MAX else f"{text[:VALUE_MAX - 1]}…"


def _tell(stage: _Stage, began: str, found: follow.Followed, features: tuple[str, ...]) -> None:
    for name in features:
        stage.screen.print(f"    {line_of_feature(name, found.served_before, found.served_after)}")
    stage.screen.print(f"    {line_of_hops(began, found.hops)}")


def _refresh(url: str) -> None:
    try:
        httpx.post(f"{url}/refresh", timeout=120, verify=tls.context()).raise_for_status()
    except httpx.HTTPError as error:
        raise Unavailable(f"the materializer did not refresh: {error!r}", hint="./weir logs features shows why") from error


def _load(stage: _Stage) -> tuple[journal.Journal, Counts]:
    from weir import catalogue

    e = stage.endpoints
    with stage.step("PostgreSQL rows"):
        source.seed_postgres(e.postgres_dsn)
    stage.dbt_build("dbt build (views stand)", "test", "unit_test")
    with stage.step("catalogue (Protobuf)"):
        catalogue.publish(e.catalogue_url, e.kafka_bootstrap)
    with stage.step("profiles (Parquet)"):
        loading.profiles(e, stage.home)
    with stage.step("events produced") as status:
        found, _ = loading.events(
            e, stage.client, stage.home, lambda p: status.update(line_of_progress(p)), lambda c: status.update(line_of_counts(c))
        )
    with stage.step("source against sink") as status:
        rows = usual.Lessening()
        counts = reconcile.wait(e, stage.client, lambda c: status.update(f"{line_of_counts(c)}{_dotted(rows.to_go(c.missing()))}"))
        reconcile.check_journal(stage.client, found)
    stage.screen.print(f"    {line_of_counts(counts)}")
    stage.screen.print("    (each rating with views and clicks before it; seven bad records on purpose: ./weir quarantine list)")
    return found, counts


def _build(stage: _Stage, api: follow.Api) -> None:
    stage.dbt_build("dbt build (models, tests)", "unit_test")  # ./weir run dbt build runs those too
    with ThreadPoolExecutor(1) as beside:  # the model is learnt from what dbt has built, and needs no online feature: one core trains while the other applies
        training = beside.submit(loading.command, "train", [sys.executable, "-m", "weir.training", "train"], stage.environment, stage.home)
        with stage.step("feast apply"):
            apply.apply(stage.environment)
        with stage.step("materialize"):
            _refresh(stage.endpoints.features_url)
        with stage.step("train and register"):
            training.result()
    api.reload()


def _hero() -> tuple[int, str]:
    """Return the user whom the story follows, and the country: who rated last, so the one with the liveliest session."""
    data = dataset.read(dataset.directory())
    user_id = data.ratings[-1].user_id
    return user_id, next(u.country for u in derive.users(data) if u.user_id == user_id)


def _follow(stage: _Stage, api: follow.Api, began_s: float) -> DemoResult:
    user_id, country = _hero()
    say, telemetry = stage.screen.print, setup("weir-demo")
    try:
        with stage.step("asking for a recommendation"):
            follow.until(lambda: len(api.recommendations(user_id)) > 0, "a recommendation")
        ready_s, before = time.time() - began_s, api.recommendations(user_id)
        say(f"    the first one {ready_s:.0f} s after the command, downloads not counted")
        say(f"\nuser {user_id} is recommended {before}")
        genre, profile = follow.profile_change(stage.endpoints, api, user_id, before)
        say(f"  preferred genre becomes {genre} in PostgreSQL")
        _tell(stage, "commit", profile, ("preferred_genre",))
        say(f"user {user_id} is recommended {profile.recommendations}")
        clicked = before[0]
        followed = follow.click(stage.endpoints, api, user_id, clicked, profile.recommendations, country=country, telemetry=telemetry)
        say(f"  a click on item {clicked}")
        _tell(stage, "produced", followed, ("recent_item_ids", "session_events"))
    finally:
        telemetry.shutdown()
    found = followed.recommendations
    if not others_changed(before, found, clicked):
        raise Terminal("the recommendations did not change beyond the clicked item", hint="./weir logs api and ./weir logs features show why")
    say(f"user {user_id} is recommended {found}")
    counts = reconcile.wait(stage.endpoints, stage.client, lambda _: None)
    return DemoResult(user_id, clicked, before, found, followed.hops, profile.hops, counts, ready_s, stage.seconds)


def run(endpoints: Endpoints, home: Path, screen: Screen, *, began_s: float) -> DemoResult:
    """Run the story on a running stack; `began_s`: when the command began, seconds since the epoch.

    Raises:
        WeirError: a step failed; the message says which and what to do.
    """
    from weir.stack import services, settings

    environment = {**os.environ, **endpoints.environment(), **services.environment(settings.load()), "WEIR_HOME": str(home)}
    client, api = ClickHouse(endpoints.clickhouse_url), follow.Api(endpoints.api_url)
    try:
        with Session() as dbt:
            stage = _Stage(endpoints, home, screen, environment, client, dbt)
            _load(stage)
            _build(stage, api)
        return _follow(stage, api, began_s)
    finally:
        client.close()
        api.close()

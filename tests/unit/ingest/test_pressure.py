"""A lane slows down when ClickHouse does not keep up, says so, is well all the same, and goes on by itself; nothing is lost or doubled by it."""
import random
from types import SimpleNamespace

import pytest
from tests.unit.ingest.test_lane import Log, Sink
from tests.unit.ingest.test_protocol import produced
from tests.unit.ingest.test_worker import World as Turns

from weir.errors import Unavailable
from weir.ingest import health, parts, pressure
from weir.ingest.kafka_log import POLL_INTERVAL_MS
from weir.ingest.lane import Lane, Limits, Stats
from weir.ingest.parts import ask, ask_bounds, bounds
from weir.ingest.pressure import UNHURRIED, Pace, Parts, bound, judge
from weir.ingest.record import Record
from weir.ingest.simulation.run import Run, simulate, thin
from weir.ingest.simulation.world import Script, World
from weir.ingest.worker import SERVED_S
from weir.stack.watch import degraded

FEW, MANY, MOST = (Parts("m.x", 10, 1000),), (Parts("m.x", 10, 1000), Parts("m.y", 600, 1000)), (Parts("m.y", 2900, 1000),)


@pytest.mark.parametrize(("said", "insert_s", "before", "slowed"), [
    (FEW, 0.1, UNHURRIED, False), (MANY, 0.1, UNHURRIED, True), (FEW, 6.0, UNHURRIED, True), (FEW, 4.0, UNHURRIED, False), ((), 0.1, UNHURRIED, False),
    ((Parts("m.y", 400, 1000),), 0.1, UNHURRIED, False), ((Parts("m.y", 400, 1000),), 0.1, Pace(3.0, "x"), True), ((Parts("m.y", 340, 1000),), 0.1, Pace(3.0, "x"), False),
    (FEW, 4.0, Pace(3.0, "x"), True), (FEW, 2.0, Pace(3.0, "x"), False), ((), 0.1, Pace(3.0, "x"), False), ((Parts("m.y", 10**6, 0),), 0.0, UNHURRIED, False),
])
def test_a_lane_is_slowed_near_the_bound_or_by_slow_inserts_until_it_is_well_below(said, insert_s, before, slowed):
    pace = judge(said, insert_s, before)
    assert (pace.apart_s > 0, bool(pace.why)) == (slowed, slowed)


def test_the_pace_grows_with_the_parts_and_is_bounded_far_below_the_poll_interval():
    paces = [judge((Parts("m.y", n, 1000),), 0.0, UNHURRIED).apart_s for n in (500, 600, 800, 1000, 100_000)]
    assert paces == sorted(paces)
    assert paces[0] >= pressure.LEAST_S
    assert paces[-1] == judge((), 200.0, UNHURRIED).apart_s == pressure.MOST_S
    assert (pressure.MOST_S + SERVED_S) * 2 < POLL_INTERVAL_MS / 1000


def test_it_is_said_which_table_and_which_bound():
    assert judge(MANY, 0.1, UNHURRIED).why == "m.y has 600 parts in a partition, and ClickHouse delays inserts from 1000 on"


def test_a_tables_own_settings_go_before_the_servers():
    full = {"l.a": "MergeTree ORDER BY a SETTINGS parts_to_throw_insert = 30, index_granularity = 8192", "l.b": "MergeTree ORDER BY a SETTINGS parts_to_delay_insert = '20'",
            "l.c": "MergeTree ORDER BY a", "l.d": "MergeTree SETTINGS inactive_parts_to_delay_insert = 5"}
    assert bounds(full, {"parts_to_delay_insert": 1000, "parts_to_throw_insert": 3000}) == {"l.a": 30, "l.b": 20, "l.c": 1000, "l.d": 1000}
    assert (bound(0, 7), bound(0, 0)) == (7, 0)


class Paced:
    """A lane in virtual time on a ClickHouse that says what it is told to say."""

    def __init__(self, rows=100):
        self.now_s, self.said, self.took_s, self.sink, self.at = 0.0, FEW, 0.1, Sink(), 0
        insert = self.sink.insert

        def slow(*arguments):
            self.now_s += self.took_s
            insert(*arguments)

        self.sink.insert = slow
        self.lane = Lane("landing.t", thin, Log(), self.sink, clock=lambda: self.now_s, limits=Limits(rows=rows, age_s=0.12), parts=lambda: self.said)
        self.lane.assigned([("t", 0)])

    def turn(self, count=1):
        self.now_s += 0.05
        self.lane.take([Record("t", 0, self.at + n, 0, None, b"a", "") for n in range(count)])
        self.at += count

    def during(self, seconds, count=1):
        """Turn for so long; return the inserts of that time."""
        before, ends = len(self.sink.tokens), self.now_s + seconds
        while self.now_s < ends:
            self.turn(0 if self.lane.waits else count)
        return len(self.sink.tokens) - before


def test_under_pressure_batches_are_older_and_larger_and_afterwards_as_before():
    world = Paced(rows=10_000)
    easy = world.during(20)
    world.said = MANY
    slow = world.during(20)
    assert 0 < slow <= 20 / judge(MANY, 0.0, UNHURRIED).apart_s + 1
    assert slow < easy / 8
    world.said = FEW
    assert world.during(20) >= easy - 2


def test_a_batch_that_is_held_back_is_bounded_and_lands_after_the_pace():
    world = Paced(rows=10)
    world.said = MOST
    assert world.during(60, count=7) == 6
    assert len(world.lane._buffer) <= 10 + 7
    world.turn(0)
    assert world.lane.waits
    world.said = FEW
    world.turn(0)
    assert not world.lane.waits


def test_a_slow_insert_slows_the_next_and_is_forgotten():
    world = Paced()
    world.took_s = 8.0
    world.during(8.5)
    world.turn(0)
    assert world.lane.pace.why.startswith("an insert took 8.0 s")
    world.now_s += pressure.RECENT_S
    world.turn(0)
    assert world.lane.pace == UNHURRIED


def slowed_worker(*turns):
    world = Turns(*turns)
    world.said, world.gauges, world.stays = FEW, [], 0
    world.lane._edges = world.lane._edges.__class__(**{**{n: getattr(world.lane._edges, n) for n in world.lane._edges.__slots__}, "parts": lambda _table: world.said})
    world.lane._telemetry.gauge = lambda name, value, labels: world.gauges.append((name, value)) if name == "weir.ingest.apart_s" else None
    return world


def test_a_slowed_lane_says_so_and_why_and_that_it_is_over():
    world = slowed_worker(None, b"good", None, None, None, None)
    fetch = world.fetch

    def crowded(limit, timeout_s):
        world.said = MANY if len(world.turns) in {3, 4} else FEW
        return fetch(limit, timeout_s)

    world.fetch = crowded
    world.lane.run()
    told = [s for s, before in zip(world.seen, [None, *world.seen], strict=False) if s != before]
    assert told == ["starting", "running", "slowed", "running"]
    assert [name for name, _ in world.gauges] == ["weir.ingest.apart_s"] * 2
    assert world.gauges[0][1] > world.gauges[1][1] == 0


def test_a_worker_that_holds_a_batch_back_reads_nothing_more_and_still_serves_the_group():
    world = slowed_worker()
    calls, waits = [], []
    kafka = SimpleNamespace(fetch=lambda *_: calls.append("fetch") or [], stay=lambda: calls.append("stay"))
    object.__setattr__(world.lane._edges, "wait", lambda s: waits.append(s) or world.sleep(s))
    held = SimpleNamespace(waits=True, limits=Limits())
    until = world.now_s + 2.5 * SERVED_S
    while world.now_s < until:
        world.lane._fetch(kafka, held)
    assert calls == ["stay"] * 2
    assert waits
    world.lane._fetch(kafka, SimpleNamespace(waits=False, limits=Limits()))
    assert calls[-1] == "fetch"


def test_slowed_is_well_and_is_told_without_being_called_degraded():
    assert health.well(Stats(state="slowed: x", left_running_s=-1e9), 1000.0)
    lane = SimpleNamespace(stats=Stats(state="slowed: x"), document=lambda: {"table": "landing.t", "state": "slowed: x"})
    status, told = health.answer([lane], "/health", 1000.0)
    assert (status, told["ok"], told["trouble"], told["notes"]) == (200, True, [], ["landing.t slowed: x"])
    assert degraded("ingest", "ready", [], told["notes"]) == ("ready", "landing.t slowed: x")
    assert degraded("ingest", "unhealthy", [], told["notes"]) == ("unhealthy", "")
    assert degraded("ingest", "ready", ["landing.u stopped: y"], told["notes"])[0] == "degraded"


def test_time_away_counts_from_when_it_last_landed_slowed_or_not():
    stats = Stats()
    for at, state in enumerate(["running", "slowed: a", "waiting: b", "slowed: c", "waiting: d"]):
        stats.become(state, 100.0 * at)
    assert stats.left_running_s == 400.0


class Answers:
    def __init__(self, *texts):
        self.texts = list(texts)

    def execute(self, sql, **_):
        text = self.texts.pop(0)
        if isinstance(text, Exception):
            raise text
        return text

    def close(self):
        pass


VIEW = "m.v\tm.a\tSELECT x FROM l.t\tCREATE MATERIALIZED VIEW m.v TO m.a AS\n"
BOUNDS = (VIEW, "l.t\tMergeTree ORDER BY a\nm.a\tMergeTree ORDER BY a SETTINGS parts_to_delay_insert = 20\n", "parts_to_delay_insert\t1000\nparts_to_throw_insert\t3000\n")


def test_the_tables_behind_views_are_asked_for_too():
    assert ask_bounds(Answers(*BOUNDS), ["l.t"]) == {"l.t": 1000, "m.a": 20}
    assert ask(Answers("m.a\t15\n"), {"l.t": 1000, "m.a": 20}) == (Parts("m.a", 15, 20),)


def test_an_answer_that_is_old_or_did_not_come_slows_nothing(monkeypatch):
    now = [0.0]
    answers = Answers(*BOUNDS, "m.a\t15\n", Unavailable("away"))
    monkeypatch.setattr(parts, "ClickHouse", lambda _url: answers)
    watch = parts.watch("http://x", ["l.t"], clock=lambda: now[0])

    def look():
        found = watch.latest()
        if watch.asking:
            watch.asking.join(20)
        return found

    look()
    now[0] = 1.0
    assert look() == (Parts("m.a", 15, 20),)
    assert len(answers.texts) == 1, "it was asked again before its time"
    now[0] = parts.ASK_S
    assert look() == (Parts("m.a", 15, 20),)
    assert answers.texts == [], "it was not asked again in time"
    now[0] = parts.OLD_S + 1
    answers.texts = [Unavailable("away")]
    assert look() == ()


def test_simulated_lanes_are_slowed_and_lose_and_double_nothing():

    run = Run(0, World(random.Random(0), Script({})), produced(each=8), workers=2)  # noqa: S311 - repeatable on purpose
    run.engine.crowded_s = (0.0, 30.0)
    states = set()
    run.world.later(12.0, lambda: states.update(lane.stats.state.split(":")[0] for lane in run.lanes))
    assert run.go().faults == ()
    assert "slowed" in states
    assert all(simulate(seed).faults == () for seed in range(1, 60, 3))

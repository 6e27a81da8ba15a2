"""Late, repeated and conflicting events are counted once each, by the embedded engine, against a recompute outside it."""
import json
import random
import re
import time
from collections import defaultdict
from pathlib import Path

import httpx
import pytest
from tests.contract.gateway_server import Server

from weir.contracts import names
from weir.errors import Unavailable
from weir.ingest import schema
from weir.quality import event_facts, event_windows
from weir.quality.event_walk import EventWalk
from weir.quality.event_windows import EventWindow
from weir.telemetry import setup

TOPIC, HOUR, DAY = names.TOPIC_USER_EVENTS, 3_600_000, 86_400_000
NOON = (int(time.time() * 1000) // DAY - 1) * DAY + 12 * HOUR
ZERO = {"repeated": 0, "conflicting": 0, "again_by_user": 0, "again_by_item": 0}


def event(event_id, user_id=1, item_id=2, *, partition=0, offset=None, at=NOON, produced=None, **other):
    return {"topic": TOPIC, "partition": partition, "offset": offset, "event_id": event_id, "user_id": user_id, "item_id": item_id, "event_type": "view", "session_id": "s",
            "country": "DE", "occurred_at": at / 1000, "produced_at": (at if produced is None else produced) / 1000, "reject_reason": "", **other}


class World:
    """Landing table and marks as ingest and the marks' owner leave them."""

    def __init__(self, server):
        self.server, self.url, self.ends, self.now = server, server.url, defaultdict(int), 0.0
        for table in (names.LANDING_EVENTS, names.CHECKED_WINDOWS, names.EVENT_WINDOWS):
            server.text(f"TRUNCATE TABLE {table}")
        self.walk = self.walker()

    def walker(self):
        return EventWalk(self.url, setup("test", otlp_url=""), monotonic=lambda: self.now)

    def land(self, *events, mark=True):
        for e in events:
            if e["offset"] is None:
                e["offset"] = self.ends[e["partition"]]
            self.ends[e["partition"]] = max(self.ends[e["partition"]], e["offset"] + 1)
        self.server.text(f"INSERT INTO {names.LANDING_EVENTS} FORMAT JSONEachRow", "\n".join(map(json.dumps, events)).encode())
        if mark:
            self.mark()

    def mark(self):
        rows = [{"topic": TOPIC, "partition": p, "first": 0, "next": n, "newest_at": NOON / 1000, "checked_at": NOON / 1000, "written_at": time.time_ns() / 1e9} for p, n in self.ends.items()]
        self.server.text(f"INSERT INTO {names.CHECKED_WINDOWS} FORMAT JSONEachRow", "\n".join(map(json.dumps, rows)).encode())

    def look(self, *events):
        """Land events, and let the walk look; return its last window."""
        self.land(*events)
        found = None
        while window := self.walk.round():
            found = window
        return found

    def sum(self, column):
        return int(self.server.text(f"SELECT sum({column}) FROM {names.EVENT_WINDOWS} FINAL"))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    made = Server(tmp_path_factory.mktemp("clickhouse")).start()
    schema.apply(made.url)
    yield made
    made.stop()


@pytest.fixture
def world(server):
    return World(server)


def counts(window):
    return {name: getattr(window.repeats, name) for name in ZERO}


def test_an_event_is_late_and_restates_a_window_by_its_time_against_its_records(world):
    found = world.look(
        event("on time", at=NOON + 5 * 60_000), event("an hour", at=NOON, produced=NOON + HOUR), event("more", at=NOON, produced=NOON + HOUR + 1),
        event("the hour closed", at=NOON - 1, produced=NOON), event("it was open", at=NOON - 2, produced=NOON - 1),
        event("a day", at=NOON - DAY, produced=NOON), event("more than that", at=NOON - DAY - 1, produced=NOON, partition=7),
        event("no event", at=0, produced=NOON + 2 * HOUR, reject_reason="malformed")).times
    assert (found.rows, found.late_1h, found.late_1d, found.late_ms_max) == (7, 3, 1, DAY + 1)
    assert found.hours == {NOON: 2, NOON - HOUR: 1, NOON - DAY: 1, NOON - DAY - HOUR: 1}
    assert found.days == {time.strftime("%Y-%m-%d", time.gmtime((NOON - DAY) / 1000)): 2}
    assert (found.oldest_at_ms, found.newest_at_ms) == (NOON - 1, NOON + 2 * HOUR)


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize(("second", "wanted"), [
    ({}, {"repeated": 1}),
    ({"session_id": "t"}, {"repeated": 1, "conflicting": 1}),
    ({"user_id": 9, "partition": 3}, {"repeated": 1, "conflicting": 1, "again_by_user": 1}),
    ({"at": NOON + 1, "produced": NOON}, {"repeated": 1, "conflicting": 1, "again_by_user": 1}),
    ({"at": NOON + 60_000, "produced": NOON}, {"repeated": 1, "conflicting": 1, "again_by_user": 1, "again_by_item": 1}),
    ({"at": NOON - DAY, "produced": NOON}, {"repeated": 1, "conflicting": 1, "again_by_user": 1}),  # staging.int_item_events takes none that is a day late
    ({"item_id": 9}, {"repeated": 1, "conflicting": 1, "again_by_item": 1}),
])
def test_an_event_id_that_comes_again_is_told_with_what_it_does_to_the_keyed_tables(world, second, wanted, apart):
    one, two = event("a", produced=NOON), event("a", **second)
    if apart:
        assert counts(world.look(one, event("other"))) == ZERO
        found = world.look(two)
        assert (found.span.back_rows, found.span.back_to_ms) == (2, NOON)
    else:
        found = world.look(one, event("other"), two)
    assert counts(found) == ZERO | wanted
    assert len(found.repeats.places) == wanted.get("conflicting", 0)


def test_the_keys_that_the_walk_counts_by_are_those_of_the_keyed_tables():
    text = (Path(__file__).resolve().parents[2] / "dbt" / "macros" / "keyed.sql").read_text()
    assert re.search(r'"int_user_events": "(.*)"', text)[1] == "user_id, occurred_at, event_id"
    assert re.search(r'"int_item_events": "(.*)"', text)[1] == "minute, item_id, event_id"


def _drawn(rng, number):
    """Events of few ids, half of them the same as one before."""
    made = []
    for _ in range(number):
        if made and rng.random() < 0.5:
            again = dict(rng.choice(made), offset=None)
        else:
            again = event(f"e{rng.randrange(number)}", rng.randrange(1, 4), rng.randrange(1, 4), at=NOON - rng.choice((0, 1, 60_000, DAY)), produced=NOON)
        made.append(dict(again, partition=again["user_id"] % 2))
    return made


def _owed(events):
    """What all windows together must say: by id in order of landing, outside ClickHouse."""
    seen = defaultdict(lambda: (set(), set(), set()))
    owed = dict(ZERO)
    for e in events:
        contents, users, items = seen[e["event_id"]]
        said = tuple(v for k, v in sorted(e.items()) if k not in {"offset", "partition", "produced_at"})
        user, item = (e["user_id"], e["occurred_at"]), (e["item_id"], e["occurred_at"] // 60)
        owed["repeated"] += bool(contents)
        owed["conflicting"] += bool(contents) and said not in contents
        owed["again_by_user"] += bool(users) and user not in users
        contents.add(said)
        users.add(user)
        if e["occurred_at"] > e["produced_at"] - 86_400:
            owed["again_by_item"] += bool(items) and item not in items
            items.add(item)
    return owed


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("listed", [event_windows.LISTED, 0])
def test_many_windows_together_say_what_a_recompute_of_all_events_says(world, monkeypatch, seed, listed):
    monkeypatch.setattr(event_windows, "LISTED", listed)  # 0: every question finds the ids a second time
    rng = random.Random(seed)  # noqa: S311 - drawn again from its seed
    events = _drawn(rng, 400)
    at = 0
    while at < len(events):
        size = rng.randrange(1, 90)
        world.look(*events[at:at + size])
        at += size
    owed = _owed(events)
    assert {name: world.sum(name) for name in ZERO} == owed
    assert min(owed.values()) > 0
    assert world.sum("rows") == len(events)
    kept = world.server.text(f"SELECT uniqExact(user_id, occurred_at, event_id) - uniqExact(event_id) FROM {names.LANDING_EVENTS}")
    assert int(kept) == owed["again_by_user"]


def test_each_event_is_in_one_window_whoever_walks_and_what_no_mark_covers_is_in_none(world):
    world.look(event("a"), event("b", partition=5))
    world.land(event("c"), event("a", 7), mark=False)
    world.walk = world.walker()  # the process began anew
    assert world.walk.round() is None
    world.mark()
    found = world.walk.round()
    assert (found.number, found.times.rows, found.repeats.conflicting) == (2, 2, 1)
    assert (found.span.first, found.span.next) == ({0: 1, 5: 1}, {0: 3, 5: 1})
    assert world.sum("rows") == 4
    assert counts(world.look(event("b", partition=8))) == ZERO | {"repeated": 1}  # of a partition that had none before


def test_a_row_that_stands_twice_is_no_repeat_of_its_producer(world):
    assert counts(world.look(event("a", offset=0), event("a", offset=0), event("a", offset=1))) == ZERO | {"repeated": 1}


def test_repeats_are_sought_as_far_back_as_is_said_and_no_further(world, monkeypatch):
    monkeypatch.setattr(event_windows, "BACK_ROWS", 3)
    world.look(event("a", produced=NOON - 3, at=NOON - 3))
    world.look(event("b", produced=NOON - 2, at=NOON - 2), event("c", produced=NOON - 1, at=NOON - 1))
    found = world.look(event("x"))
    assert (found.span.back_rows, found.span.back_to_ms) == (3, NOON - 3)
    found = world.look(event("a", produced=NOON - 3, at=NOON - 3), event("b", produced=NOON - 2, at=NOON - 2))
    assert (counts(found), found.span.back_rows, found.span.back_to_ms) == (ZERO | {"repeated": 1}, 3, NOON - 2)


def test_a_long_history_is_begun_near_its_end_and_a_window_reads_no_more_than_it_and_what_is_before_it(world, monkeypatch):
    world.server.text(f"INSERT INTO {names.LANDING_EVENTS} (topic, partition, offset, event_id, user_id, produced_at, occurred_at) SELECT '{TOPIC}', 0, number,"
                      f" toString(number), 1, fromUnixTimestamp64Milli({NOON}, 'UTC') AS at, at FROM numbers(2000000)")
    world.server.text(f"OPTIMIZE TABLE {names.LANDING_EVENTS} FINAL")
    monkeypatch.setattr(event_windows, "BACK_ROWS", 100_000)
    monkeypatch.setattr(event_windows, "STEP", 50_000)
    world.walk._step = 50_000
    world.ends[0] = 2_000_000
    world.mark()
    read, post = [], httpx.post

    def counted(*given, **named):
        answer = post(*given, **named)
        read.append(int(json.loads(answer.headers.get("X-ClickHouse-Summary", "{}")).get("read_rows", 0)))
        return answer

    monkeypatch.setattr(httpx, "post", counted)
    windows = []
    while window := world.walk.round():
        windows.append(window)
    assert [(w.times.rows, w.span.back_rows) for w in windows] == [(50_000, 0), (50_000, 50_000)]
    assert 0 < sum(read) < 600_000


def test_a_window_that_could_not_be_asked_is_not_written_and_the_next_is_half_as_large(world, monkeypatch):
    world.land(event("a"), event("b"))
    monkeypatch.setattr(event_windows, "MEMORY_BYTES", 1)
    monkeypatch.setattr(event_windows, "_LIMITS", "max_threads = 1, max_memory_usage = 1")
    with pytest.raises(Unavailable):
        world.walk.round()
    assert world.sum("rows") == 0
    assert world.walk._step == event_windows.STEP // 2
    monkeypatch.undo()
    assert (world.walk.round().times.rows, world.walk._step) == (2, event_windows.STEP)
    assert event_facts.ask(world.url).rows == 2
    with pytest.raises(Unavailable):
        EventWalk("http://127.0.0.1:1", world.walk.telemetry).round()
    assert event_facts.ask("http://127.0.0.1:1") is None


def test_a_look_that_took_long_is_followed_by_a_rest(world, monkeypatch):
    look = world.walk._look

    def slow(*given):
        world.now += 2
        return look(*given)

    monkeypatch.setattr(world.walk, "_look", slow)
    assert isinstance(world.look(event("a")), EventWindow)
    world.land(event("b"))
    world.now += 37
    assert world.walk.round() is None
    world.now += 2
    assert world.walk.round().times.rows == 1


def test_what_was_found_is_shown_and_what_was_not_looked_through_is_unknown(world):
    assert event_facts.lines(event_facts.ask(world.url))[0].startswith("late events: 0 ")
    world.land(event("a", at=NOON - 2 * HOUR, produced=NOON), event("a", produced=NOON), event("b"), event("b"))
    assert "unknown, none of what landed was looked through" in event_facts.lines(event_facts.ask(world.url))[0]
    world.walk.round()
    found = event_facts.ask(world.url)
    late, repeated, conflicting = event_facts.lines(found)
    assert "1 by more than 1 h, 0 by more than 1 d" in late
    assert "restated: 1 hour, 0 days" in late
    assert "2 in 24 h" in repeated
    assert "1 with the same contents, counted once" in repeated
    assert "1 with other contents, of which 1 count again by user and 1 by item; such as user-events/0/1" in conflicting
    assert (found.hours, found.behind_ms) == (((NOON - 2 * HOUR, 1),), 0)
    told = json.loads(json.dumps(event_facts.document(found)))
    assert (told["conflicting"], told["same_contents"], told["behind_ms"], told["hours"]) == (1, 1, 0, [{"from_ms": NOON - 2 * HOUR, "events": 1}])
    world.land(event("late in the walk", at=NOON + HOUR), mark=False)
    assert "60 min behind what landed" in event_facts.lines(event_facts.ask(world.url))[0]
    assert event_facts.document(None) is None
    assert "unknown" in event_facts.lines(None)[0]

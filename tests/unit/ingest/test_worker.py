"""A lane that cannot go on says so until it can, and the process is not restarted for it."""
import json
import urllib.error
import urllib.request
from types import SimpleNamespace

import pytest

from weir.contracts import names
from weir.contracts.endpoints import DEFAULT_PORT_BASE, Endpoints
from weir.errors import ContractViolation, Fenced, Transient, Unavailable
from weir.ingest import health
from weir.ingest.lane import Limits, Stats
from weir.ingest.record import Record
from weir.ingest.simulation.run import Quiet, thin
from weir.ingest.worker import PROVEN_S, RETRY_S, Edges, LaneThread
from weir.stack import probe, services
from weir.stack.settings import StackSettings

TOPIC = names.TOPIC_USER_EVENTS


class World:
    """Time, Kafka, ClickHouse and the end, as one: `turns` is what each fetch does, and every state is written down as it is left."""

    def __init__(self, *turns, decoder=thin, check=lambda _store, _table: None, telemetry=None):
        self.turns, self.now_s, self.trouble, self.seen, self.offset, self.refusals = list(turns), 0.0, "", [], 0, []
        edges = Edges(lambda _group, _topics: self, lambda: self, check, ended=self, wait=self.sleep, clock=self.clock, limits=Limits(age_s=0.0))
        self.lane = LaneThread(names.LANDING_EVENTS, decoder, [TOPIC], edges, telemetry or Quiet())

    def clock(self):
        return self.now_s

    def sleep(self, seconds):
        self.now_s += seconds

    def is_set(self):
        self.seen.append(self.lane.stats.state.split(":")[0])
        return not self.turns

    def wait(self, timeout):
        self.now_s += timeout
        self.seen.append((self.lane.stats.state, timeout))

    def join(self, on_assign, on_revoke):
        self.assign = on_assign

    def fetch(self, limit, timeout_s):
        self.now_s += 1.0
        if self.assign:
            assign, self.assign = self.assign, None
            assign([(TOPIC, 0)])
        turn = self.turns.pop(0)
        if isinstance(turn, Exception):
            raise turn
        self.trouble = turn if isinstance(turn, str) else ""
        if not isinstance(turn, bytes):
            return turn if isinstance(turn, list) else []
        self.offset += 1
        return [Record(TOPIC, 0, self.offset, 0, None, turn, "")]

    def committed(self, partitions):
        return dict.fromkeys(partitions, (0, ""))

    def insert(self, *_):
        if self.refusals:
            raise self.refusals.pop(0)

    def commit(self, entries):
        pass

    def stay(self):
        pass

    close = stay


def states(world):
    """The states, one after the other, as run() leaves them."""
    world.lane.run()
    words = [s if isinstance(s, str) else s[0] for s in world.seen]
    return [word for word, before in zip(words, [None, *words], strict=False) if word != before]


def poisoned(records, batch):
    if any(r.value == b"poison" for r in records):
        raise ValueError("the value poison")
    return thin(records, batch)


def test_an_unforeseen_exception_is_a_state_that_stays_until_a_batch_was_landed():
    world = World(b"good", b"poison", None, None, b"poison", None, b"good", None, decoder=poisoned)
    found = [s.split(":")[0] for s in states(world)]
    assert [s for s, before in zip(found, [None, *found], strict=False) if s != before] == ["starting", "running", "failing", "running"]
    told = [s for s in world.seen if not isinstance(s, str)]
    assert [timeout for _, timeout in told] == [RETRY_S] * 2
    assert all(s.startswith("failing: ValueError at worker.py:") for s, _ in told)


def test_a_states_text_quotes_no_record():
    world = World(b"poison", decoder=poisoned)
    assert "value" not in " ".join(states(world))


def test_a_lane_that_stopped_does_not_say_that_it_runs_while_it_tries_again():
    world = World(None, ContractViolation("gone"), None, ContractViolation("gone"), *[None] * (int(PROVEN_S) + 3))
    found = [s.split(":")[0] for s in states(world)]
    assert [s for s, before in zip(found, [None, *found], strict=False) if s != before] == ["starting", "running", "stopped", "running"]
    assert world.seen.count("stopped") > PROVEN_S, "it said so before it had shown it"


def test_being_fenced_is_over_with_the_next_membership():
    assert states(World(None, Fenced("generation over"), None, None)) == ["starting", "running", "rejoining: generation over", "rejoining", "running"]


def test_kafka_that_is_away_is_waited_for():
    assert states(World(None, "All brokers are down", "All brokers are down", None, None)) == ["starting", "running", "waiting", "running"]


def test_clickhouse_that_is_away_is_waited_for():
    world = World(None, b"good", None, None)
    world.refusals = [Transient("busy")] * 3
    told = []
    world.stay = lambda: told.append(world.lane.stats.state)
    world.lane.run()
    assert told == ["waiting: busy"] * 3
    assert world.lane.stats.state == "running"


def test_a_start_that_fails_is_no_running_lane():
    def away(_store, _table):
        raise Unavailable("ClickHouse does not answer")

    world = World(None, check=away)
    world.wait = lambda _timeout: world.turns.clear()
    world.lane.run()
    assert world.lane.stats.state == "rejoining: ClickHouse does not answer"
    assert not health.well(world.lane.stats, world.now_s)


@pytest.mark.parametrize(("state", "left_s", "ok"), [
    ("running", -1e9, True), ("starting", -float("inf"), False), ("stopped: x", 999.0, False), ("failing: x", 999.0, False),
    ("waiting: x", 999.0, True), ("waiting: x", 1000.0 - health.UNWELL_S - 1, False), ("rejoining: x", 999.0, True), ("rejoining: x", 900.0, False),
])
def test_health_is_whether_records_land(state, left_s, ok):
    assert health.well(Stats(state=state, left_running_s=left_s), 1000.0) is ok


def test_time_away_counts_from_when_it_last_ran_through_all_states_after():
    stats = Stats()
    for at, state in enumerate(["running", "waiting: a", "rejoining: b", "waiting: c"]):
        stats.become(state, 100.0 * at)
    assert stats.left_running_s == 100.0


def thread(state, turned_s=1000.0, alive=True):
    return SimpleNamespace(stats=Stats(state=state, left_running_s=999.0), turned_s=turned_s, is_alive=lambda: alive, document=lambda: {"table": "landing.x", "state": state})


def test_one_lane_that_stopped_is_no_reason_to_restart_the_others():
    lanes = [thread("running"), thread("stopped: gone")]
    assert health.answer(lanes, "/live", 1000.0) == (200, {"live": True})
    status, told = health.answer(lanes, "/health", 1000.0)
    assert (status, told["ok"], [lane["state"] for lane in told["lanes"]], told["trouble"]) == (503, False, ["running", "stopped: gone"], ["landing.x stopped: gone"])
    assert health.answer(lanes[:1], "/health", 1000.0)[0] == 200
    assert health.answer(lanes, "/", 1000.0)[0] == 404


@pytest.mark.parametrize("broken", [thread("running", alive=False), thread("running", turned_s=1000.0 - health.LIVE_S - 1)])
def test_a_lane_whose_thread_died_or_hangs_is_one(broken):
    assert health.answer([thread("running"), broken], "/live", 1000.0) == (503, {"live": False})


def test_the_supervisor_asks_whether_the_process_is_live(tmp_path):
    specs = services.build(StackSettings(tmp_path, tmp_path, DEFAULT_PORT_BASE, Endpoints.local(), frozenset(), tmp_path))
    assert next(s.probe for s in specs if s.name == "ingest") == f"{Endpoints.local().ingest_url}/live"


def test_the_answers_are_served():
    server = health.serve([thread("stopped: gone")], "http://127.0.0.1:0", clock=lambda: 1000.0)
    url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        with urllib.request.urlopen(f"{url}/live?x=1") as live:
            assert json.load(live) == {"live": True}
        with pytest.raises(urllib.error.HTTPError, match="503"):
            urllib.request.urlopen(f"{url}/health")
        assert probe.health(f"{url}/health").trouble == ("landing.x stopped: gone",)
        assert probe.health(f"{url}/nowhere").trouble == probe.health("http://127.0.0.1:1/health").trouble == ()
    finally:
        server.shutdown()
        server.server_close()

"""The way back, step by step, with a slot, a register and comparisons in memory: one that is killed anywhere is followed by another that ends it, and nothing is proven by a snapshot alone."""
import json
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest

from weir.capture import recover
from weir.capture.recover import Plan, Table, WayBackRun, refused, waits
from weir.connect.slot import Loss, Stream
from weir.contracts import wayback
from weir.contracts.captured import Captured, State
from weir.contracts.endpoints import Endpoints
from weir.contracts.history import Cut
from weir.contracts.schema import SourceColumn
from weir.contracts.wayback import GAP, WayBack
from weir.errors import Terminal, Undecided
from weir.reconcile.outcome import Answer, Outcome

WELL = Stream("RUNNING", "RUNNING", "", committed_lsn=500, wal_status="reserved", slot_lsn=480, reader=7, now_lsn=600)
LOST = replace(WELL, task="FAILED", trace=f"is {GAP}", wal_status="", slot_lsn=None, reader=None)
COLUMNS = (SourceColumn("id", "bigint", nullable=False, position=1),)


def entry(name, **more):
    return Captured(name, f"public.{name}", State.CAPTURING, COLUMNS, frozenset({"id"}), owned=True, generation=1, **more)


class Killed(BaseException):
    """The process is no more."""


@dataclass
class World:
    """A stream that `let_go` and `resume` cure; `dies`: the step before which the process is killed."""

    stream: Stream = LOST
    did: list = field(default_factory=list)
    dies: str = ""
    entries: dict = field(default_factory=lambda: {"orders": entry("orders"), "users": entry("users")})
    answers: dict = field(default_factory=dict)

    def step(self, name):
        if name == self.dies:
            raise Killed
        self.did.append(name)

    def look(self):
        return self.stream

    def let_go(self):
        self.step("let go")
        self.stream = replace(self.stream, state="STOPPED", task="NONE", trace="", committed_lsn=None)

    def resume(self):
        self.step("resume")
        if self.stream.state == "STOPPED":
            self.stream = replace(WELL, now_lsn=700)

    def run(self, tables, *, repair):
        assert repair
        name = tables[0].name
        self.step(f"compare {name}")
        told = self.answers.get(name, [])
        return [told.pop(0) if told else Outcome("table", name, Answer.YES, rows_checked=3)]


@pytest.fixture
def world(monkeypatch, tmp_path):
    made = World()
    source = SimpleNamespace(about=lambda _: 3, wait_published=lambda _lsn, _deadline: made.step("published"))
    register = SimpleNamespace(tables=lambda: made.entries, write=lambda e: made.entries.__setitem__(e.name, e))

    @contextmanager
    def opened(_endpoints):
        yield SimpleNamespace(register=register, source=source)

    @contextmanager
    def turn(_home):
        yield

    monkeypatch.setattr(recover, "Slot", lambda _: made)
    monkeypatch.setattr(recover, "Reconciler", lambda _e, _rebuild: made)
    monkeypatch.setattr(recover, "Progress", lambda _: SimpleNamespace(ends=lambda _t: {0: 1}, close=lambda: None))
    monkeypatch.setattr(recover, "turn", turn)
    monkeypatch.setattr(recover.operate, "opened", opened)
    monkeypatch.setattr(recover.operate, "resynced", lambda _e, _h, name, _r: made.step(f"resync {name}"))
    monkeypatch.setattr(recover.bulk, "landed", lambda topic, _: made.step(f"landed {topic}") or True)
    made.home = tmp_path
    made.go = WayBackRun(Endpoints.local(), tmp_path, rebuild=print, report=lambda _: None, sleep=lambda _: None)
    return made


ALL = ["let go", "resume", "published", "landed shop.public.orders", "landed shop.public.users", "compare orders", "compare users"]


def test_it_lets_go_reads_anew_and_compares_every_table_and_then_there_is_no_mark(world):
    assert [o.name for o in world.go.run()] == ["orders", "users"]
    assert world.did == ALL
    assert recover.read_mark(world.home) is None
    with pytest.raises(Terminal, match="nothing to bring back"):
        world.go.run()


@pytest.mark.parametrize("dies", ALL)
def test_one_that_is_killed_is_followed_by_another_that_ends_it_and_begins_nothing_anew_that_is_done(world, dies):
    world.dies = dies
    with pytest.raises(Killed):
        world.go.run()
    mark = recover.read_mark(world.home)
    assert (mark.why, mark.since_lsn) == (str(Loss.GONE), 500)
    world.dies, world.did = "", []
    world.go.run()
    assert recover.read_mark(world.home) is None
    rest = ALL[ALL.index(dies):]
    assert world.did[-1] == ALL[-1]
    assert ("let go" in world.did) == (dies == "let go"), "a snapshot that is under way is not begun again"
    assert [s for s in world.did if s.startswith("compare")] == [s for s in rest if s.startswith("compare")]


def test_a_slot_that_is_lost_again_on_the_way_is_let_go_again(world):
    world.dies = "published"
    with pytest.raises(Killed):
        world.go.run()
    world.dies, world.did, world.stream = "", [], replace(WELL, wal_status="lost", reader=None)
    world.go.run()
    assert world.did == ALL
    assert recover.read_mark(world.home) is None


def test_too_many_keys_for_repairs_are_a_resync_and_what_cannot_be_proven_leaves_the_mark(world):
    many = Outcome("table", "orders", Answer.NO, "more buckets differ", extra=5000, repairable=False)
    world.answers["orders"] = [many]
    world.go.run()
    assert world.did[-4:] == ["compare orders", "resync orders", "compare orders", "compare users"]
    world.stream, world.answers["orders"] = LOST, [many] * 9
    with pytest.raises(Undecided, match="orders is not proven"):
        world.go.run()
    assert world.did.count("resync orders") == 2, "one a run"
    assert recover.read_mark(world.home).tables == ("orders", "users")


def test_a_history_gets_another_snapshot_though_its_rows_are_the_sources(world):
    world.entries["orders"] = entry("orders", history=True, cut=Cut(1, "1:1:", ()))
    assert "lost to it" in "\n".join(recover.look(world.go.endpoints, world.home).lines())
    world.go.run()
    assert world.did[-3:] == ["resync orders", "compare orders", "compare users"]


def test_a_paused_table_is_not_proven_and_flows_again_by_a_resync_only(world):
    world.entries["orders"] = entry("orders").to(State.PAUSED, why="a test", by="operator")
    assert [o.name for o in world.go.run()] == ["users"]
    assert (world.entries["orders"].by, "lost with the slot" in world.entries["orders"].why) == ("loss", True)
    assert "./weir table resync orders" in waits(world.entries["orders"])
    assert "a copy" in waits(entry("orders").to(State.RESYNCING))


@pytest.mark.parametrize(("stream", "says"), [
    (WELL, "holds all that is owed, Debezium has committed up to 0/1F4"), (replace(WELL, task="FAILED", trace="heap is full"), "for another reason: heap is full"),
    (replace(WELL, state="STOPPED", task="NONE", reader=None), "the connector is STOPPED"), (replace(LOST, state="UNREGISTERED", committed_lsn=None, trace=""), "not registered"),
])
def test_it_is_refused_in_a_sentence_while_nothing_is_lost(stream, says):
    with pytest.raises(Terminal) as told:
        refused(stream, None)
    assert says in str(told.value)
    assert refused(stream, WayBack("", 1, 2, 3)) is None, "the rest of an earlier one is done whatever the stream is"


def test_the_plan_says_what_is_wrong_what_range_is_lost_and_what_is_done_to_each_table(world):
    made = recover.look(world.go.endpoints, world.home)
    assert made == Plan("there is none", "0/1F4", "0/258", drops_slot=False, reads=True, tables=(Table("orders", "public.orders", 3), Table("users", "public.users", 3)))
    text = "\n".join(made.lines())
    assert "changed between 0/1F4 and 0/258" in text
    assert "orders (public.orders, about 3 rows): read anew" in text
    assert json.loads(json.dumps(made.document()))["loss"] == "there is none"
    wayback.path(world.home).parent.mkdir(exist_ok=True)
    wayback.path(world.home).write_text(wayback.document(WayBack("x", 1, 2, 3, reading=True, tables=("users",))))
    world.stream = WELL
    made = recover.look(world.go.endpoints, world.home)
    assert (made.loss, made.reads, [t.name for t in made.tables]) == ("", False, ["users"])

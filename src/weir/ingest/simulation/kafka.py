"""A broker with one topic and one group, eager rebalances, and members that lose, repeat and delay.

Keep, as Kafka does: a commit is judged by member and generation, not by who owns the partition; the old generation holds until every member has
joined again or its time is over; a silent member is put out after the session timeout; a request that arrives late is judged when it arrives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from weir.errors import ContractViolation, Fenced, Unavailable
from weir.ingest.intent import Range
from weir.ingest.lane import Entry, Partition
from weir.ingest.record import Record
from weir.ingest.simulation.world import Killed, Process, World

SESSION_S: Final = 10.0
REBALANCE_S: Final = 30.0  # the real max.poll.interval.ms is ten times that; both are longer than any insert is tried
IDLE_S: Final = 2.0
REPLY_S: Final = (0.001, 0.2)


@dataclass
class Group:
    """The coordinator's side of one consumer group."""

    world: World
    partitions: Sequence[Partition]
    generation: int = 0
    offsets: dict[Partition, Entry] = field(default_factory=dict)
    members: dict[int, Process] = field(default_factory=dict)
    assignment: dict[int, list[Partition]] = field(default_factory=dict)
    joined: set[int] = field(default_factory=set)
    preparing: bool = False
    _ids: int = 0
    _round: int = 0

    def enter(self, process: Process) -> int:
        """Add a member; everybody has to join again."""
        self._ids += 1
        self.members[self._ids] = process
        self._prepare()
        self.joined.add(self._ids)
        self._complete_if_all()
        return self._ids

    def leave(self, member: int) -> None:
        """Take a member out, when it is one."""
        if self.members.pop(member, None) is not None:
            self.joined.discard(member)
            self._prepare()
            self._complete_if_all()

    def rejoin(self, member: int) -> None:
        """Note that a member has given its partitions back."""
        self.joined.add(member)
        self._complete_if_all()

    def _prepare(self) -> None:
        if not self.preparing:
            self.preparing, self.joined, self._round = True, set(), self._round + 1
            number = self._round
            self.world.later(REBALANCE_S, lambda: self._time_over(number))

    def _time_over(self, number: int) -> None:
        if self.preparing and self._round == number:
            self.members = {m: p for m, p in self.members.items() if m in self.joined}
            self._complete_if_all()

    def _complete_if_all(self) -> None:
        if not self.preparing or not self.joined >= set(self.members):
            return
        self.preparing, self.generation = False, self.generation + 1
        ids = sorted(self.members)
        self.assignment = {m: list(self.partitions[i :: len(ids)]) for i, m in enumerate(ids)}

    def expire(self) -> None:
        """Put out the members whose process has been silent for longer than the session."""
        for member, process in list(self.members.items()):
            if process.silent_since_s is not None and self.world.now_s - process.silent_since_s > SESSION_S:
                self.world.passed["session over"] += 1
                self.leave(member)

    def commit(self, member: int, generation: int, entries: Mapping[Partition, Entry]) -> bool:
        """Store offsets when the generation holds; return whether it did."""
        self.expire()
        if member not in self.members or generation != self.generation:
            self.world.passed["commit refused"] += 1
            return False
        self.offsets.update(entries)
        return True


@dataclass
class Broker:
    """Topics and the group. `stored` is the producer's journal too: nothing is ever taken out."""

    world: World
    stored: dict[Partition, list[Record]]
    group: Group


class Member:
    """What the worker sees as `KafkaLog`: same names, same errors, same place of the callbacks."""

    trouble = ""

    def __init__(self, broker: Broker, process: Process, *, ignores_refusals: bool = False, rewrites: Callable[[Mapping[Partition, Entry]], dict[Partition, Entry]] = dict) -> None:
        self._broker, self._group, self._process, self._world = broker, broker.group, process, broker.world
        self._ignores_refusals, self._rewrites = ignores_refusals, rewrites
        self._id, self._generation = 0, -1
        self._next: dict[Partition, int] = {}
        self._held: set[Partition] = set()
        self._on_assign: Callable[[Iterable[Partition]], dict[Partition, int]] = lambda _p: {}
        self._on_revoke: Callable[[], None] = lambda: None

    def join(self, on_assign: Callable[[Iterable[Partition]], dict[Partition, int]], on_revoke: Callable[[], None]) -> None:
        """Enter the group."""
        self._on_assign, self._on_revoke = on_assign, on_revoke
        self._process.step("join")
        self._id = self._group.enter(self._process)

    def _serve(self) -> None:
        """Give back and take over partitions, as a poll does."""
        group = self._group
        group.expire()
        if self._id not in group.members:
            raise Fenced("the group gave this worker's partitions away")
        if group.preparing and self._id not in group.joined:
            if self._next:
                self._next = {}
                self._on_revoke()
            if self._id not in group.members:
                raise Fenced("the group gave this worker's partitions away")
            group.rejoin(self._id)
        if not group.preparing and self._generation != group.generation:
            if self._next:  # the round ended without it: its partitions may be others' already
                raise Fenced("the group gave this worker's partitions away")
            self._generation = group.generation
            self._next, self._held = dict.fromkeys(group.assignment[self._id], 0), set()
            start = self._on_assign(list(self._next))
            self._next = {p: start[p] for p in self._next}

    def fetch(self, limit: int, timeout_s: float) -> list[Record]:
        """Return some of what is there; callbacks run in it."""
        del timeout_s
        self._process.step("fetch")
        self._serve()
        self._process.sleep(self._world.rng.uniform(*REPLY_S))
        records: list[Record] = []
        for partition in self._next.keys() - self._held if self._held else self._next:
            log, start = self._broker.stored[partition], self._next[partition]
            ready = [r for r in log if r.offset >= start][: min(self._world.rng.randint(0, 4), limit - len(records))]
            if ready:
                records += ready
                self._next[partition] = ready[-1].offset + 1
        if not records:
            self._process.sleep(IDLE_S)
        return records

    def hold(self, partition: Partition) -> None:
        """Fetch nothing more of a partition."""
        self._held.add(partition)

    def release(self, partition: Partition, offset: int) -> None:
        """Fetch it again from `offset` on."""
        self._held.discard(partition)
        self._next[partition] = offset

    def stay(self) -> None:
        """Poll without reading."""
        self._process.step("stay")
        self._serve()

    def commit(self, entries: Mapping[Partition, Entry]) -> None:
        """Commit; the answer may be lost, the request too, or it may come when nobody waits for it any more."""
        self._process.step("commit")
        member, generation, world = self._id, self._generation, self._world
        sent = self._rewrites(entries)
        fault = world.draw("commit answer", ("lost", "unanswered", "late"))
        if fault == "late":
            world.later(world.rng.uniform(1, 60), lambda: (self._group.commit(member, generation, sent), None)[1])
        kept = fault not in {"lost", "late"} and self._group.commit(member, generation, sent)
        self._process.step("committed")
        self._process.sleep(world.rng.uniform(*REPLY_S))
        if (fault or not kept) and not self._ignores_refusals:
            raise Fenced("the group refused the commit, or its answer did not come")

    def committed(self, partitions: Iterable[Partition]) -> dict[Partition, Entry]:
        """Return what stands committed."""
        self._process.step("offsets")
        self._process.sleep(self._world.rng.uniform(*REPLY_S))
        if self._world.draw("offsets answer", ("lost",)):
            raise Fenced("the group's offsets could not be read")
        return {p: self._group.offsets.get(p, (0, "")) for p in partitions}

    def bounds(self, partitions: Iterable[Partition]) -> dict[Partition, tuple[int, int]]:
        """Return the ends of partitions: all records are kept."""
        return {p: (0, max((x.offset for x in self._broker.stored[p]), default=-1) + 1) for p in partitions}

    def read(self, ranges: Sequence[Range]) -> list[Record]:
        """Read exactly these ranges, in any order of partitions."""
        self._process.step("read")
        self._process.sleep(self._world.rng.uniform(*REPLY_S))
        if self._world.draw("read answer", ("lost",)):
            raise Unavailable("records of an open batch could not be read again")
        found: list[Record] = []
        for r in self._world.rng.sample(list(ranges), len(ranges)):
            part = [x for x in self._broker.stored[r.topic, r.partition] if r.first <= x.offset <= r.last]
            if len(part) < r.count:
                raise ContractViolation("the records of an open batch are no longer in Kafka")
            found += part
        return found

    def close(self) -> None:
        """Give back and leave, as a consumer's close does; a callback's failure is nobody's any more."""
        if self._process.dead:
            raise Killed
        try:
            if self._next and self._id in self._group.members:
                self._next = {}
                self._on_revoke()
        except Exception:  # noqa: BLE001 - as in KafkaLog, whose callbacks keep it
            self._world.passed["revoke failed in close"] += 1
        self._group.leave(self._id)

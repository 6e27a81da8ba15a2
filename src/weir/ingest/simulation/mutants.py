"""The protocol with one rule taken away, each of which some seed has to catch: a simulation that lets one live proves nothing.

In: a mutant's name. Out: the seed that caught it. Keep: the right code is patched, not copied, and put back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from weir.errors import Fenced, Transient
from weir.ingest import intent as intents
from weir.ingest import lane as lanes
from weir.ingest.intent import Intent
from weir.ingest.lane import Entry, Lane, Partition
from weir.ingest.simulation.run import RIGHT, Outcome, Wrong, simulate


@dataclass(frozen=True, slots=True)
class Mutant:
    """One rule, and what is done instead: by the world (`wrong`), or in the worker's code (`patches`: owner, name, value)."""

    rule: str
    wrong: Wrong = RIGHT
    patches: tuple[tuple[Any, str, Any], ...] = field(default=())


def _no_intent(entries: Mapping[Partition, Entry]) -> dict[Partition, Entry]:
    return {p: (offset, "") for p, (offset, _) in entries.items()}


def _end_before_insert(entries: Mapping[Partition, Entry]) -> dict[Partition, Entry]:
    found = {}
    for (topic, partition), (offset, text) in entries.items():
        intent = intents.decode(text)
        ends = {(r.topic, r.partition): r.last + 1 for r in intent.ranges} if intent else {}
        found[topic, partition] = (ends.get((topic, partition), offset), "")
    return found


def _intent_of_one_partition(entries: Mapping[Partition, Entry]) -> dict[Partition, Entry]:
    first = min(entries)
    return {p: (offset, text if p == first else "") for p, (offset, text) in entries.items()}


_payload_of = intents.of


def _of_content(records: Any) -> Intent:
    digest = hashlib.blake2b(b"|".join(r.value or b"" for r in records), digest_size=16)
    return Intent(_payload_of(records).ranges, digest.hexdigest())


def _token_of_content(self: Intent) -> str:
    return self.payload


_insert = Lane._insert  # noqa: SLF001 - a mutant is made of the real code
_process = Lane._process  # noqa: SLF001 - as above
_replay = Lane._replay  # noqa: SLF001 - as above


def _insert_once(self: Lane, intent: Intent, table: object, why: str) -> None:
    right = self.sink

    class Swallowing:
        def insert(self, *arguments: Any) -> None:
            try:
                right.insert(*arguments)
            except Transient:
                return

    self.sink = Swallowing()  # type: ignore[assignment]  # (dyn) a mutant
    try:
        _insert(self, intent, table, why)
    finally:
        self.sink = right


def _forget_all_but_the_buffer(self: Lane) -> None:
    self._position, self._applied = {}, None


def _replay_and_stay(self: Lane, intent: Intent, mine: Any) -> None:
    before = dict(self._position)
    _replay(self, intent, mine)
    self._position.update(before)
    self.log.commit({p: (before[p], "") for p in mine})


def _process_and_remember(self: Lane) -> None:
    before = self._applied
    try:
        _process(self)
    except Fenced:
        self._applied = before
        raise


class _SameEpoch:
    """An epoch that never moves: a rebalance between two tries goes unseen."""

    def __get__(self, *_: object) -> int:
        return 0

    def __set__(self, *_: object) -> None:
        return


MUTANTS: Final[dict[str, Mutant]] = {
    "insert_not_deduplicated": Mutant("each table has a deduplication window", Wrong(engine={"window": 0, "view_window": 0})),
    "window_too_small": Mutant("the window is longer than the longest outage", Wrong(engine={"window": 1, "view_window": 1})),
    "view_without_window": Mutant("each view's target has a window of its own", Wrong(engine={"view_window": 0})),
    "acknowledged_first": Mutant("inserts are synchronous", Wrong(engine={"acknowledges_first": True})),
    "token_of_attempt": Mutant("a repeat has the token of the first try", Wrong(token_of=lambda _token, query_id: query_id)),
    "token_of_content": Mutant("the token is of offsets, not only of content", patches=((lanes, "of", _of_content), (Intent, "token", property(_token_of_content)))),
    "fence_ignored": Mutant("a refused or unanswered commit ends the membership", Wrong(ignores_refusals=True)),
    "intent_not_written": Mutant("the intent is committed before the insert", Wrong(rewrites=_no_intent)),
    "intent_on_one_partition": Mutant("the intent stands on every partition of the batch", Wrong(rewrites=_intent_of_one_partition)),
    "committed_before_inserted": Mutant("the end is committed after the insert", Wrong(rewrites=_end_before_insert)),
    "intent_not_read": Mutant("an open intent is replayed on assignment", patches=((lanes, "decode", lambda _text: None),)),
    "replay_without_advance": Mutant("after a replay reading goes on behind it", patches=((Lane, "_replay", _replay_and_stay),)),
    "acknowledged_on_exception": Mutant("an exception is never an acknowledgement", patches=((Lane, "_insert", _insert_once),)),
    "buffer_kept": Mutant("what was only read is dropped with the partitions", patches=((Lane, "_forget", _forget_all_but_the_buffer),)),
    "commits_again": Mutant("after a commit without an answer nothing more is committed", patches=((Lane, "_process", _process_and_remember),)),
    "rebalance_unseen": Mutant("a batch does not outlive a rebalance", patches=((Lane, "_epoch", _SameEpoch()),)),
}


@contextmanager
def applied(mutant: Mutant) -> Iterator[None]:
    """Patch the worker's code while it lasts."""
    with ExitStack() as back:
        for owner, name, value in mutant.patches:
            had = name in vars(owner)
            before = vars(owner).get(name)
            setattr(owner, name, value)
            if had:
                back.callback(setattr, owner, name, before)
            else:
                back.callback(delattr, owner, name)
        yield


def caught(name: str, seeds: range, told: Callable[[int], None] = lambda _seed: None) -> Outcome | None:
    """Return the first seed's outcome that catches the mutant, or None: it lived."""
    mutant = MUTANTS[name]
    with applied(mutant):
        for seed in seeds:
            told(seed)
            outcome = simulate(seed, mutant.wrong)
            if outcome.faults:
                return outcome
    return None

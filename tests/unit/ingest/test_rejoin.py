"""After a restore the group's commits and the tables are of different times: what they do not hold is read, what they hold is not."""
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.contracts import names
from weir.errors import ContractViolation
from weir.ingest.intent import Intent, Range
from weir.ingest.rejoin import Rejoin, Standing, settle

P, Q = ("t", 0), ("t", 1)
BOTH = Intent((Range("t", 0, 5, 7, 3), Range("t", 1, 5, 7, 3)), "h")


def standing(offset, through, metadata="", low=0, high=100):
    return Standing(offset, metadata, low, high, through)


@pytest.mark.parametrize(
    ("offset", "through", "low", "expected"),
    [
        (10, 10, 0, 10),  # as one
        (10, 4, 0, 4),  # the tables are of earlier
        (10, None, 0, 0),  # they are empty
        (4, 10, 0, 10),  # the group was set back, or Kafka was
        (0, None, 0, 0),  # nothing was ever read
        (7, None, 7, 7),  # nothing of it, and Kafka keeps no more: it was told to begin there
        (7, 3, 7, 7),  # likewise, by an operator who accepts the loss
        (10, 8, 5, 8),
    ],
)
def test_reading_goes_on_where_the_tables_end(offset, through, low, expected):
    assert settle([P], {P: standing(offset, through, low=low)}) == {P: (expected, "")}


@pytest.mark.parametrize(("offset", "through", "named"), [(10, 3, "offsets 3 to 4"), (10, None, "offsets 0 to 4")])
def test_records_that_neither_has_are_a_refusal_that_names_them(offset, through, named):
    with pytest.raises(ContractViolation, match=f"t/0, {named}, are neither in the restored tables nor in Kafka"):
        settle([P], {P: standing(offset, through, low=5)})


def test_a_topic_that_ends_before_the_tables_is_another_one():
    with pytest.raises(ContractViolation, match=r"hold t/0 through offset 9, and it ends before 7: the topic was made anew"):
        settle([P], {P: standing(0, 10, high=7)})


def test_an_open_batch_is_replayed_when_the_tables_reach_up_to_it_or_have_it():
    text = BOTH.encode()
    for through in (5, 8):
        sides = {P: standing(5, through, text), Q: standing(5, through, text)}
        assert settle([P, Q], sides) == {P: (5, text), Q: (5, text)}


def test_an_open_batch_is_dropped_for_all_of_its_partitions_when_one_is_read_again_from_before_it():
    text = BOTH.encode()
    sides = {P: standing(5, 2, text), Q: standing(5, 5, text)}
    assert settle([P], sides) | settle([Q], sides) == {P: (2, ""), Q: (5, "")}


def test_a_worker_that_comes_second_drops_the_batch_that_the_first_has_dropped():
    assert settle([Q], {P: standing(2, 2), Q: standing(5, 5, BOTH.encode())}) == {Q: (5, "")}


def test_a_batch_that_is_in_the_tables_is_not_read_again_by_a_partition_that_is_further():
    text = BOTH.encode()
    sides = {P: standing(5, 8, text), Q: standing(5, 12, text)}
    assert settle([P, Q], sides) == {P: (5, text), Q: (12, "")}


PARTITIONS = [("t", n) for n in range(3)]


def _history(rng, length):
    """Return batches over three partitions, one after the other; a gap before some is a transaction's marker."""
    at, batches = dict.fromkeys(PARTITIONS, 0), []
    for number in range(length):
        ranges = []
        for p in rng.sample(PARTITIONS, rng.randint(1, 3)):
            first, size = at[p] + rng.choice((0, 0, 1)), rng.randint(1, 4)
            ranges.append(Range(*p, first, first + size - 1, size))
            at[p] = first + size
        batches.append(Intent(tuple(sorted(ranges)), str(number)))
    return batches, at


def _commits(batches, declared):
    found = dict.fromkeys(PARTITIONS, (0, ""))
    for batch in batches[:-1] if declared else batches:
        found |= {(r.topic, r.partition): (r.last + 1, "") for r in batch.ranges}
    if declared:
        found |= {(r.topic, r.partition): (found[r.topic, r.partition][0], batches[-1].encode()) for r in batches[-1].ranges}
    return found


def _places(batch):
    return [(r.topic, r.partition, offset) for r in batch.ranges for offset in range(r.first, r.last + 1)]


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 25), st.integers(0, 25), st.booleans(), st.booleans())
def test_any_history_restored_to_any_batch_holds_every_record_once(seed, restored, more, declared, alone):
    """A lane's life as a list of batches, the last perhaps only declared; the tables go back to the first `restored`; one worker settles, or three do in turn."""
    rng = random.Random(seed)  # noqa: S311 - a model's dice
    batches, at = _history(rng, restored + more)
    held = batches[:restored]
    settled = _commits(batches, declared and bool(batches))
    through = {(r.topic, r.partition): r.last + 1 for batch in held for r in batch.ranges}
    order = rng.sample(PARTITIONS, 3)
    for share in [order] if alone else [[p] for p in order]:
        settled |= settle(share, {p: Standing(*settled[p], 0, at[p], through.get(p)) for p in PARTITIONS})

    replayed = any(text for _, text in settled.values())
    landed = [*held, *(batches[-1:] if replayed and batches[-1] not in held else [])]  # else its token is known
    counts = Counter(place for batch in landed for place in _places(batch))
    ends = {(r.topic, r.partition): r.last + 1 for r in batches[-1].ranges} if replayed else {}
    for p, (offset, text) in settled.items():
        counts.update((*p, left) for left in range(ends[p] if text else offset, at[p]))
    assert {counts[place] for batch in batches for place in _places(batch)} <= {1}


class Kafka:
    def __init__(self, commits):
        self.commits, self.made = commits, []

    def committed(self, partitions):
        return {p: self.commits[p] for p in partitions}

    def bounds(self, partitions):
        return dict.fromkeys(partitions, (0, 100))

    def commit(self, entries):
        self.made.append(dict(entries))


class Tables:
    def __init__(self, marks, through=""):
        self.marks, self.through, self.said = marks, through, []

    def execute(self, sql, **_):
        self.said.append(sql)
        return "" if sql.startswith("INSERT") else self.marks if "argMaxIf" in sql else self.through


def test_without_a_mark_one_question_is_asked_and_nothing_changes():
    kafka, tables = Kafka({}), Tables("")
    assert Rejoin(names.LANDING_EVENTS, kafka, tables)({P: (10, "")}) == {P: (10, "")}
    assert (kafka.made, len(tables.said)) == ([], 1)


def test_a_partition_is_compared_once_a_mark_and_the_others_are_left_alone():
    kafka, tables = Kafka({}), Tables("m\t0\t\t0\nm\t1\tt\t1\n", "t\t0\t4\n")
    assert Rejoin(names.LANDING_EVENTS, kafka, tables)({P: (10, ""), Q: (9, "")}) == {P: (4, ""), Q: (9, "")}
    assert kafka.made == [{P: (4, "")}]
    assert "SELECT 'm', now64(6, 'UTC'), 'rejoined', 'landing.user_events', 't', 0, 10, 4" in tables.said[-1]
    assert "'t', 1," not in tables.said[-1]


def test_the_other_partitions_of_an_open_batch_are_looked_at_whoever_owns_them():
    text = BOTH.encode()
    kafka, tables = Kafka({P: (5, text)}), Tables("m\t0\t\t0\n", "t\t0\t2\nt\t1\t5\n")
    assert Rejoin(names.LANDING_EVENTS, kafka, tables)({Q: (5, text)}) == {Q: (5, "")}
    assert kafka.made == [{Q: (5, "")}]
